"""`GET|HEAD /udfs/{name}.{extension}`: the HTTP contract of a table.

HEAD never runs a UDF and never fails, except that an unknown name is 404: DuckDB asks it first, and it is
the only way to one run per query and to errors that say something. GET does the work.

A plain ASGI application in front of the framework: stored results are answered thousands of times a
second, and the framework's layers would double what one costs (`bench/throughput.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from webfoot.errors import Error, InvalidParameters, ServerBusy, UdfNotFound, UnsupportedFormat
from webfoot.server.conditions import decide, http_date, read_range
from webfoot.server.problems import Reply, duckdb_reply, problem_reply
from webfoot.views import MEDIA_TYPES, TEXTS, read_view

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from starlette.types import Receive, Scope, Send

    from webfoot.definition import Udf
    from webfoot.engine import Answer, Engine
    from webfoot.registry import Registry
    from webfoot.results import Call, Result
    from webfoot.server.conditions import Decision
    from webfoot.settings import Settings
    from webfoot.store import Blob, Store
    from webfoot.views import View

# HEAD tells the length of a stored result from this size on. Below, DuckDB is better off without: it
# then sends one plain GET, where lengths make it fetch the footer and each column by themselves. First
# read of all columns behind 40 ms and 100 Mbit/s, one GET against the same bytes in nginx: 0.62 at 64
# KiB, 0.69 at 512 KiB, 0.74 at 1 MiB; of one column: 0.62, 0.82, 0.98, and 1.32 at 2 MiB, where ranges
# begin to win (`bench/head_threshold.py`).
LENGTH_FROM_BYTES = 1_000_000
# Texts below this size gain nothing from compression.
_COMPRESS_FROM_BYTES = 1_000
_PIECE = 1 << 20
_MOST_QUERY_BYTES = 64_000
_MOST_PARAMETERS = 1_000
_REMEMBERED = 10_000
_PATH = re.compile(r"/udfs/([^/.]+)\.([^/]+)")
_WANTED_HEADERS = frozenset(
    {
        *(b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"),
        *(b"if-unmodified-since", b"accept-encoding", b"user-agent", b"cache-control", b"pragma"),
        *(b"host",),
    }
)
EXPOSED_HEADERS = (
    *("Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Server-Timing"),
    *("X-Webfoot-Run", "X-Webfoot-Executions", "X-Webfoot-Status", "X-Webfoot-Code"),
)
_Headers = list[tuple[bytes, bytes]]
# For every origin: results carry no cookies, and DuckDB-Wasm and notebooks are on other origins.
_COMMON_HEADERS: _Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode()),
    (b"x-content-type-options", b"nosniff"),
]
# A preview shows other people's data: whatever is in it, nothing of it may run.
_PREVIEW_POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    """What a request asks for, before any of it is known to make sense."""

    method: str
    name: str
    extension: str
    query: bytes
    headers: Mapping[str, str]
    base_url: str


@dataclass(frozen=True)
class _Asked:
    """What a request asks for, understood."""

    udf: Udf
    call: Call
    view: View


class ClientGone(Exception):  # noqa: N818  # a fact, not an error
    """The client closed the connection before it was answered."""


class DataEndpoint:
    """Answers requests for results.

    Args:
        engine: Gives results.
        store: Gives their bytes.
        settings: How to show errors and caching.
    """

    def __init__(self, engine: Engine, store: Store, settings: Settings) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._understood: dict[tuple[str, str, bytes], _Asked] = {}
        self._understood_by: Registry | None = None
        self._headers_of: OrderedDict[tuple[str, str, bool], _Headers] = OrderedDict()

    def handles(self, scope: Scope) -> bool:
        """Whether a request is for a result: by its path and its method."""
        return (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and _PATH.fullmatch(_path(scope)) is not None
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that this endpoint handles."""
        request = _read_request(scope)
        try:
            if request.method == "HEAD":
                await self._head(request, send)
            else:
                await self._get(request, receive, send)
        except ClientGone:
            return
        except Error as error:
            await _send_reply(self._refuse(error, request), send)
        except Exception:
            _log.exception("a bug in Webfoot: %s %s", request.method, scope["path"])
            bug = Error("something went wrong in Webfoot itself; the server's log says what")
            await _send_reply(self._refuse(bug, request), send)

    def _refuse(self, error: Error, request: _Request) -> Reply:
        if request.method == "HEAD":
            return Reply(error.status, [], b"")
        told_in_file = (
            self._settings.duckdb_errors
            and request.headers.get("user-agent", "").startswith("duckdb/")
            and request.extension == "parquet"
            and "range" not in request.headers
            # DuckDB tries 503 again by itself, which is what should happen.
            and not isinstance(error, ServerBusy)
        )
        if told_in_file:
            return duckdb_reply(error, request.base_url)
        return problem_reply(error, debug=self._settings.debug)

    def _understand(self, request: _Request) -> _Asked:
        """Find the UDF and read the parameters; requests that are made again are remembered."""
        registry = self._engine.registry
        if self._understood_by is not registry or len(self._understood) > _REMEMBERED:
            self._understood, self._understood_by = {}, registry
        key = (request.name, request.extension, request.query)
        asked = self._understood.get(key)
        if asked is None:
            udf = registry.find(request.name)
            own, others = _split_query(request.query)
            view = read_view(request.extension, own)
            asked = _Asked(udf, self._engine.call(udf, others), view)
            self._understood[key] = asked
        return asked

    async def _head(self, request: _Request, send: Send) -> None:
        result = None
        try:
            asked = self._understand(request)
            result = await self._engine.peek(asked.call, asked.view)
        except (UdfNotFound, UnsupportedFormat):
            raise
        except Error:
            result = None  # GET will say what is wrong; here it would make DuckDB ask five times more.
        if result is None or self._engine.lifetime(asked.udf) == 0:
            media_type = MEDIA_TYPES.get(request.extension, "application/octet-stream").encode()
            headers = [(b"content-type", media_type), (b"cache-control", b"no-cache")]
            await _send_reply(Reply(200, [*headers, *_COMMON_HEADERS], b""), send)
            return
        wanted = read_range(request.headers.get("range"))
        decision = decide(request.headers, _etag(result), result.created, result.size, wanted)
        headers = [*self._fixed_headers(result, asked.view), self._cache_control(asked, result)]
        if decision.status != 200 or _tells_length(asked, result):  # noqa: PLR2004
            headers += _length_headers(decision, result)
        await _send_reply(Reply(decision.status, headers, b""), send)

    async def _get(self, request: _Request, receive: Receive, send: Send) -> None:
        asked = self._understand(request)
        ranged = read_range(request.headers.get("range")) is not None
        rerun = not ranged and _wants_rerun(request.headers)
        timing = b"hit"
        result = None if rerun else await self._engine.stored(asked.call, ranged=ranged)
        if result is None:
            running = self._engine.result(asked.udf, asked.call, ranged=ranged, rerun=rerun)
            answer = await _unless_gone(receive, running)
            result, timing = answer.result, _timing(answer)
        view = _encoded(asked.view, request.headers, result)
        shown = result
        if not view.canonical:
            shown = (await _unless_gone(receive, self._engine.view(asked.udf, result, view))).result
        blob = await self._store.open(shown)
        if blob is None:  # Evicted between the two: the next attempt runs anew.
            raise ServerBusy("the result was evicted while it was asked for; try again")
        try:
            wanted = read_range(request.headers.get("range"))
            decision = decide(request.headers, _etag(shown), shown.created, shown.size, wanted)
            headers = [
                *self._fixed_headers(shown, view),
                *_length_headers(decision, shown),
                self._cache_control(asked, result),
                (b"x-webfoot-run", result.run.encode()),
                (b"x-webfoot-executions", str(result.executions).encode()),
                (b"server-timing", timing),
            ]
            await _send_blob(decision, headers, blob, send)
        finally:
            blob.close()

    def _fixed_headers(self, result: Result, view: View) -> _Headers:
        """The headers that are the same whenever `result` is sent as `view`."""
        key = (result.run, view.extension, view.gzip)
        headers = self._headers_of.get(key)
        if headers is None:
            headers = [
                (b"content-type", MEDIA_TYPES[view.extension].encode()),
                (b"etag", _etag(result).encode()),
                (b"last-modified", http_date(result.created).encode()),
                (b"accept-ranges", b"bytes"),
                *_COMMON_HEADERS,
            ]
            if view.extension in TEXTS:
                headers.append((b"vary", b"Accept-Encoding"))
            if view.extension == "html":
                headers.append(_PREVIEW_POLICY)
            if view.gzip:
                headers.append((b"content-encoding", b"gzip"))
            self._headers_of[key] = headers
            if len(self._headers_of) > _REMEMBERED:
                self._headers_of.popitem(last=False)
        return headers

    def _cache_control(self, asked: _Asked, result: Result) -> tuple[bytes, bytes]:
        lifetime = self._engine.lifetime(asked.udf)
        if lifetime == 0:
            return (b"cache-control", b"no-store")
        # A view lives for ever, but its URL is the call's: it is fresh as long as the call's result.
        left = lifetime if math.isinf(result.expires) else result.expires - time.time()
        if self._settings.reload or left <= 0:
            return (b"cache-control", b"no-cache")  # The code behind the URL may change at any moment.
        return (b"cache-control", b"public, max-age=%d" % min(left, 31_536_000))


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _read_request(scope: Scope) -> _Request:
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in _WANTED_HEADERS
    }
    match = _PATH.fullmatch(_path(scope))
    assert match is not None, "only called for paths that it handles"
    base_url = f"{scope['scheme']}://{headers.get('host', 'localhost')}{scope.get('root_path', '')}"
    return _Request(scope["method"], match[1], match[2], scope["query_string"], headers, base_url)


