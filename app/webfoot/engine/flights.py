"""One run per key, however many ask: one flight in this process, one claim among all processes."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.errors import RunCancelled, StorageFull

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from webfoot.engine.freshness import Freshness, Unclaimed, Wanted
    from webfoot.results import Known, Result
    from webfoot.store import Store


@dataclass(frozen=True)
class Answer:
    """A result, and what it took.

    Args:
        result: The result.
        ran: Whether a run was made for, or joined by, this request.
        waited_s: How long the request waited for it, in seconds.
    """

    result: Result
    ran: bool = False
    waited_s: float = 0.0


class _Flight:
    """One run under way, and how many wait for it."""

    def __init__(self, task: asyncio.Task[Result]) -> None:
        self.task = task
        self.waiting = 0
        self._ending: asyncio.TimerHandle | None = None

    def join(self) -> None:
        self.waiting += 1
        if self._ending is not None:
            self._ending.cancel()

    def leave(self, linger_s: float) -> None:
        self.waiting -= 1
        if self.waiting == 0 and not self.task.done():
            self._ending = asyncio.get_running_loop().call_later(linger_s, self.task.cancel)


class Flights:
    """The runs that are waited for here.

    Args:
        store: Where each is claimed among all processes that share it.
        freshness: Says what of it answers when the claim is had.
        unclaimed: Notes what comes when nobody waits any more.
    """

    def __init__(self, store: Store, freshness: Freshness, unclaimed: Unclaimed) -> None:
        self._store = store
        self._freshness = freshness
        self._unclaimed = unclaimed
        self._flights: dict[str, _Flight] = {}

    async def answer(
        self, wanted: Wanted, run: Callable[[Known], Awaitable[Result]], linger_s: float
    ) -> Answer:
        """What is stored of what is wanted, or what `run` makes of it; see `join`."""
        if wanted.since == -math.inf:
            known = await self._freshness.known(wanted.key, ranged=wanted.ranged)
            if known is not None:
                return Answer(known)
        made = await self.join(wanted, run, linger_s)
        return Answer(made, ran=True, waited_s=time.time() - wanted.asked)

    async def join(
        self, wanted: Wanted, run: Callable[[Known], Awaitable[Result]], linger_s: float
    ) -> Result:
        """Wait for the one run of what is wanted, which goes on when this request is cancelled.

        Args:
            wanted: What is wanted.
            run: Makes it, of what the store has of it, unless somebody else does.
            linger_s: How long the run goes on when this was the last to wait for it, in seconds.

        Raises:
            RunCancelled: If somebody has stopped the run.
        """
        key = wanted.flight
        while (flight := self._flights.get(key)) is not None and flight.task.cancelling():
            await asyncio.wait([flight.task])  # Too late to join it.
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(self._claim(wanted, run)))
            flight.task.add_done_callback(lambda _: self._land(key))
        flight.join()
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if flight.task.cancelled() and not (asker and asker.cancelling()):
                raise RunCancelled("the run was stopped before it ended; try again") from None
            raise
        finally:
            flight.leave(linger_s)

    async def stop(self, key: str) -> None:
        """Stop the run that is under way for a key, if there is one."""
        flight = self._flights.get(key)
        if flight is not None:
            flight.task.cancel()
            await asyncio.wait((flight.task,))

    async def close(self) -> None:
        """Stop them all."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _land(self, key: str) -> None:
        flight = self._flights.pop(key)
        self._unclaimed.take(key)
        if not flight.task.cancelled() and flight.task.exception() is None and not flight.waiting:
            self._unclaimed.add(key)

    async def _claim(self, wanted: Wanted, run: Callable[[Known], Awaitable[Result]]) -> Result:
        """Run, unless another process has done so while this one waited for its turn."""
        try:
            async with self._store.claim(wanted.key):
                before = await self._store.find(wanted.key)
                known = await self._freshness.known_by_now(wanted, before)
                return await run(before) if known is None else known
        except StorageFull:
            await self._store.relieve()
            raise
