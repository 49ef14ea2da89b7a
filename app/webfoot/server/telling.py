"""Errors in the form in which whoever asks will see them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from webfoot.server.address import base_url_of
from webfoot.server.problems import (
    catalog_reply,
    duckdb_reply,
    http_reply,
    lazy_reply,
    page_reply,
    problem_reply,
    retry_after_of,
    sheet_reply,
)
from webfoot.server.requests import (
    path_of,
    read_headers,
    table_methods,
    wants_inline_errors,
    wants_mark,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

    from webfoot.errors import Error
    from webfoot.server.problems import Reply
    from webfoot.server.requests import Request
    from webfoot.settings import Settings

# DuckDB tries these again by itself, which is what should happen; but none waits longer than this.
_PASSING = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_PATIENCE_S = 10
# Who attaches a file with DuckDB before 1.4 says only by which library.
_DUCKDBS = ("duckdb/", "cpp-httplib/")


def is_duckdb(headers: Mapping[str, str]) -> bool:
    """Whether a DuckDB asks."""
    return headers.get("user-agent", "").startswith(_DUCKDBS)


def tell_reader(error: Error, request: Request, settings: Settings) -> Reply:
    """The error to whoever asks for a result.

    To a HEAD of DuckDB, only that there is none: of any other it makes "HTTP 0", after four more
    requests. GET tells it what is wrong.
    """
    lazy = error.status != HTTPStatus.NOT_FOUND and is_duckdb(request.headers)
    if request.method == "HEAD" and lazy:
        return lazy_reply(request.extension)
    if wants_inline_errors(request):
        return sheet_reply(error, request.base_url, mark=wants_mark(request))
    is_read = request.method == "GET" and request.extension == "parquet"
    if is_read and _is_told_in_file(error, request.headers, settings):
        return duckdb_reply(error, request.base_url)
    problem = problem_reply(error, debug=settings.debug)
    shown = request.extension == "html" and "text/html" in request.headers.get("accept", "")
    return page_reply(problem, request.base_url) if shown else problem


async def tell_visitor(error: Error, scope: Scope, settings: Settings) -> Reply:
    """The error to whoever asks for anything else; see `tell_reader`."""
    headers, extension = read_headers(scope), path_of(scope).rpartition(".")[2]
    if extension in ("duckdb", "parquet") and is_duckdb(headers):
        if scope["method"] == "HEAD":
            return lazy_reply(extension)
        if extension == "parquet" and _is_told_in_file(error, headers, settings):
            return duckdb_reply(error, base_url_of(scope))
        if extension == "duckdb" and settings.duckdb_errors and not _passes(error):
            return await asyncio.to_thread(catalog_reply, error, base_url_of(scope))
    problem = problem_reply(error, debug=settings.debug)
    return page_reply(problem, base_url_of(scope)) if wants_page(headers) else problem


def _is_told_in_file(error: Error, headers: Mapping[str, str], settings: Settings) -> bool:
    """Whether who asks for Parquet reads an error only inside of a file."""
    return (
        settings.duckdb_errors
        and headers.get("user-agent", "").startswith("duckdb/")
        and "range" not in headers
        and not _passes(error)
    )


def _passes(error: Error) -> bool:
    return error.status in _PASSING and retry_after_of(error) <= _PATIENCE_S


def tell_nothing(scope: Scope) -> Reply:
    """That there is nothing at an address, or nothing for this method."""
    if methods := table_methods(path_of(scope)):
        reply = http_reply(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"this address takes {' and '.join(methods)}; a table in an address has a format:"
            " GET /query.json?sql=…, GET /udfs/NAME.json?parameter=…",
            [(b"allow", ", ".join(methods).encode())],
        )
    else:
        reply = http_reply(HTTPStatus.NOT_FOUND)
    return page_reply(reply, base_url_of(scope)) if wants_page(read_headers(scope)) else reply


def wants_page(headers: Mapping[str, str]) -> bool:
    """Whether a browser asks, to show the answer to somebody."""
    accept = headers.get("accept", "")
    return "text/html" in accept and not accept.startswith("application/json")


def without_body(reply: Reply) -> Reply:
    """The reply as HEAD has it."""
    return replace(reply, body=b"")
