"""`/catalog.duckdb` and `/catalog.sql`: the UDFs as a database to attach, or as a script to run.

The file is kept like a result, by the hash of the SQL that made it: servers that share a store
serve the same bytes, although DuckDB puts an id made by chance into each file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse
from starlette.routing import Route

from webfoot.catalog import Kind
from webfoot.errors import ServerBusy
from webfoot.results import Result, digest
from webfoot.runs import new_id
from webfoot.server.address import base_url_of
from webfoot.server.conditions import http_date
from webfoot.server.problems import COMMON_HEADERS, Reply
from webfoot.server.requests import read_headers
from webfoot.server.stored import REFUSALS, decide_on, etag_of, length_headers, refusal
from webfoot.server.transfer import File, send_file, send_reply
from webfoot.server.visits import visit_of

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from webfoot.engine import Engine
    from webfoot.registry import Registry
    from webfoot.server.conditions import Decision
    from webfoot.server.problems import Headers
    from webfoot.store import Blob, Store

# The oldest format that keeps types in macros, and the oldest that DuckDB still writes.
_STORAGE_VERSIONS = {Kind.TYPED: "v1.4.0", Kind.UNTYPED: "v1.0.0"}
_DUCKDB = re.compile(r"duckdb/v?(\d+)\.(\d+)")
_TYPED_SINCE = (1, 4)
# Who attaches a file with DuckDB before 1.4 says only by which library.
_OLD_DUCKDB = "cpp-httplib/"
# Whoever is honest uses one or two addresses, and there are not many roles; what others invent must
# not fill the memory.
_REMEMBERED = 32
_READ = ["GET", "HEAD"]
_FIXED_HEADERS: Headers = [
    # Asked anew each time: a saved UDF is in it at once.
    (b"cache-control", b"no-cache"),
    (b"vary", b"User-Agent"),
    *COMMON_HEADERS,
]


@dataclass(frozen=True)
class Script:
    """The SQL of a catalog file, and the key that the store keeps the file by."""

    kind: Kind
    sql: str
    key: str


class Scripts:
    """The SQL of the catalog for each address and all UDFs together; the least used go first."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._written: OrderedDict[tuple[str, Kind, tuple[str, ...]], Script] = OrderedDict()
        self._written_for: Registry | None = None

    async def find(self, registry: Registry, base_url: str, kind: Kind) -> Script:
        """The script for the UDFs, or some of them, as they are now."""
        current = self._engine.registry
        if self._written_for is not current:
            self._written, self._written_for = OrderedDict(), current
        written, key = self._written, (base_url, kind, tuple(registry))
        if key not in written:
            # What serves results starts without.
            from webfoot.catalog.script import catalog_script  # noqa: PLC0415
            from webfoot.database import DUCKDB_VERSION  # noqa: PLC0415

            told = registry, base_url, lifetimes(self._engine, registry), kind
            sql = await asyncio.to_thread(catalog_script, *told)
            version = _STORAGE_VERSIONS[kind]
            written[key] = Script(kind, sql, digest("catalog", DUCKDB_VERSION, version, sql))
        written.move_to_end(key)
        while len(written) > _REMEMBERED:
            written.popitem(last=False)
        return written[key]


