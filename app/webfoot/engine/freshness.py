"""What of the store answers a request: a fresh result, or one of those that stand for it a while.

A stale result goes on answering those who read ranges of it, and the next to ask if those who had
asked for it had all gone when it came. A failure answers for its call for a moment.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from webfoot.errors import Error, InvalidParameters
from webfoot.results import Failure

if TYPE_CHECKING:
    from webfoot.results import Known, Result
    from webfoot.store import Store
    from webfoot.views import View

# A failure answers for its call this long: DuckDB's four tries take half a second, Polars' nearly
# ten, and a person who has mended the UDF has a new version, whose calls are others.
FAILURE_S = 10.0
# A reader of byte ranges comes back within this time for its next one...
RANGE_PAUSE_S = 30.0
# ...and has read all it wants after this time at the latest.
RANGE_READ_S = 600.0
# A result whose askers had all gone answers the next to ask, even stale, this long.
UNCLAIMED_S = 30.0


@dataclass(frozen=True)
class Wanted:
    """What a request waits for.

    Args:
        key: Under what it is kept.
        asked: When it was asked for, in seconds since 1970.
        since: What was made before will not do, likewise; minus infinity for whatever is fresh,
            infinity for nothing that the store may have.
        ranged: Whether only a byte range is wanted.
    """

    key: str
    asked: float
    since: float
    ranged: bool

    @staticmethod
    def now(key: str, *, ranged: bool = False, rerun: bool = False) -> Wanted:
        """What a request wants that comes now; if `rerun`, whatever is made from now on."""
        asked = time.time()
        return Wanted(key, asked, asked if rerun else -math.inf, ranged)

    @property
    def flight(self) -> str:
        """What tells the run that it may join from others."""
        return f"{self.key} anew" if self.since == math.inf else self.key


class Unclaimed:
    """Results whose askers had all gone when they came: the next to ask takes each of them."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def add(self, key: str) -> None:
        """Note that one has come."""
        now = time.monotonic()
        self._since = {old: at for old, at in self._since.items() if now - at < UNCLAIMED_S}
        self._since[key] = now

    def take(self, key: str) -> None:
        """Note that it, or a later one in its place, has been taken."""
        self._since.pop(key, None)

    def __contains__(self, key: str) -> bool:
        return time.monotonic() - self._since.get(key, -math.inf) < UNCLAIMED_S


class Freshness:
    """Says what of the store answers.

    Args:
        store: Has the results.
        unclaimed: Those that nobody has taken.
    """

    def __init__(self, store: Store, unclaimed: Unclaimed) -> None:
        self._store = store
        self._unclaimed = unclaimed

    async def known(self, key: str, *, ranged: bool) -> Result | None:
        """What answers a new request, if anything; see `Wanted` for `ranged`.

        Raises:
            Error: Why the last run failed, if that was a moment ago.
        """
        before = await self._store.find(key)
        known = await self._choose(before.result, ranged, -math.inf)
        if known is None:
            _refuse(before, -math.inf)
        return known

    async def known_by_now(self, wanted: Wanted, before: Known) -> Result | None:
        """What answers a request that has waited for its turn to run.

        Args:
            wanted: What it waits for.
            before: What the store has now.

        Raises:
            Error: Why the last run failed, if that was a moment ago.
        """
        result = before.result
        known = await self._choose(result, wanted.ranged, wanted.since)
        if known is not None:
            return known
        _refuse(before, wanted.since)
        # Stale already, but made since the request was: it was waiting for that run.
        if result is None or result.created <= max(wanted.asked, wanted.since):
            return None
        return result if await self._there(result) else None

    async def latest(self, key: str) -> Result | None:
        """The newest result, fresh or not; None if there is none."""
        result = await self._find(key)
        return result if result is not None and await self._there(result) else None

    async def peek(self, key: str, view: View) -> Result | None:
        """What would answer every new reader of a view of a result; see `Engine.peek`."""
        result = await self._find(key)
        if result is None or not result.fresh(time.time()) or await self._held(result.before):
            return None
        shown: Result | None = result
        if not view.canonical:
            shown = None
            with contextlib.suppress(InvalidParameters):
                view.check(result.columns)
                shown = await self._find(view.key(result))
        return shown if shown is not None and await self._there(shown) else None

    async def replaced(self, earlier: Result | None, etag: str, now: float) -> Result | None:
        """What readers of ranges go on with when a result of other bytes takes its place.

        Args:
            earlier: The result that is replaced.
            etag: What the bytes in its place have.
            now: When, in seconds since 1970.
        """
        if earlier is None:
            return None
        if await self._held(earlier.before):
            return earlier.before  # Nobody has begun to read ranges of `earlier` itself.
        ended = replace(earlier, before=None, expires=min(earlier.expires, now))
        return ended if ended.etag != etag and await self._held(ended) else None

    async def remember(self, key: str, problem: dict[str, Any], executions: int) -> None:
        """Have a failure answer for its call; see `Failure`."""
        now = time.time()
        await self._store.remember(Failure(key, problem, now, now + FAILURE_S, executions))

    async def _find(self, key: str) -> Result | None:
        """The newest result, fresh or not, there or evicted."""
        return (await self._store.find(key)).result

    async def _choose(self, result: Result | None, ranged: bool, since: float) -> Result | None:
        """The result, made after `since`, that answers a new request."""
        if result is None or result.created <= since:
            return None
        if ranged and await self._held(result.before):
            return result.before
        if not await self._there(result):
            return None
        fresh = result.fresh(time.time()) or (ranged and await self._held(result))
        if not fresh and result.key not in self._unclaimed:
            return None
        self._unclaimed.take(result.key)
        return result

    async def _there(self, result: Result) -> bool:
        return await self._store.last_used(result) > 0

    async def _held(self, result: Result | None) -> bool:
        """Whether somebody may be in the middle of reading ranges of `result`."""
        if result is None:
            return False
        now = time.time()
        idle = abs(now - await self._store.last_used(result))
        return idle < RANGE_PAUSE_S and now - result.expires < RANGE_READ_S


def _refuse(before: Known, since: float) -> None:
    """Raise a failure that is remembered, newer than the result and than `since`."""
    failure, result, now = before.failure, before.result, time.time()
    if (
        failure is not None
        and failure.fresh(now)
        # A clock that was set back must not prolong it.
        and failure.created < now + FAILURE_S
        and failure.created > max(since, result.created if result else since)
    ):
        raise Error.from_problem(failure.problem)
