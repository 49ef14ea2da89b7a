"""A stored file as an HTTP response: what its conditions and range come to."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from webfoot.server.conditions import decide, read_range
from webfoot.server.problems import http_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.results import Result
    from webfoot.server.conditions import Decision
    from webfoot.server.problems import Headers, Reply

REFUSALS = (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)


def etag_of(result: Result) -> str:
    """The entity tag, quoted."""
    return f'"{result.etag}"'


def decide_on(headers: Mapping[str, str], result: Result, etag: str) -> Decision:
    """How to answer a GET or HEAD for `result`, known to its readers by `etag`; see `decide`."""
    wanted = read_range(headers.get("range"))
    return decide(headers, etag, result.created, result.size, wanted)


def refusal(decision: Decision, result: Result) -> Reply:
    """Why the request's conditions or its range cannot be met."""
    if decision.status == HTTPStatus.PRECONDITION_FAILED:
        return http_reply(
            HTTPStatus.PRECONDITION_FAILED, "the result is another than the request asks for"
        )
    detail = f"the file has {result.size} bytes, and the range begins behind them"
    return http_reply(
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        detail,
        [(b"content-range", b"bytes */%d" % result.size)],
    )


def length_headers(decision: Decision, result: Result) -> Headers:
    """How many bytes are sent, and which."""
    if decision.status == HTTPStatus.NOT_MODIFIED:
        return []
    headers = [(b"content-length", b"%d" % decision.length)]
    if decision.status == HTTPStatus.PARTIAL_CONTENT:
        last = decision.start + decision.length - 1
        headers.append((b"content-range", b"bytes %d-%d/%d" % (decision.start, last, result.size)))
    return headers
