"""A tap on the wire: carries connections to a server and notes every request it sees."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self
from urllib.parse import urlsplit

from bench.processes import HOST


class Tap:
    """Listens in front of a base URL while the block runs.

    Attributes:
        url: The base URL to use instead.
        requests: Method and range of each request so far, such as `GET bytes=0-9`.
    """

    def __init__(self, url: str) -> None:
        self.requests: list[str] = []
        self.url = ""
        self._target_port = urlsplit(url).port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._connect, HOST, 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.url = f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_all(self) -> None:
        """Let connections end, as they do when their session closes; cancel what does not."""
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            _, open_still = await asyncio.wait(others, timeout=1)
            for task in open_still:
                task.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(HOST, self._target_port)
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(reader, server_writer))
                group.create_task(_down(server_reader, writer))
        writer.close()
        server_writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry requests, none of which has a body."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                method = lines[0].split(" ", 1)[0]
                self.requests.append(f"{method} {headers.get('range', '')}".strip())
                writer.write(head)
        writer.write_eof()


async def _down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
