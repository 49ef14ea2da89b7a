"""Errors as responses: one JSON shape for everybody, and a file that says it for DuckDB."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.responses import Response

from webfoot.errors import Error, ServerBusy
from webfoot.unreadable import unreadable_parquet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http import HTTPStatus

PROBLEM_TYPE = "application/problem+json"


def problem_response(error: Error, *, debug: bool) -> Response:
    """The error with its true status, as problem details (RFC 9457)."""
    problem = error.problem()
    if debug and error.traceback:
        problem["traceback"] = error.traceback
    body = json.dumps(problem, ensure_ascii=False, default=str).encode()
    return Response(body, error.status, _headers(error), PROBLEM_TYPE)


def http_problem_response(status: HTTPStatus, headers: Mapping[str, str] | None) -> Response:
    """What the framework refuses by itself, such as an unknown path, in the same shape."""
    problem = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "code": status.phrase.lower().replace(" ", "-"),
        "detail": f"{status.description or status.phrase}; GET / shows what there is",
    }
    return Response(json.dumps(problem).encode(), status, headers, PROBLEM_TYPE)


def duckdb_response(error: Error, base_url: str) -> Response:
    """The error as a Parquet file that DuckDB cannot read, named by the error's message.

    The status is 200, which DuckDB must see to read on; `X-Webfoot-Status` has the true one.
    """
    message = f"{error.udf}: {error.detail}" if error.udf else error.detail
    if error.run:
        message += f"\n  run {error.run}, details: {base_url}/runs/{error.run}"
    return Response(unreadable_parquet(message), 200, _headers(error), "application/vnd.apache.parquet")


def _headers(error: Error) -> Mapping[str, str]:
    headers = {
        "cache-control": "no-store",
        "x-webfoot-status": str(error.status),
        "x-webfoot-code": error.code,
    }
    if error.run:
        headers["x-webfoot-run"] = error.run
    if isinstance(error, ServerBusy):
        headers["retry-after"] = str(error.retry_after_s)
    return headers
