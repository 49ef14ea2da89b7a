"""Whose turn it is: as many runs at once as there are slots, and no run waits for itself.

A run that calls other UDFs gives its slot back while it waits for them, so that they can run at
any depth, with one slot as with many. What it holds meanwhile is its process: so calls made by
such runs go before new requests, and at some number of waiting runs no new request begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.errors import ServerBusy
from webfoot.quantities import write_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

# Runs that wait for others cost a process each; from this many a slot on, no request begins anew.
_WAITING_A_SLOT = 4
# How much the last turn counts for the pace of a queue, beside all those before it.
_NEWEST = 0.1


@dataclass(frozen=True)
class Queue:
    """How many requests may wait for their turn, and how long.

    Args:
        most: How many.
        most_s: How long it may seem to take, in seconds, when a request comes. Who has begun to
            wait is not sent away.
    """

    most: int
    most_s: float = math.inf


class Slot:
    """The place of one run; see `Slots.hold`."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._waits = 0

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Let others have the slot while the run waits for calls that it has made."""
        self._waits += 1
        if self._waits == 1:
            self._slots.lend()
        try:
            yield
        finally:
            self._waits -= 1
            if self._waits == 0:
                await self._slots.take_back()


class Slots:
    """A number of slots, and a queue before them.

    Args:
        count: How many runs may be under way, apart from those that wait for others.
        queue: Which requests may wait; calls made by runs always may.
        clock: Tells the time, in seconds.
    """

    def __init__(
        self, count: int, queue: Queue, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = self._free = count
        self._queue = queue
        self._clock = clock
        self._requests: deque[asyncio.Future[None]] = deque()
        # Calls made by runs, the deepest first: they end the waiting of those before them.
        self._calls: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._lent = 0
        self._turn_of_request = False
        # When a request had its turn last; and how long after the one before it that is, usually.
        self._moved = clock()
        self._pace_s = 0.0

    @contextlib.asynccontextmanager
    async def hold(self, depth: int) -> AsyncIterator[Slot]:
        """Wait for a slot, and have it.

        Args:
            depth: How deep in other calls the run is; 0 for what a request asks for itself.

        Raises:
            ServerBusy: If too many requests wait already, or for too long.
        """
        if depth == 0:
            self._check_queue()
        await self._acquire(depth)
        try:
            yield Slot(self)
        finally:
            self._release()

    @property
    def held(self) -> int:
        """How many slots are held."""
        return self._count - self._free

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        turns = [*self._requests, *(turn for _, _, turn in self._calls)]
        return sum(not turn.done() for turn in turns)

    def has_room(self) -> bool:
        """Whether whoever comes now has a slot at once."""
        return self._free > len(self._calls) + len(self._requests)

    def lend(self) -> None:
        """Count a run as waiting, and its slot as free."""
        self._lent += 1
        self._release()

    async def take_back(self) -> None:
        """Have a slot again, before all others."""
        try:
            await self._acquire(math.inf)
        except asyncio.CancelledError:
            # Whoever holds a slot gives it back in the end, and so must have it until then.
            self._free -= 1
            raise
        finally:
            self._lent -= 1
            self._serve()

    def _check_queue(self) -> None:
        """Refuse a request that is one too many, while that is of use to who makes it."""
        waiting = len(self._requests)
        # If nothing has had its turn for longer than usual, that is the pace now.
        pace_s = max(self._pace_s, self._clock() - self._moved)
        told = f"{self._count} calls run and {waiting} wait"
        if waiting >= self._queue.most:
            raise ServerBusy(
                f"{told}; try again in a moment", retry_after_s=max(math.ceil(pace_s), 1)
            )
        if waiting * pace_s > self._queue.most_s:
            late_s = waiting * pace_s - self._queue.most_s
            raise ServerBusy(
                f"{told}: one more would wait about {write_seconds(round(waiting * pace_s))}, and"
                f" at most {write_seconds(self._queue.most_s)} is waited; try again later",
                retry_after_s=math.ceil(late_s),
            )

    async def _acquire(self, depth: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if depth == 0:
            self._requests.append(turn)
        else:
            heapq.heappush(self._calls, (-depth, next(self._numbers), turn))
        self._serve()
        waited = not turn.done()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()
            elif turn in self._requests:
                self._requests.remove(turn)  # It counts no more among those who wait.
            raise
        if depth == 0:
            self._note_turn(waited=waited)

    def _note_turn(self, *, waited: bool) -> None:
        now = self._clock()
        if waited:
            self._pace_s += _NEWEST * (now - self._moved - self._pace_s)
        self._moved = now

    def _release(self) -> None:
        self._free += 1
        self._serve()

    def _serve(self) -> None:
        while self._free > 0 and (turn := self._next()) is not None:
            self._free -= 1
            turn.set_result(None)

    def _next(self) -> asyncio.Future[None] | None:
        while self._requests and self._requests[0].done():
            self._requests.popleft()
        while self._calls and self._calls[0][2].done():
            heapq.heappop(self._calls)
        # If nothing runs, what the waiting runs wait for may be among the requests.
        may_begin = self._lent < self._count * _WAITING_A_SLOT or self._free == self._count
        if not self._calls:
            return self._requests.popleft() if self._requests and may_begin else None
        resumes = self._calls[0][0] == -math.inf
        if self._requests and may_begin and not resumes:
            # By turns, so that a large fan-out does not shut everybody else out.
            self._turn_of_request = not self._turn_of_request
            if self._turn_of_request:
                return self._requests.popleft()
        return heapq.heappop(self._calls)[2]
