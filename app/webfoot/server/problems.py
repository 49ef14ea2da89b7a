"""Errors as replies: one JSON shape for everybody, and a file that says it for DuckDB."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.errors import Error, ServerBusy
from webfoot.unreadable import unreadable_parquet

if TYPE_CHECKING:
    from http import HTTPStatus

PROBLEM_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Reply:
    """A whole response: status, headers in lower case, body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def problem_reply(error: Error, *, debug: bool) -> Reply:
    """The error with its true status, as problem details (RFC 9457)."""
    problem = error.problem()
    if debug and error.traceback:
        problem["traceback"] = error.traceback
    body = json.dumps(problem, ensure_ascii=False, default=str).encode(errors="replace")
    return Reply(error.status, _headers(error, PROBLEM_TYPE, body), body)


def http_problem(status: HTTPStatus) -> dict[str, object]:
    """What the framework refuses by itself, such as an unknown path, in the same shape."""
    return {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "code": status.phrase.lower().replace(" ", "-"),
        "detail": f"{status.description or status.phrase}; GET / shows what there is",
    }


def duckdb_reply(error: Error, base_url: str) -> Reply:
    """The error as a Parquet file that DuckDB cannot read, named by the error's message.

    The status is 200, which DuckDB must see to read on; `X-Webfoot-Status` has the true one.
    """
    message = f"{error.udf}: {error.detail}" if error.udf else error.detail
    if error.run:
        message += f"\n  run {error.run}, details: {base_url}/runs/{error.run}"
    body = unreadable_parquet(message)
    return Reply(200, _headers(error, "application/vnd.apache.parquet", body), body)


def _headers(error: Error, media_type: str, body: bytes) -> list[tuple[bytes, bytes]]:
    headers = {
        "content-type": media_type,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "X-Webfoot-Run, X-Webfoot-Status, X-Webfoot-Code",
        "x-content-type-options": "nosniff",
        "x-webfoot-status": str(error.status),
        "x-webfoot-code": error.code,
    }
    if error.run:
        headers["x-webfoot-run"] = error.run
    if isinstance(error, ServerBusy):
        headers["retry-after"] = str(error.retry_after_s)
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
