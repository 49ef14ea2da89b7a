"""A TCP proxy that puts a round trip and a bandwidth between a client and a server.

Every chunk is stamped with the time at which it would arrive and written then, so that delay
never limits throughput. Loopback connects at once; the proxy makes up for it by counting what the
client sends as sent one round trip after the connection was made, as after a real handshake.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.processes import HOST, free_port, running, wait_for_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SEGMENT = 1460
"""Bytes in one TCP segment on an Ethernet path."""
INITIAL_WINDOW = 10 * SEGMENT
"""What a sender may send before the first acknowledgement. Source: RFC 6928."""


@dataclass
class Link:
    """One direction of the path, shared by all its connections."""

    delay_s: float
    mbit: float
    slow_start: bool = False
    free_at: float = 0.0

    @property
    def chunk(self) -> int:
        """Bytes to carry at once: about a millisecond of the bandwidth."""
        if self.slow_start:
            return 4 * SEGMENT
        return min(max(int(self.mbit * 125), 4 * SEGMENT), 1 << 16) if self.mbit else 1 << 16

    @property
    def depth(self) -> int:
        """Chunks under way on one connection: twice what fills the path, at least a megabyte."""
        return max(1 << 20, int(self.mbit * 125_000 * self.delay_s * 4)) // self.chunk

    def arrival(self, size: int) -> float:
        """Book the link for `size` bytes now; gives the time their last byte arrives."""
        now = time.monotonic()
        self.free_at = max(self.free_at, now) + (size * 8e-6 / self.mbit if self.mbit else 0)
        return self.free_at + self.delay_s


@dataclass
class Window:
    """How much one connection may have under way: TCP's slow start, without losses."""

    round_trip_s: float
    size: int = INITIAL_WINDOW
    under_way: int = 0
    acks: deque[tuple[float, int]] = field(default_factory=deque)

    def opens_at(self, now: float) -> float:
        """When more may be sent; a chunk may overshoot the window, as it is not split."""
        at = now
        while self.acks and (self.acks[0][0] <= now or self.under_way >= self.size):
            acked_at, acked = self.acks.popleft()
            self.under_way -= acked
            self.size += acked
            at = max(at, acked_at)
        return at

    def sent(self, size: int, arrives_at: float) -> None:
        """Note bytes whose acknowledgement comes half a round trip after they arrive."""
        self.under_way += size
        self.acks.append((arrives_at + self.round_trip_s / 2, size))


async def until(moment: float) -> None:
    """Sleep until a time of the monotonic clock."""
    await asyncio.sleep(max(0, moment - time.monotonic()))


async def carry(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, link: Link, not_before: float
) -> None:
    """Carry one direction of one connection over a link."""
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(link.depth)
    window = Window(2 * link.delay_s) if link.slow_start else None

    async def deliver() -> None:
        while True:
            due, data = await queue.get()
            await until(due)
            if not data:
                break
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()

    async def accept() -> None:
        while True:
            data = await source.read(link.chunk)
            await until(not_before)
            if window:
                await until(window.opens_at(time.monotonic()))
            due = link.arrival(len(data))
            if window:
                window.sent(len(data), due)
            await queue.put((due, data))
            if not data:
                return

    async with asyncio.TaskGroup() as group:
        group.create_task(deliver())
        group.create_task(accept())


async def serve(port: int, target_port: int, link: Link) -> None:
    """Listen on `port` and carry every connection to `target_port`, until cancelled."""
    up = Link(link.delay_s, link.mbit, link.slow_start)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        established = time.monotonic() + 2 * link.delay_s
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, target_port)
        except OSError:
            writer.close()
            return
        with contextlib.suppress(ExceptionGroup, ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(carry(reader, server_writer, up, established))
                group.create_task(carry(server_reader, writer, link, established))
        for end in (writer, server_writer):
            end.close()

    async with await asyncio.start_server(connect, HOST, port, backlog=1024) as server:
        await server.serve_forever()


@contextlib.contextmanager
def proxied(url: str, *, rtt_ms: float, mbit: float, slow_start: bool = False) -> Iterator[str]:
    """Put a path in front of a base URL; gives the base URL on the far side of it.

    Args:
        url: Base URL of a server on this machine.
        rtt_ms: Round trip in milliseconds.
        mbit: Bandwidth each way in Mbit/s; 0 for no limit.
        slow_start: Also let each connection's window grow from ten segments, as TCP does.
    """
    port = free_port()
    command = [
        *(sys.executable, "-m", "bench.proxy", str(port), str(urlsplit(url).port)),
        *("--rtt-ms", str(rtt_ms), "--mbit", str(mbit)),
        *(["--slow-start"] if slow_start else []),
    ]
    with running(command) as child:
        wait_for_port(child, port)
        yield f"http://{HOST}:{port}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("target_port", type=int)
    parser.add_argument("--rtt-ms", type=float, default=40)
    parser.add_argument("--mbit", type=float, default=100)
    parser.add_argument("--slow-start", action="store_true")
    args = parser.parse_args()
    link = Link(args.rtt_ms / 2000, args.mbit, args.slow_start)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(args.port, args.target_port, link))


if __name__ == "__main__":
    main()
