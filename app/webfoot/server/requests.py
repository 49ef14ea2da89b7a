"""Requests for results, read from what ASGI hands over."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote_plus, unquote

from webfoot.errors import InvalidParameters
from webfoot.server.address import base_url_of
from webfoot.server.limits import Limits, limits_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Scope

    from webfoot.definition import Udf

_PATH = re.compile(r"/udfs/([^/.]+)\.([^/]+)")
_JOB_PATH = re.compile(r"/jobs/([^/.]+)\.([^/]+)")
# `/udfs/sales/region=c/data.parquet`: parameters as folders, as Hive and DuckDB write partitions.
_FOLDERS_PATH = re.compile(r"/udfs/([^/.]+)((?:/[^/=]+=[^/]*)+)/[^/.]+\.([^/]+)")
_MAP_PATH = re.compile(r"/udfs/([^/.]+)/map")
_PATTERNS = {"GET": _PATH, "HEAD": _PATH, "POST": _MAP_PATH}
# SQL in the query string, or in the body.
_SQL_PATH = re.compile(r"/query\.([^/]+)")
_SQL_PATTERNS = {"GET": _SQL_PATH, "HEAD": _SQL_PATH, "POST": re.compile("/query")}
_WANTED_HEADERS = frozenset(
    {
        *(b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"),
        *(b"if-unmodified-since", b"accept-encoding", b"user-agent", b"cache-control", b"pragma"),
        *(b"accept", b"host", b"content-type", b"x-api-key"),
    }
)
# RFC 9110, section 12.5.3: a coding with the quality 0 is refused, not asked for.
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(\d(?:\.\d{0,3})?)\s*)?(?:,|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """What a request asks for, before any of it is known to make sense.

    Args:
        method: GET or HEAD; POST for a fan-out whose inputs are in the body, or for SQL.
        name: The UDF's name, if there is such a UDF.
        extension: The format, if there is such a format; empty for a POST.
        query: The query string as it came, and before it what the path's folders say.
        headers: Those that matter here, in lower case; repeated ones are joined.
        base_url: The server's address as the client wrote it.
        partitions: The names that the path's folders give values to.
        job: The id of the job whose result is asked for, in place of a UDF.
        sql: Whether SQL is asked, in place of a UDF.
        limits: What the platform allows the answer.
    """

    method: str
    name: str
    extension: str
    query: bytes
    headers: Mapping[str, str]
    base_url: str
    partitions: tuple[str, ...] = ()
    job: str = ""
    sql: bool = False
    limits: Limits = Limits()  # noqa: RUF009  # it is frozen, too


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def is_for_result(scope: Scope) -> bool:
    """Whether a request is for a result: by its path and its method."""
    if scope["type"] != "http" or scope["method"] not in _PATTERNS:
        return False
    matches = _PATTERNS[scope["method"]].fullmatch(_path(scope)) or _match_folders(scope)
    return bool(matches or _match_job(scope) or _match_sql(scope))


def _match_sql(scope: Scope) -> re.Match[str] | None:
    return _SQL_PATTERNS[scope["method"]].fullmatch(_path(scope))


def _match_job(scope: Scope) -> re.Match[str] | None:
    return None if scope["method"] == "POST" else _JOB_PATH.fullmatch(_path(scope))


def _match_folders(scope: Scope) -> re.Match[str] | None:
    """A path with parameters as folders, not decoded yet: a value may have a slash in it."""
    if "=" not in scope["path"] or scope["method"] == "POST":
        return None
    raw = scope.get("raw_path")
    path = _path(scope) if raw is None else raw.decode("latin-1")
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
    query: bytes = scope["query_string"]
    make = partial(
        Request,
        method=scope["method"],
        headers=read_headers(scope),
        base_url=base_url_of(scope),
        limits=limits_of(scope),
    )
    # The most common first: thousands come in a second.
    if (match := _PATTERNS[scope["method"]].fullmatch(_path(scope))) is not None:
        extension = match[2] if match.re.groups > 1 else ""
        return make(name=match[1], extension=extension, query=query)
    if (match := _match_job(scope)) is not None:
        return make(name="", extension=match[2], query=query, job=match[1])
    if (match := _match_sql(scope)) is not None:
        extension = match[1] if match.re.groups else ""
        return make(name="", extension=extension, query=query, sql=True)
    match = _match_folders(scope)
    assert match is not None, "only called for paths that it handles"
    # The same request with its folders in the query, so that it is the same call.
    name, folders, extension = match.groups()
    pairs = [folder.partition("=")[::2] for folder in folders[1:].split("/")]
    given = "&".join(f"{quote_plus(unquote(k))}={quote_plus(unquote(v))}" for k, v in pairs)
    return make(
        name=unquote(name),
        extension=unquote(extension),
        query=b"&".join(filter(None, (given.encode(), query))),
        partitions=tuple(unquote(k) for k, _ in pairs),
    )


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
