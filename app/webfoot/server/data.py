"""`GET|HEAD /udfs/{name}.{ext}`: the HTTP contract of a table.

HEAD never runs a UDF and never fails, except that an unknown name is 404: DuckDB asks it first, and it is
the only way to one run per query and to errors that say something. GET does the work.

A plain ASGI application, not a route of the framework: stored results are answered thousands of times a
second.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.responses import Response

from webfoot.errors import Error, InvalidParameters, ServerBusy, UdfNotFound, UnsupportedFormat
from webfoot.server.conditions import decide, http_date, read_range
from webfoot.server.problems import duckdb_response, problem_response
from webfoot.views import MEDIA_TYPES, TEXTS, read_view

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from starlette.types import Receive, Scope, Send

    from webfoot.definition import Udf
    from webfoot.engine import Answer, Engine
    from webfoot.registry import Registry
    from webfoot.results import Call, Result
    from webfoot.settings import Settings
    from webfoot.store import Store
    from webfoot.views import View

# HEAD tells the length of a stored result from this size on. Below, DuckDB is better off without: it
# then sends one plain GET, where lengths would make it fetch the footer and each column by itself.
LENGTH_FROM_BYTES = 1_000_000
# Texts below this size gain nothing from compression.
_COMPRESS_FROM_BYTES = 1_000
_PIECE = 1 << 20
_MOST_QUERY_BYTES = 64_000
_MOST_PARAMETERS = 1_000
_REMEMBERED_REQUESTS = 10_000
_WANTED_HEADERS = frozenset(
    {
        *(b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"),
        *(b"if-unmodified-since", b"accept-encoding", b"user-agent", b"cache-control", b"pragma"),
        *(b"host",),
    }
)


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = _read_request(scope)
        try:
            if request.method == "HEAD":
                await self._head(request, send)
            elif request.method == "GET":
                await self._get(request, receive, send)
            else:
                raise HTTPException(405, headers={"allow": "GET, HEAD"})
        except ClientGone:
            return
        except Error as error:
            await self._refuse(error, request)(scope, receive, send)

    def _refuse(self, error: Error, request: _Request) -> Response:
        if request.method == "HEAD":
            return Response(status_code=error.status)
        reads_files = request.headers.get("user-agent", "").startswith("duckdb/")
        told_in_file = (
            self._settings.duckdb_errors
            and reads_files
            and request.extension == "parquet"
            and "range" not in request.headers
            and not isinstance(error, ServerBusy)
        )
        if told_in_file:
            return duckdb_response(error, request.base_url)
        return problem_response(error, debug=self._settings.debug)

    def _understand(self, request: _Request) -> _Asked:
        """Find the UDF and read the parameters; requests that are made again are remembered."""
        registry = self._engine.registry
        if self._understood_by is not registry or len(self._understood) > _REMEMBERED_REQUESTS:
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
        media_type = MEDIA_TYPES.get(request.extension, "")
        try:
            asked = self._understand(request)
            result = await self._engine.peek(asked.call, asked.view)
        except (UdfNotFound, UnsupportedFormat):
            raise
        except Error:
            # GET will say what is wrong; here it would only make DuckDB ask five times more.
            asked = None
        headers: list[tuple[bytes, bytes]] = [
            (b"content-type", media_type.encode()),
            (b"accept-ranges", b"bytes"),
        ]
        status = 200
        if asked is None or result is None or self._lifetime(asked) == 0:
            headers.append((b"cache-control", b"no-cache"))
        else:
            headers = self._headers(asked, result)
            wanted = read_range(request.headers.get("range"))
            decision = decide(request.headers, _etag(result), result.created, result.size, wanted)
            if decision.status != 200 or _tells_length(asked, result):  # noqa: PLR2004
                status = decision.status
                headers += _length_headers(decision, result)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _get(self, request: _Request, receive: Receive, send: Send) -> None:
        asked = self._understand(request)
        wanted = read_range(request.headers.get("range"))
        rerun = wanted is None and "no-cache" in (
            request.headers.get("cache-control", "") + request.headers.get("pragma", "")
        )
        result = None if rerun else await self._engine.stored(asked.call, ranged=wanted is not None)
        timing = b"hit"
        if result is None:
            answer = await _unless_gone(
                receive,
                self._engine.result(asked.udf, asked.call, ranged=wanted is not None, rerun=rerun),
            )
            result, timing = answer.result, _timing(answer)
        view = asked.view
        if view.extension in TEXTS and "gzip" in request.headers.get("accept-encoding", ""):
            view = replace(view, gzip=result.size >= _COMPRESS_FROM_BYTES)
        shown = result
        if not view.canonical:
            shown = (await _unless_gone(receive, self._engine.view(asked.udf, result, view))).result
        blob = await self._store.open(shown)
        if blob is None:  # Evicted between the two: the next attempt runs anew.
            raise ServerBusy("the result was evicted while it was asked for; try again")
        try:
            await self._send(request, replace(asked, view=view), (result, shown), blob, timing, send)
        finally:
            blob.close()

    async def _send(
        self,
        request: _Request,
        asked: _Asked,
        results: tuple[Result, Result],
        blob: Any,
        timing: bytes,
        send: Send,
    ) -> None:
        result, shown = results
        wanted = read_range(request.headers.get("range"))
        decision = decide(request.headers, _etag(shown), shown.created, shown.size, wanted)
        headers = self._headers(asked, shown)
        headers += _length_headers(decision, shown)
        headers += [
            (b"x-webfoot-run", result.run.encode()),
            (b"x-webfoot-executions", str(result.executions).encode()),
            (b"server-timing", timing),
        ]
        if asked.view.gzip:
            headers.append((b"content-encoding", b"gzip"))
        await send({"type": "http.response.start", "status": decision.status, "headers": headers})
        position, end = decision.start, decision.start + decision.length
        while end - position > _PIECE:
            piece = blob.read(position, _PIECE)
            position += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        body = blob.read(position, end - position) if decision.length else b""
        await send({"type": "http.response.body", "body": body})

    def _lifetime(self, asked: _Asked) -> float:
        return self._engine.lifetime(asked.udf)

    def _headers(self, asked: _Asked, result: Result) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"content-type", MEDIA_TYPES[asked.view.extension].encode()),
            (b"etag", _etag(result).encode()),
            (b"last-modified", http_date(result.created).encode()),
            (b"accept-ranges", b"bytes"),
            (b"cache-control", self._cache_control(asked, result)),
        ]
        if asked.view.extension in TEXTS:
            headers.append((b"vary", b"Accept-Encoding"))
        return headers

    def _cache_control(self, asked: _Asked, result: Result) -> bytes:
        lifetime = self._lifetime(asked)
        if lifetime == 0:
            return b"no-store"
        # A view lives for ever, but its URL is the call's: it is fresh as long as the call's result.
        left = lifetime if math.isinf(result.expires) else result.expires - time.time()
        if self._settings.reload or left <= 0:
            return b"no-cache"  # The code behind the URL may change at any moment.
        return f"public, max-age={int(min(left, 31_536_000))}".encode()


def _read_request(scope: Scope) -> _Request:
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in _WANTED_HEADERS
    }
    parameters = scope["path_params"]
    host = headers.get("host", "localhost")
    return _Request(
        method=scope["method"],
        name=parameters["name"],
        extension=parameters["extension"],
        query=scope["query_string"],
        headers=headers,
        base_url=f"{scope['scheme']}://{host}{scope.get('root_path', '')}",
    )


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


def _etag(result: Result) -> str:
    return f'"{result.etag}"'


def _tells_length(asked: _Asked, result: Result) -> bool:
    # CSV is read twice by a DuckDB that knows its length, once by one that does not.
    return asked.view.extension == "parquet" and result.size >= LENGTH_FROM_BYTES


def _length_headers(decision: Any, result: Result) -> list[tuple[bytes, bytes]]:
    if decision.status in (304, 412):
        return []
    if decision.status == 416:  # noqa: PLR2004  # range not satisfiable
        return [(b"content-range", f"bytes */{result.size}".encode()), (b"content-length", b"0")]
    headers = [(b"content-length", str(decision.length).encode())]
    if decision.status == 206:  # noqa: PLR2004  # partial content
        last = decision.start + decision.length - 1
        headers.append((b"content-range", f"bytes {decision.start}-{last}/{result.size}".encode()))
    return headers


def _timing(answer: Answer) -> bytes:
    run, total = answer.result.seconds * 1000, answer.waited_s * 1000
    return f"run;dur={run:.1f}, wait;dur={max(total - run, 0):.1f}".encode()


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


class ClientGone(Exception):  # noqa: N818  # a fact, not an error
    """The client closed the connection before it was answered."""
