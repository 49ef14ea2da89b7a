"""Connections in one process: how long they may be silent, and with what they may be kept busy."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from webfoot.cli.connections import BoundedProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

PATIENCE_S = 20.0
HEAD = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer_unread(scope: Scope, receive: Receive, send: Send) -> None:  # ASGI
    """Answer at once, whatever is still to come."""
    start: dict[str, Any] = {"type": "http.response.start", "status": 200}
    await send({**start, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[Streams]:
    """A connection to a server whose connections are these."""
    config = uvicorn.Config(answer_unread, lifespan="off", log_config=None, **options)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes the connection."""
    return await asyncio.wait_for(reader.read(), PATIENCE_S)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head has to be there at once."""
    monkeypatch.setattr("webfoot.cli.connections._HEAD_S", 0.3)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD[:-2], b"\r\n"])
def test_who_begins_no_request_is_not_waited_for(sent: bytes) -> None:
    async def talk() -> bytes:
        async with connected() as (reader, writer):
            writer.write(sent)
            return await rest(reader)

    assert asyncio.run(talk()) == b""


@pytest.mark.parametrize("sent", [b"\r\n", b"GET / HTTP/1.1\r\nhost: "])
def test_an_answered_connection_is_not_kept_by_a_few_bytes(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk() -> bytes:
        async with connected() as (reader, writer):
            writer.write(HEAD)
            await reader.readuntil(b"ok")
            monkeypatch.setattr("webfoot.cli.connections._HEAD_S", 0.3)
            writer.write(sent)
            return await rest(reader)

    assert asyncio.run(talk()) == b""


def test_a_body_that_nobody_reads_is_no_head() -> None:
    body = b"x" * 400_000

    async def talk() -> bytes:
        async with connected() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body))
            first = await reader.readuntil(b"ok")
            for at in range(0, len(body), 50_000):
                writer.write(body[at : at + 50_000])
                await writer.drain()
            writer.write(HEAD.replace(b"here", b"here\r\nconnection: close"))
            return first + await rest(reader)

    assert asyncio.run(talk()).count(b"HTTP/1.1 200 OK") == 2


def test_requests_one_after_the_other_are_all_answered() -> None:
    async def talk() -> int:
        async with connected() as (reader, writer):
            writer.write(HEAD * 20)
            for _ in range(20):
                await reader.readuntil(b"ok")
            for _ in range(20):
                for at in range(0, len(HEAD), 7):
                    writer.write(HEAD[at : at + 7])
                    await writer.drain()
                await reader.readuntil(b"ok")
            return 40

    assert asyncio.run(talk()) == 40


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nx: " + b"x" * 70_000, b"414"),
        (HEAD[:-2] + b"x: " + b"x" * 140_000, b"431"),
        (b"what\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(
    sent: bytes, status: bytes
) -> None:
    async def talk() -> bytes:
        async with connected() as (reader, writer):
            writer.write(sent)
            return await rest(reader)

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 " + status)
