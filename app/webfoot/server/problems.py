"""Errors as replies: one JSON shape for everybody, and a file that says it for DuckDB."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from webfoot.errors import ServerBusy, TooManyRequests
from webfoot.templating import render_page
from webfoot.unreadable import unreadable_parquet
from webfoot.views import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from webfoot.errors import Error

PROBLEM_TYPE = "application/problem+json"
EXPOSED_HEADERS = (
    *("Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Retry-After", "Server-Timing"),
    *("X-Webfoot-Run", "X-Webfoot-Executions", "X-Webfoot-Failed", "X-Webfoot-Stale"),
    *("X-Webfoot-Rows", "X-Webfoot-Bytes", "X-Webfoot-Truncated", "X-Webfoot-Warm"),
    *("X-Webfoot-Status", "X-Webfoot-Code", "X-Request-Id"),
    *("X-Webfoot-Billed-Ms", "X-Webfoot-Runs", "X-Webfoot-Memory", "X-Webfoot-Cost"),
)
Headers = list[tuple[bytes, bytes]]
# For every origin: results carry no cookies, and DuckDB-Wasm and notebooks are on other origins.
COMMON_HEADERS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode()),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
    # An address may have a share link in it.
    (b"referrer-policy", b"no-referrer"),
]
VARY_BY_ASKER = (b"vary", b"Authorization, X-Api-Key")
# Pages show other people's texts: whatever is in them, nothing of it may run.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A preview shows other people's data, likewise.
PREVIEW_POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")
# Python before 3.13 has the phrase of an older standard; a code must not depend on that.
_PHRASES = {HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "Range Not Satisfiable"}
# Basic, too: a browser then asks a person for the key, as the password.
# In a header each: Chromium looks at no more than the first of one.
_CHALLENGES = (b'Bearer realm="Webfoot"', b'Basic realm="Webfoot", charset="UTF-8"')
# What is shown of a message where there is nothing but it: a screenful, not a UDF's whole data set.
_MOST_SHOWN = 2_000


@dataclass(frozen=True)
class Reply:
    """A whole response: status, headers in lower case, body."""

    status: int
    headers: Headers
    body: bytes


def problem_reply(error: Error, *, debug: bool) -> Reply:
    """The error with its true status, as problem details (RFC 9457)."""
    problem = error.problem()
    if debug and error.traceback:
        problem["traceback"] = error.traceback
    body = json.dumps(problem, ensure_ascii=False, default=str).encode(errors="replace")
    return Reply(error.status, _headers(error, PROBLEM_TYPE, body), body)


def http_reply(
    status: HTTPStatus, detail: str = "", headers: Iterable[tuple[bytes, bytes]] = ()
) -> Reply:
    """What HTTP itself refuses, such as an unknown path, in the same shape."""
    phrase = _PHRASES.get(status, status.phrase)
    problem = {
        "type": "about:blank",
        "title": phrase,
        "status": status.value,
        "code": phrase.lower().replace(" ", "-"),
        "detail": detail or f"{status.description or status.phrase}; GET / shows what there is",
    }
    body = json.dumps(problem, ensure_ascii=False).encode()
    return Reply(status.value, [*headers, *_body_headers(PROBLEM_TYPE, body)], body)


def duckdb_reply(error: Error, base_url: str) -> Reply:
    """The error as a Parquet file that DuckDB cannot read, named by the error's message.

    The status is 200, which DuckDB must see to read on; `X-Webfoot-Status` has the true one.
    """
    body = unreadable_parquet(_message(error, base_url))
    return Reply(200, _headers(error, "application/vnd.apache.parquet", body), body)


def catalog_reply(error: Error, base_url: str) -> Reply:
    """The error as a database that DuckDB cannot attach; see `duckdb_reply`."""
    # DuckDB itself, which what serves results starts without.
    from webfoot.database.unattachable import unattachable_database  # noqa: PLC0415

    body = unattachable_database(_message(error, base_url))
    return Reply(200, _headers(error, "application/vnd.duckdb", body), body)


def sheet_reply(error: Error, base_url: str, *, mark: bool) -> Reply:
    """The error as CSV of one cell, for spreadsheets: of any other status they show nothing.

    The status is 200; `X-Webfoot-Status` has the true one.
    """
    # Its patterns take 5 ms to make.
    from webfoot.spreadsheets import neutral, write_record  # noqa: PLC0415

    body = write_record(["error"]) + write_record([neutral(_message(error, base_url))])
    if mark:
        body = codecs.BOM_UTF8 + body
    return Reply(200, _headers(error, MEDIA_TYPES["csv"], body), body)


def page_reply(reply: Reply, base_url: str) -> Reply:
    """A problem as a page, for a browser that shows it to somebody."""
    page = render_page("problem.html", base_url, problem=json.loads(reply.body)).encode()
    own = {b"content-type": b"text/html; charset=utf-8", b"content-length": b"%d" % len(page)}
    headers = [(name, own.get(name, value)) for name, value in reply.headers]
    headers += [(b"content-security-policy", PAGE_POLICY.encode()), (b"vary", b"Accept")]
    return Reply(reply.status, headers, page)


def lazy_reply(extension: str) -> Reply:
    """What HEAD says of a table that GET may yet have to make, or to refuse: that one may ask."""
    media_type = MEDIA_TYPES.get(extension, "application/octet-stream").encode()
    headers = [(b"content-type", media_type), (b"cache-control", b"no-cache")]
    return Reply(200, [*headers, *COMMON_HEADERS], b"")


def _message(error: Error, base_url: str) -> str:
    """What somebody reads who is shown nothing but a text."""
    message = f"{error.udf}: {error.detail}" if error.udf else error.detail
    if len(message) > _MOST_SHOWN:
        message = message[:_MOST_SHOWN] + "…"
    return message + (
        f"\n  run {error.run}, details: {base_url}/runs/{error.run}" if error.run else ""
    )


def _headers(error: Error, media_type: str, body: bytes) -> Headers:
    headers = [
        *_body_headers(media_type, body),
        (b"x-webfoot-status", b"%d" % error.status),
        (b"x-webfoot-code", error.code.encode()),
    ]
    if error.run:
        headers.append((b"x-webfoot-run", error.run.encode()))
    if error.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers.append((b"retry-after", b"%d" % retry_after_of(error)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers += [(b"www-authenticate", challenge) for challenge in _CHALLENGES]
    return headers


def retry_after_of(error: Error) -> int:
    """When to try again what fails for now, in seconds."""
    return error.retry_after_s if isinstance(error, ServerBusy | TooManyRequests) else 1


def without_prompt(reply: Reply) -> Reply:
    """The reply without what makes a browser ask a person for a key."""
    told = [(name, value) for name, value in reply.headers if value != _CHALLENGES[1]]
    return replace(reply, headers=told)


def _body_headers(media_type: str, body: bytes) -> Headers:
    return [
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *COMMON_HEADERS,
    ]
