"""Requests for results, read from what ASGI hands over."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote_plus, unquote

from webfoot.errors import InvalidParameters
from webfoot.server.address import base_url_of
from webfoot.server.exchanges import exchange_of
from webfoot.server.limits import Limits, limits_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Scope

    from webfoot.definition import Udf
    from webfoot.server.exchanges import Exchange

PATH = re.compile(r"/udfs/([^/.]+)\.([^/]+)")
_JOB_PATH = re.compile(r"/jobs/([^/.]+)\.([^/]+)")
# `/udfs/sales/region=c/data.parquet`: parameters as folders, as Hive and DuckDB write partitions.
_FOLDERS_PATH = re.compile(r"/udfs/([^/.]+)((?:/[^/=]+=[^/]*)+)/[^/.]+\.([^/]+)")
MAP_PATH = re.compile(r"/udfs/([^/.]+)/map")
_PATTERNS = {"GET": PATH, "HEAD": PATH, "POST": MAP_PATH}
# SQL in the query string, or in the body.
SQL_PATH = re.compile(r"/query\.([^/]+)")
SQL_BODY_PATH = re.compile(r"/query")
_SQL_PATTERNS = {"GET": SQL_PATH, "HEAD": SQL_PATH, "POST": SQL_BODY_PATH}
# As an OpenAPI document would name them.
_ROUTES = {
    PATH: "/udfs/{name}.{extension}",
    _JOB_PATH: "/jobs/{id}.{extension}",
    _FOLDERS_PATH: "/udfs/{name}/{folders}/{file}.{extension}",
    MAP_PATH: "/udfs/{name}/map",
    SQL_PATH: "/query.{extension}",
    SQL_BODY_PATH: "/query",
}
TABLE_ROUTES = frozenset(_ROUTES.values())
# Where the scope of a request has the token of its share link, which is no part of the query then.
SHARE = "webfoot.share"
_WANTED_HEADERS = frozenset(
    {
        *(b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"),
        *(b"if-unmodified-since", b"accept-encoding", b"user-agent", b"cache-control", b"pragma"),
        *(b"accept", b"host", b"content-type", b"x-api-key"),
    }
)
# RFC 9110, section 12.5.3: a coding with the quality 0 is refused, not asked for.
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(\d(?:\.\d{0,3})?)\s*)?(?:,|$)", re.IGNORECASE)


class Request(NamedTuple):
    """What a request asks for, before any of it is known to make sense.

    Args:
        method: GET or HEAD; POST for a fan-out whose inputs are in the body, or for SQL.
        name: The UDF's name, if there is such a UDF.
        extension: The format, if there is such a format; empty for a POST.
        query: The query string as it came, and before it what the path's folders say.
        headers: Those that matter here, in lower case; repeated ones are joined.
        scope: The request, as ASGI has it.
        exchange: What is noted of it and its answer.
        partitions: The names that the path's folders give values to.
        job: The id of the job whose result is asked for, in place of a UDF.
        sql: Whether SQL is asked, in place of a UDF.
    """

    method: str
    name: str
    extension: str
    query: bytes
    headers: Mapping[str, str]
    scope: Scope
    exchange: Exchange
    partitions: tuple[str, ...] = ()
    job: str = ""
    sql: bool = False

    @property
    def base_url(self) -> str:
        """The server's address as the client wrote it."""
        return base_url_of(self.scope)

    @property
    def limits(self) -> Limits:
        """What the platform allows the answer."""
        return limits_of(self.scope)

    @property
    def share(self) -> str:
        """The token of the share link that the request came by, if it was one."""
        return str(self.scope.get(SHARE, ""))


