"""A line for each request, before it is answered, and as uvicorn would write it."""

from __future__ import annotations

import asyncio
import io
import logging
from typing import TYPE_CHECKING, Any

import click
import httpx
import pytest
from tests.server_process import INLINE, serve, write_udfs
from uvicorn.logging import AccessFormatter
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from webfoot.server import access_log
from webfoot.server.access_log import AccessLog, unstyled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import Message, Receive, Scope, Send

SAID = '%s - "%s %s HTTP/%s" %d'
UVICORN = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'


def scope(path: str = "/udfs/a.csv", query: bytes = b"", **more: Any) -> dict[str, Any]:
    told = {"type": "http", "method": "GET", "path": path, "query_string": query}
    return {**told, "http_version": "1.1", "client": ("127.0.0.1", 5), **more}


def logged(
    asked: Scope,
    status: int = 200,
    style: Callable[..., str] = unstyled,
    output: io.StringIO | None = None,
) -> str:
    """What is written of a request, by the time that its answer begins."""
    lines = io.StringIO() if output is None else output
    early: list[str] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": b"ok"})

    async def send(message: Message) -> None:
        early.append(lines.getvalue())

    async def receive() -> Message:
        return {"type": "http.request"}

    asyncio.run(AccessLog(answer, lines, style)(asked, receive, send))
    assert len(early) == 2
    assert early[0] == early[1] == lines.getvalue()
    return lines.getvalue()


def uvicorns(asked: Scope, status: int, *, colours: bool) -> str:
    given: Any = asked
    client, url = get_client_addr(given), get_path_with_query_string(given)
    args = (client, asked["method"], url, asked["http_version"], status)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 1, SAID, args, None)
    return AccessFormatter(UVICORN, use_colors=colours).format(record) + "\n"


@pytest.mark.parametrize("status", [101, 200, 206, 304, 404, 429, 503, 599])
@pytest.mark.parametrize(
    "asked",
    [
        scope(),
        scope("/udfs/a b/ü%.csv", b"n=1&s=%20x", method="HEAD"),
        scope(client=None, http_version="1.0"),
    ],
)
def test_a_line_is_as_uvicorn_writes_it(asked: Scope, status: int) -> None:
    assert logged(asked, status) == uvicorns(asked, status, colours=False)
    assert logged(asked, status, click.style) == uvicorns(asked, status, colours=True)


def test_secrets_are_not_in_it() -> None:
    line = logged(scope(query=b"n=1&_token=abc&password=def"))
    assert '"GET /udfs/a.csv?n=1&_token=***&password=*** HTTP/1.1" 200 OK' in line


@pytest.mark.parametrize(
    ("path", "query"), [("/a\nINFO: b\x1b[2J", b""), ("/a", b"n=\x9b2J\xff")], ids=["path", "query"]
)
def test_no_request_writes_a_line_of_its_own(path: str, query: bytes) -> None:
    line = logged(scope(path, query))
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert line.isascii()


def test_long_addresses_are_not_kept() -> None:
    access_log._shown.cache_clear()
    long = logged(scope(query=b"n=" + b"1" * 5000))
    assert "1" * 5000 in long
    assert access_log._shown.cache_info().currsize == 0
    logged(scope(query=b"n=1"))
    assert access_log._shown.cache_info().currsize == 1


def test_requests_are_answered_when_nobody_reads_the_lines_any_more() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(text)

    assert logged(scope(), output=Closed()) == ""


def test_a_server_writes_them_unless_told_not_to(tmp_path: Path) -> None:
    folder = write_udfs(
        tmp_path, numbers="from webfoot import udf\n\n@udf\ndef few(): return [{'n': 1}]\n"
    )
    with serve(folder, *INLINE) as server:
        assert httpx.get(f"{server.url}/udfs/few.csv?_token=planted").status_code == 422
        assert click.unstyle(server.printed()) == server.printed()
        assert (
            '"GET /udfs/few.csv?_token=*** HTTP/1.1" 422 Unprocessable Entity\n' in server.printed()
        )
    with serve(folder, *INLINE, "--no-access-log") as server:
        assert httpx.get(f"{server.url}/udfs/few.csv").status_code == 200
    assert "HTTP/1.1" not in server.printed()
