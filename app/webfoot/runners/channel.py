"""The server's end of the conversation with one worker: many jobs at once, each with its answer.

A job's messages carry its number. The worker answers each job once; until then it may ask for
calls (`ask`), and is told their answers one by one.
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
    from collections.abc import Callable, Mapping

    from webfoot.runners import Calls
    from webfoot.runners.slots import Slot

# An answer is a small record: what is longer did not come from our code.
_MOST_ANSWER = 64_000_000


class Crash(Exception):
    """The worker's end of the conversation closed, or makes no sense."""


class Channel(asyncio.Protocol):
    """A conversation over one socket; see `open_channel`."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._numbers = itertools.count()
        self._listeners: dict[int, Callable[[dict[str, Any] | None], None]] = {}
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
                listener = self._listeners.get(message["job"])
                if listener is not None:
                    listener(message)
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
        for listener in list(self._listeners.values()):
            listener(None)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; to a worker that has gone, nothing."""
        if self._transport is not None and not self._lost:
            self._transport.write(frames.pack(message))

    def close(self) -> None:
        """End the conversation."""
        if self._transport is not None:
            self._transport.abort()

    async def order(self, message: Mapping[str, Any], calls: Calls, slot: Slot) -> dict[str, Any]:
        """Give the worker a job, make the calls that it asks for, and wait for its answer.

        Raises:
            Crash: If the worker ended instead.
        """
        job = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        asked: dict[int, asyncio.Task[None]] = {}

        def listen(said: dict[str, Any] | None) -> None:
            if said is None:
                if not answer.done():
                    answer.set_exception(Crash())
            elif "stop" in said:
                if said["stop"] in asked:
                    asked[said["stop"]].cancel()
            elif "ask" in said:
                number = said["ask"]
                answering = self._answer({"job": job, "ask": number}, said, calls, slot)
                asked[number] = task = asyncio.ensure_future(answering)
                # Also of one that is stopped before it begins.
                task.add_done_callback(lambda _: asked.pop(number, None))
                task.add_done_callback(partial(self._end, {"job": job, "ask": number}))
            elif not answer.done():
                answer.set_result(said)

        if self._lost:
            raise Crash
        self._listeners[job] = listen
        try:
            self.send({**message, "job": job})
            return await answer
        finally:
            del self._listeners[job]
            for task in asked.values():
                task.cancel()

    async def _answer(
        self, about: dict[str, Any], asked: dict[str, Any], calls: Calls, slot: Slot
    ) -> None:
        """Make the calls of one `ask`."""
        answers = calls.answers(asked["udf"], asked["arguments"])
        async with slot.waiting(), contextlib.aclosing(answers):
            async for answer in answers:
                self.send(about | frames.write_answered(answer))

    def _end(self, about: dict[str, Any], answering: asyncio.Task[None]) -> None:
        """Say that the calls of one `ask` have ended: the run must not wait for ever."""
        if answering.cancelled():
            problem = RunCancelled("the calls were cancelled").problem()
        elif (error := answering.exception()) is None:
            self.send(about | {"end": True})
            return
        elif isinstance(error, Error):
            problem = error.problem() | {"traceback": error.traceback}
        else:
            problem = Error(f"a bug in Webfoot: {error!r}").problem()
        self.send(about | {"problem": problem})


async def open_channel(connected: socket.socket) -> Channel:
    """Begin the conversation over a connected socket, which it closes in the end."""
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(Channel, sock=connected)
    return channel
