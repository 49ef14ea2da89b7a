"""Requests for results, read from what ASGI hands over."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from webfoot.errors import InvalidParameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

_PATH = re.compile(r"/udfs/([^/.]+)\.([^/]+)")
_MOST_QUERY_BYTES = 64_000
_MOST_PARAMETERS = 1_000
_WANTED_HEADERS = frozenset(
    {
        *(b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"),
        *(b"if-unmodified-since", b"accept-encoding", b"user-agent", b"cache-control", b"pragma"),
        *(b"accept", b"host"),
    }
)
# RFC 9110, section 12.5.3: a coding with the quality 0 is refused, not asked for.
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(\d(?:\.\d{0,3})?)\s*)?(?:,|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """What a request asks for, before any of it is known to make sense.

    Args:
        method: GET or HEAD.
        name: The UDF's name, if there is such a UDF.
        extension: The format, if there is such a format.
        query: The query string as it came.
        headers: Those that matter here, in lower case; repeated ones are joined.
        base_url: The server's address as the client wrote it.
    """

    method: str
    name: str
    extension: str
    query: bytes
    headers: Mapping[str, str]
    base_url: str


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def is_for_result(scope: Scope) -> bool:
    """Whether a request is for a result: by its path and its method."""
    return (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and _PATH.fullmatch(_path(scope)) is not None
    )


def read_request(scope: Scope) -> Request:
    """Read a request that is for a result."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        if raw_name in _WANTED_HEADERS:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    match = _PATH.fullmatch(_path(scope))
    assert match is not None, "only called for paths that it handles"
    base_url = f"{scope['scheme']}://{headers.get('host', 'localhost')}{scope.get('root_path', '')}"
    return Request(scope["method"], match[1], match[2], scope["query_string"], headers, base_url)


def split_query(query: bytes) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Split a query string into Webfoot's own parameters, which begin with `_`, and the UDF's.

    Raises:
        InvalidParameters: If it is too long, or no text.
    """
    if len(query) > _MOST_QUERY_BYTES:
        raise InvalidParameters(
            f"the query is {len(query)} bytes long, and at most {_MOST_QUERY_BYTES} are read"
        )
    if query.count(b"&") >= _MOST_PARAMETERS:
        raise InvalidParameters(f"the query has more than {_MOST_PARAMETERS} parameters")
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidParameters(f"the query is not UTF-8: {error}") from error
    own = [pair for pair in pairs if pair[0].startswith("_")]
    return own, [pair for pair in pairs if not pair[0].startswith("_")]


def wants_rerun(headers: Mapping[str, str]) -> bool:
    """Whether the client will not take a stored result."""
    said = headers.get("cache-control", "") + headers.get("pragma", "")
    return "no-cache" in said.lower()


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Whether the client asks for compression."""
    asked = _GZIP.search(headers.get("accept-encoding", ""))
    return asked is not None and (asked[1] is None or float(asked[1]) > 0)