class CatalogFile:
    """Answers requests for the file.

    Args:
        scripts: What is in the file.
        store: Keeps it.
        kind: For which DuckDB it is; None to go by the client's version.
    """

    def __init__(self, scripts: Scripts, store: Store, kind: Kind | None) -> None:
        self._scripts = scripts
        self._store = store
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET or HEAD."""
        headers, is_head = read_headers(scope), scope["method"] == "HEAD"
        kind = self._kind or _kind_for(headers.get("user-agent", ""))
        registry = visit_of(scope).registry
        script = await self._scripts.find(registry, base_url_of(scope), kind)
        result, blob = await self._file(script)
        with contextlib.closing(blob):
            decision = decide_on(headers, result, etag_of(result))
            if decision.status in REFUSALS:
                reply = refusal(decision, result)
                await send_reply(replace(reply, body=b"") if is_head else reply, send)
            elif is_head:
                await send_reply(Reply(decision.status, _head(decision, result), b""), send)
            else:
                told = [*_headers(result), *length_headers(decision, result)]
                await send_file(File(decision, told, blob), receive, send)

    async def _file(self, script: Script) -> tuple[Result, Blob]:
        """The file of `script`, made if it is not stored."""
        for _ in range(2):  # What was found may be evicted before it is opened.
            result = (await self._store.find(script.key)).result
            if not isinstance(result, Result) or not await self._store.last_used(result):
                result = await self._make(script)
            blob = await self._store.open(result)
            if blob is not None:
                return result, blob
        raise ServerBusy("the catalog was evicted while it was asked for; try again")

    async def _make(self, script: Script) -> Result:
        async with self._store.claim(script.key):
            known = (await self._store.find(script.key)).result
            if isinstance(known, Result) and await self._store.last_used(known):
                return known
            run = new_id()
            staged = self._store.stage(run, "duckdb")
            began = time.time()
            try:
                etag = await asyncio.to_thread(_write, staged, script)
                now = time.time()
                result = Result(
                    key=script.key,
                    run=run,
                    extension="duckdb",
                    etag=etag,
                    size=staged.stat().st_size,
                    rows=0,
                    columns=(),
                    seconds=now - began,
                    created=now,
                    expires=math.inf,
                    executions=1,
                )
                await self._store.publish(result, staged)
            finally:
                staged.unlink(missing_ok=True)
            return result


def catalog_routes(engine: Engine, store: Store) -> list[Route]:
    """The routes of the catalog.

    Which file a DuckDB gets goes by its version. The name with `untyped` is for those who choose
    themselves.
    """

    async def show_script(request: Request) -> Response:
        from webfoot.catalog.script import standalone_script  # noqa: PLC0415  # as above

        kind = Kind.UNTYPED if "untyped" in request.url.path else Kind.TYPED
        registry = visit_of(request.scope).registry
        told = registry, base_url_of(request.scope), lifetimes(engine, registry), kind
        sql = await asyncio.to_thread(standalone_script, *told)
        headers = {name.decode(): value.decode() for name, value in _FIXED_HEADERS}
        return PlainTextResponse(sql, headers=headers, media_type="application/sql")

    scripts = Scripts(engine)
    return [
        Route("/catalog.duckdb", CatalogFile(scripts, store, None), methods=_READ),
        Route("/catalog-untyped.duckdb", CatalogFile(scripts, store, Kind.UNTYPED), methods=_READ),
        Route("/catalog.sql", show_script, methods=_READ),
        Route("/catalog-untyped.sql", show_script, methods=_READ),
    ]


def lifetimes(engine: Engine, registry: Registry) -> dict[str, float]:
    """How long results are fresh, in seconds, by UDF."""
    return {udf.name: engine.lifetime(udf) for udf in registry.values()}


def _kind_for(user_agent: str) -> Kind:
    """What the DuckDB that asks can read; whoever else asks can be told everything."""
    match = _DUCKDB.match(user_agent)
    if match is None:
        return Kind.UNTYPED if user_agent.startswith(_OLD_DUCKDB) else Kind.TYPED
    return Kind.TYPED if (int(match[1]), int(match[2])) >= _TYPED_SINCE else Kind.UNTYPED


def _write(path: Path, script: Script) -> str:
    """Write the file; the SHA-256 of its bytes, hexadecimal."""
    from webfoot.database import write_database  # noqa: PLC0415  # likewise

    write_database(path, script.sql, _STORAGE_VERSIONS[script.kind])
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _head(decision: Decision, result: Result) -> Headers:
    """What HEAD tells; not the length, if all is asked for.

    DuckDB then reads the file at once and never comes back: five requests to attach it, not nine,
    and it goes on when a saved UDF has changed the file, of which it would otherwise read the rest.
    """
    if decision.status == HTTPStatus.OK:
        return _headers(result)
    return [*_headers(result), *length_headers(decision, result)]


def _headers(result: Result) -> Headers:
    return [
        (b"content-type", b"application/vnd.duckdb"),
        (b"etag", etag_of(result).encode()),
        (b"last-modified", http_date(result.created).encode()),
        (b"accept-ranges", b"bytes"),
        *_FIXED_HEADERS,
    ]
