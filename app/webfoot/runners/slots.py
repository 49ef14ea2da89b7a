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
from collections import deque
from typing import TYPE_CHECKING

from webfoot.errors import ServerBusy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Runs that wait for others cost a process each; from this many a slot on, no request begins anew.
_WAITING_A_SLOT = 4


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
        queue: How many requests may wait; calls made by runs always may.
    """

    def __init__(self, count: int, queue: int) -> None:
        self._count = self._free = count
        self._most_queued = queue
        self._requests: deque[asyncio.Future[None]] = deque()
        # Calls made by runs, the deepest first: they end the waiting of those before them.
        self._calls: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._lent = 0
        self._turn_of_request = False

    @contextlib.asynccontextmanager
    async def hold(self, depth: int) -> AsyncIterator[Slot]:
        """Wait for a slot, and have it.

        Args:
            depth: How deep in other calls the run is; 0 for what a request asks for itself.

        Raises:
            ServerBusy: If too many requests wait already.
        """
        if depth == 0 and len(self._requests) >= self._most_queued:
            raise ServerBusy(
                f"{self._count} calls run and {len(self._requests)} wait; try again in a moment",
                retry_after_s=1,
            )
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

    async def _acquire(self, depth: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if depth == 0:
            self._requests.append(turn)
        else:
            heapq.heappush(self._calls, (-depth, next(self._numbers), turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()
            raise

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
