"""`GET|HEAD /_system/{table}.{extension}`: the server's own records, as tables like any other.

They need the right `admin`. Who has it for a tenant is shown what is of that tenant.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.routing import Route

from webfoot.access.principal import ANONYMOUS, principal_of
from webfoot.asking import split_query
from webfoot.errors import Forbidden, InvalidParameters
from webfoot.literals import sql_text
from webfoot.server.address import base_url_of
from webfoot.server.conditions import http_date, read_range
from webfoot.server.problems import PREVIEW_POLICY, Reply
from webfoot.server.records import COLUMNS
from webfoot.server.requests import read_headers
from webfoot.server.snapshots import Snapshots
from webfoot.server.stored import REFUSALS, decide_on, etag_of, length_headers, refusal
from webfoot.server.telling import without_body
from webfoot.server.transfer import File, send_file, send_reply
from webfoot.views import MEDIA_TYPES, read_view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from webfoot.results import Draft, Result
    from webfoot.runs import Run, Runs
    from webfoot.server.problems import Headers
    from webfoot.server.records import Records
    from webfoot.server.snapshots import Name
    from webfoot.views import View

_RUN_COLUMNS = {
    "timestamp": "TIMESTAMPTZ",
    "run": "VARCHAR",
    "kind": "VARCHAR",
    "udf": "VARCHAR",
    "arguments": "VARCHAR",
    "principal": "VARCHAR",
    "tenant": "VARCHAR",
    "trace": "VARCHAR",
    "parent": "VARCHAR",
    "status": "VARCHAR",
    "code": "VARCHAR",
    "execution_time_ms": "DOUBLE",
    "rows": "BIGINT",
    "bytes": "BIGINT",
    "billed_ms": "BIGINT",
    "memory_used_mb": "DOUBLE",
    "cpu_ms": "DOUBLE",
}


class SystemTables:
    """Answers requests for the server's own tables.

    Args:
        records: What `requests` is made of.
        runs: What `runs` is made of.
    """

    def __init__(self, records: Records, runs: Runs) -> None:
        self._writers: Mapping[str, Callable[[str, Path], Draft]] = {
            "requests": partial(_write_requests, records),
            "runs": partial(_write_runs, runs),
        }
        self._snapshots = Snapshots(self._write)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET or HEAD."""
        table, extension = (scope["path_params"][name] for name in ("table", "extension"))
        principal = principal_of(scope)
        if principal == ANONYMOUS and not is_from_here(scope):
            raise Forbidden(
                "on a server that asks nobody for a key, its records are for who asks on its"
                " machine; make one (webfoot keys create --role admin)"
            )
        if table not in self._writers:
            raise HTTPException(
                HTTPStatus.NOT_FOUND, f"there is no {table!r}; known: {', '.join(self._writers)}"
            )
        own, others = split_query(scope["query_string"])
        if others:
            raise InvalidParameters(f"{others[0][0]}: {table} has no parameters")
        view, headers = read_view(extension, own), read_headers(scope)
        ranged = read_range(headers.get("range")) is not None
        name, is_head = (table, principal.tenant), scope["method"] == "HEAD"
        result, blob = await self._snapshots.open(name, view, ranged=ranged)
        with contextlib.closing(blob):
            decision = decide_on(headers, result, etag_of(result))
            told = _headers(view, result)
            if decision.status in REFUSALS:
                reply = refusal(decision, result)
                await send_reply(without_body(reply) if is_head else reply, send)
            elif is_head:
                # Not its length: DuckDB then reads the whole at once, and never half of another.
                await send_reply(Reply(decision.status, told, b""), send)
            else:
                told += length_headers(decision, result)
                await send_file(File(decision, told, blob), receive, send)

    def close(self) -> None:
        """Remove the files."""
        self._snapshots.close()

    def _write(self, name: Name, target: Path) -> Draft:
        table, tenant = name
        return self._writers[table](tenant, target)


def system_routes(tables: SystemTables) -> list[Route]:
    """The route of all tables."""
    return [Route("/_system/{table}.{extension}", tables, methods=["GET", "HEAD"])]


def is_from_here(scope: Scope) -> bool:
    """Whether a request comes from this machine, and from no web page of another site.

    The address that is asked for counts, too: such a page can have its own name stand for this
    machine.
    """
    asked = urlsplit(base_url_of(scope))
    own = f"{asked.scheme}://{asked.netloc}".encode()
    if any(name == b"origin" and value != own for name, value in scope["headers"]):
        return False
    client = scope.get("client")
    return client is not None and _is_here(client[0]) and _is_here(asked.hostname or "")


def _is_here(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _headers(view: View, result: Result) -> Headers:
    headers = [
        (b"content-type", MEDIA_TYPES[view.extension].encode()),
        (b"etag", etag_of(result).encode()),
        (b"last-modified", http_date(result.created).encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if view.extension == "html":
        headers.append(PREVIEW_POLICY)
    return headers


def _write_requests(records: Records, tenant: str, target: Path) -> Draft:
    records.flush()
    return _write_lines(records.segments.paths(), COLUMNS, tenant, target)


def _write_runs(runs: Runs, tenant: str, target: Path) -> Draft:
    lines = target.with_suffix(".jsonl")
    lines.write_text("".join(f"{json.dumps(_plain(run))}\n" for run in runs.all()))
    try:
        return _write_lines([lines], _RUN_COLUMNS, tenant, target)
    finally:
        lines.unlink()


def _plain(run: Run) -> dict[str, Any]:
    problem = run.problem or {}
    memory = run.memory_bytes
    return {
        "timestamp": datetime.fromtimestamp(run.started, UTC).isoformat(),
        "run": run.id,
        "kind": run.kind,
        "udf": run.udf,
        "arguments": run.arguments,
        "principal": run.principal or None,
        "tenant": run.tenant or None,
        "trace": run.trace,
        "parent": run.parent,
        "status": "error" if problem else "success",
        "code": problem.get("code"),
        "execution_time_ms": round(run.seconds * 1000, 3),
        "rows": run.rows,
        "bytes": run.bytes,
        "billed_ms": run.billed_ms,
        "memory_used_mb": None if memory is None else round(memory / 1e6, 3),
        "cpu_ms": None if run.cpu_s is None else round(run.cpu_s * 1000, 3),
    }


def _write_lines(paths: list[Path], columns: Mapping[str, str], tenant: str, target: Path) -> Draft:
    """The lines of a tenant, or all of them for the operator, who is of none."""
    # Half a second that a server does without until it is asked for.
    from webfoot import database  # noqa: PLC0415
    from webfoot.tables.conversion import to_batches  # noqa: PLC0415
    from webfoot.tables.parquet import write  # noqa: PLC0415

    with database.opened() as connection:
        lines = database.read_lines(paths, columns, connection)
        if tenant:
            lines = lines.filter(f"tenant = {sql_text(tenant)}")
        return write(to_batches(lines), target)