def path_of(scope: Scope) -> str:
    """The path below where the server is."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def table_methods(path: str) -> list[str]:
    """How a table can be asked for at a path; empty if there can be none."""
    if _JOB_PATH.fullmatch(path):
        return ["GET", "HEAD"]
    return [
        method
        for method, pattern in _PATTERNS.items()
        if pattern.fullmatch(path) or _SQL_PATTERNS[method].fullmatch(path)
    ]


def match_folders(scope: Scope) -> re.Match[str] | None:
    """A path with parameters as folders, not decoded yet: a value may have a slash in it."""
    if "=" not in scope["path"]:
        return None
    raw = scope.get("raw_path")
    path = path_of(scope) if raw is None else raw.decode("latin-1")
    return _FOLDERS_PATH.fullmatch(path.removeprefix(scope.get("root_path", "")))


def read_headers(scope: Scope) -> dict[str, str]:
    """The headers that matter here, in lower case; repeated ones are joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        if raw_name in _WANTED_HEADERS:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def read_request(scope: Scope) -> Request:
    """Read a request that is for a result."""
    method, query, path = scope["method"], scope["query_string"], path_of(scope)
    common = read_headers(scope), scope, (exchange := exchange_of(scope))
    if (match := _PATTERNS[method].fullmatch(path)) is not None:
        exchange.route = _ROUTES[match.re]
        extension = match[2] if match.re.groups > 1 else ""
        return Request(method, match[1], extension, query, *common)
    if (match := _JOB_PATH.fullmatch(path)) is not None:
        exchange.route = _ROUTES[match.re]
        return Request(method, "", match[2], query, *common, job=match[1])
    if (match := _SQL_PATTERNS[method].fullmatch(path)) is not None:
        exchange.route = _ROUTES[match.re]
        extension = match[1] if match.re.groups else ""
        return Request(method, "", extension, query, *common, sql=True)
    match = match_folders(scope)
    assert match is not None, "only called for paths that it handles"
    exchange.route = _ROUTES[match.re]
    # The same request with its folders in the query, so that it is the same call.
    name, folders, extension = match.groups()
    pairs = [folder.partition("=")[::2] for folder in folders[1:].split("/")]
    given = "&".join(f"{quote_plus(unquote(k))}={quote_plus(unquote(v))}" for k, v in pairs)
    whole = b"&".join(filter(None, (given.encode(), query)))
    partitions = tuple(unquote(k) for k, _ in pairs)
    return Request(method, unquote(name), unquote(extension), whole, *common, partitions)


def check_folders(udf: Udf, names: Sequence[str]) -> None:
    """Refuse folders of a path that `udf` does not declare as partitions; their order is free.

    Raises:
        InvalidParameters: It says how else to give the parameter.
    """
    for name in names:
        if name not in udf.options.partitions:
            cure = f"write ?{name}=… behind the path, or declare @udf(partitions=[{name!r}])"
            message = f"is no partition of {udf.name}; {cure}"
            fault = {"parameter": name, "message": message, "value": None}
            error = InvalidParameters(f"{name}: {message}", errors=[fault])
            error.udf = udf.name
            raise error


def wants_rerun(headers: Mapping[str, str]) -> bool:
    """Whether the client will not take a stored result."""
    said = headers.get("cache-control", "") + headers.get("pragma", "")
    return "no-cache" in said.lower()


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Whether the client asks for compression."""
    asked = _GZIP.search(headers.get("accept-encoding", ""))
    return asked is not None and (asked[1] is None or float(asked[1]) > 0)


def wants_inline_errors(request: Request) -> bool:
    """Whether an error shall be a CSV as well, however wrong the rest of the query is."""
    options = _options(request)
    return "_for" in options or options.get("_errors") == "inline"


def wants_mark(request: Request) -> bool:
    """Whether that CSV shall begin with a byte order mark."""
    options = _options(request)
    return options.get("_bom", "1" if options.get("_for") == "excel" else "0") == "1"


def _options(request: Request) -> dict[str, str]:
    """Webfoot's own parameters of a request for CSV, unchecked."""
    if request.extension != "csv":
        return {}
    return dict(parse_qsl(request.query.decode(errors="replace")))