def _split_query(query: bytes) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Webfoot's own parameters, which begin with `_`, and the UDF's."""
    if len(query) > _MOST_QUERY_BYTES:
        raise InvalidParameters(
            f"the query is {len(query)} bytes long, and at most {_MOST_QUERY_BYTES} are read"
        )
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError as error:
        raise InvalidParameters(f"the query cannot be read: {error}; encode it as UTF-8") from error
    own = [pair for pair in pairs if pair[0].startswith("_")]
    return own, [pair for pair in pairs if not pair[0].startswith("_")]


def _wants_rerun(headers: Mapping[str, str]) -> bool:
    return "no-cache" in headers.get("cache-control", "") or "no-cache" in headers.get("pragma", "")


def _encoded(view: View, headers: Mapping[str, str], result: Result) -> View:
    """The view, compressed if it is text and the client asks for that."""
    asks = view.extension in TEXTS and "gzip" in headers.get("accept-encoding", "")
    return replace(view, gzip=True) if asks and result.size >= _COMPRESS_FROM_BYTES else view


def _etag(result: Result) -> str:
    return f'"{result.etag}"'


def _tells_length(asked: _Asked, result: Result) -> bool:
    # CSV is read twice by a DuckDB that knows its length, once by one that does not.
    return asked.view.extension == "parquet" and result.size >= LENGTH_FROM_BYTES


def _length_headers(decision: Decision, result: Result) -> _Headers:
    if decision.status in (304, 412):
        return []
    if decision.status == 416:  # noqa: PLR2004  # range not satisfiable
        return [(b"content-range", b"bytes */%d" % result.size), (b"content-length", b"0")]
    headers = [(b"content-length", b"%d" % decision.length)]
    if decision.status == 206:  # noqa: PLR2004  # partial content
        last = decision.start + decision.length - 1
        headers.append((b"content-range", b"bytes %d-%d/%d" % (decision.start, last, result.size)))
    return headers


def _timing(answer: Answer) -> bytes:
    run, total = answer.result.seconds * 1000, answer.waited_s * 1000
    return b"run;dur=%.1f, wait;dur=%.1f" % (run, max(total - run, 0))


async def _send_reply(reply: Reply, send: Send) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _send_blob(decision: Decision, headers: _Headers, blob: Blob, send: Send) -> None:
    await send({"type": "http.response.start", "status": decision.status, "headers": headers})
    position, end = decision.start, decision.start + decision.length
    while end - position > _PIECE:
        piece = blob.read(position, _PIECE)
        position += len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    body = blob.read(position, end - position) if decision.length else b""
    await send({"type": "http.response.body", "body": body})


async def _unless_gone(receive: Receive, work: Awaitable[Answer]) -> Answer:
    """Do `work`, unless the client goes away meanwhile."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return await task
    finally:
        leaving.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Error):
                await task


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
