"""The server's end of the conversation with one worker: many jobs at once, each with its answer.

A job's messages carry its number. The worker answers each job once; until then it may ask for
calls (`ask`), whose answers it is told one by one, and stop what it asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from webfoot.errors import Error, RunCancelled
from webfoot.runners import frames

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from webfoot.runners import Calls
    from webfoot.runners.slots import Slot

# An answer is a small record: what is longer did not come from our code.
_MOST_ANSWER = 64_000_000


class Channel(asyncio.Protocol):
    """A conversation over one socket; see `open_channel`."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._numbers = itertools.count()
        self._orders: dict[int, _Order] = {}
        self._transport: asyncio.Transport | None = None
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        # Not `isinstance`: uvloop's are of its own class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand whole messages to the jobs that they are for."""
        self._received += data
        try:
            while (message := self._next()) is not None:
                order = self._orders.get(message["job"])
                if order is not None:
                    order.hear(message)
        except (ValueError, KeyError, TypeError):
            self.close()

    def _next(self) -> dict[str, Any] | None:
        """Take the next message from what has been received, if it is there whole."""
        begin = frames.LENGTH_BYTES
        if len(self._received) < begin:
            return None
        end = begin + frames.length(bytes(self._received[:begin]))
        if end > _MOST_ANSWER:
            raise ValueError(f"a message of {end} bytes")
        if len(self._received) < end:
            return None
        message = frames.unpack(bytes(self._received[begin:end]))
        del self._received[:end]
        return message

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio gives it
        """Tell every job."""
        self._lost = True
        for order in self._orders.values():
            order.lose()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; to a worker that has gone, nothing."""
        if self._transport is not None and not self._lost:
            self._transport.write(frames.pack(message))

    def close(self) -> None:
        """End the conversation."""
        if self._transport is not None:
            self._transport.abort()

    @contextlib.contextmanager
    def order(
        self, message: Mapping[str, Any], calls: Calls, slot: Slot
    ) -> Iterator[asyncio.Future[dict[str, Any] | None]]:
        """Give the worker a job, and make the calls that it asks for.

        Args:
            message: The job.
            calls: Makes them; what is under way is stopped in the end.
            slot: What the job gives back while it waits for them.

        Returns:
            The worker's answer; None if it ended instead.
        """
        job = next(self._numbers)
        order = _Order(job, self.send, calls, slot)
        self._orders[job] = order
        try:
            if self._lost:
                order.lose()
            self.send({**message, "job": job})
            yield order.answer
        finally:
            del self._orders[job]
            order.close()


class _Order:
    """One job that the worker has been given."""

    def __init__(
        self, job: int, send: Callable[[Mapping[str, Any]], None], calls: Calls, slot: Slot
    ) -> None:
        self.answer: asyncio.Future[dict[str, Any] | None]
        self.answer = asyncio.get_running_loop().create_future()
        self._job = job
        self._send = send
        self._calls = calls
        self._slot = slot
        self._asked: dict[int, asyncio.Task[None]] = {}

    def hear(self, said: dict[str, Any]) -> None:
        """Take what the worker says of the job."""
        if "stop" in said:
            if said["stop"] in self._asked:
                self._asked[said["stop"]].cancel()
        elif "ask" in said:
            number = said["ask"]
            about = {"job": self._job, "ask": number}
            self._asked[number] = task = asyncio.ensure_future(self._make_calls(about, said))
            # Also of one that is stopped before it begins.
            task.add_done_callback(lambda _: self._asked.pop(number, None))
            task.add_done_callback(partial(self._end, about))
        elif not self.answer.done():
            self.answer.set_result(said)

    def lose(self) -> None:
        """There will be no answer."""
        if not self.answer.done():
            self.answer.set_result(None)

    def close(self) -> None:
        """Want no answer any more, and stop the calls that are under way."""
        self.answer.cancel()
        for task in self._asked.values():
            task.cancel()

    async def _make_calls(self, about: dict[str, Any], asked: dict[str, Any]) -> None:
        """Make the calls of one `ask`."""
        answers = self._calls.answers(asked["udf"], asked["arguments"])
        async with self._slot.waiting(), contextlib.aclosing(answers):
            async for answer in answers:
                self._send(about | frames.write_answered(answer))

    def _end(self, about: dict[str, Any], calling: asyncio.Task[None]) -> None:
        """Say that the calls of one `ask` have ended: the run must not wait for ever."""
        if calling.cancelled():
            problem = RunCancelled("the calls were cancelled").problem()
        elif (error := calling.exception()) is None:
            self._send(about | {"end": True})
            return
        elif isinstance(error, Error):
            problem = error.problem() | {"traceback": error.traceback}
        else:
            problem = Error(f"a bug in Webfoot: {error!r}").problem()
        self._send(about | {"problem": problem})


async def open_channel(connected: socket.socket) -> Channel:
    """Begin the conversation over a connected socket, which it closes in the end."""
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(Channel, sock=connected)
    return channel
