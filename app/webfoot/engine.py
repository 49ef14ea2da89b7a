"""Calls become results: one run per call, however many ask for it, in however many processes.

    call → key → is there a fresh entry? → one flight per key → claim in the store → runner → publish

Everything here is about *when* to run. What runs, where, and how bytes are kept are other modules'.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from webfoot import runs as run_records
from webfoot.errors import (
    Error,
    InvalidParameters,
    RunCancelled,
    RunError,
    ServerBusy,
    StorageFull,
)
from webfoot.results import Call, Failure, Result
from webfoot.runners.jobs import UdfJob, ViewJob
from webfoot.runs import Run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from webfoot.definition import Udf
    from webfoot.registry import Registry
    from webfoot.runners import Runner
    from webfoot.runners.jobs import Job
    from webfoot.runs import Runs
    from webfoot.settings import Settings
    from webfoot.store import Store
    from webfoot.views import View

# A failure answers for its call this long: DuckDB's four tries take half a second, and a person who
# has mended the UDF should not wait.
FAILURE_S = 5.0
# A run that nobody waits for is kept going this long: a client that timed out tries again at once.
LINGER_S = 5.0
# A reader of byte ranges comes back within this time for its next one...
RANGE_PAUSE_S = 30.0
# ...and has read all it wants after this time at the latest.
RANGE_READ_S = 600.0


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

    def cancel_if_abandoned(self) -> None:
        if self.waiting == 0:
            self.task.cancel()


class Engine:
    """Answers calls from the store, and runs what is not there.

    Args:
        registry: The UDFs.
        store: Where results live.
        runner: Where calls run.
        runs: The records of runs.
        settings: Limits that UDFs do not set themselves.
    """

    def __init__(
        self, registry: Registry, store: Store, runner: Runner, runs: Runs, settings: Settings
    ) -> None:
        self.registry = registry
        self.runs = runs
        self._store = store
        self._runner = runner
        self._settings = settings
        self._flights: dict[str, _Flight] = {}
        # Results of runs whose askers had all gone when they ended: the next to ask takes it.
        self._unclaimed: set[str] = set()

    async def use(self, registry: Registry) -> None:
        """Answer from now on with these UDFs; runs under way go on with theirs."""
        self.registry = registry
        await self._runner.use(registry)

    async def close(self) -> None:
        """Cancel what runs."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._runner.close()

    def call(self, udf: Udf, query: Iterable[tuple[str, str]]) -> Call:
        """The call that a query string makes.

        Raises:
            InvalidParameters: If it makes none.
        """
        try:
            return Call(udf.name, udf.version, udf.parameters.from_text(query))
        except InvalidParameters as error:
            error.udf = udf.name
            raise

    def lifetime(self, udf: Udf) -> float:
        """How long results of `udf` are fresh, in seconds."""
        return self._settings.cache if udf.options.cache_s is None else udf.options.cache_s

    async def stored(self, call: Call, *, ranged: bool = False) -> Result | None:
        """The result of a call if the store has it; see `result`."""
        return self._usable(await self._store.find(call.key), ranged=ranged)

    async def result(
        self, udf: Udf, call: Call, *, ranged: bool = False, rerun: bool = False
    ) -> Answer:
        """The result of a call, run if need be.

        Args:
            udf: The UDF.
            call: The call.
            ranged: Whether only a byte range is wanted. One read makes many such requests, and they
                must all see the same bytes, even when the result has expired or was replaced since.
            rerun: Whether a fresh result will not do.

        Raises:
            Error: Why there is none.
        """
        began = time.time()
        known = None if rerun else await self.stored(call, ranged=ranged)
        if known is not None:
            return Answer(known)

        async def make() -> Result:
            return await self._claimed(call.key, lambda: self._run_udf(udf, call), ranged, began, rerun)

        result = await self._join(call.key, make)
        return Answer(result, ran=True, waited_s=time.time() - began)

    async def view(self, udf: Udf, result: Result, view: View) -> Answer:
        """A view of a result, derived if it has not been yet; see `result`."""
        view.check(result.columns)
        if view.canonical:
            return Answer(result)
        key = view.key(result)
        began = time.time()
        known = self._usable(await self._store.find(key), ranged=False)
        if known is not None:
            return Answer(known)

        async def make() -> Result:
            return await self._claimed(
                key, lambda: self._write_view(udf, key, result, view), False, began, False
            )

        return Answer(await self._join(key, make), ran=True, waited_s=time.time() - began)

    async def peek(self, call: Call, view: View) -> Result | None:
        """What a request could be answered with now, without running anything, for every reader.

        None while ranges of a replaced result may still be read: a new reader is then better served
        with the whole new one than told about ranges that would be the old one's.
        """
        entry = await self._store.find(call.key)
        if not isinstance(entry, Result) or not entry.fresh(time.time()) or self._held(entry.before):
            return None
        if view.canonical:
            return entry
        with contextlib.suppress(InvalidParameters):
            view.check(entry.columns)
            derived = await self._store.find(view.key(entry))
            return derived if isinstance(derived, Result) else None
        return None

    def _usable(self, entry: Any, *, ranged: bool) -> Result | None:
        """What `entry` answers a new request with, if anything; a remembered failure is raised."""
        now = time.time()
        if isinstance(entry, Failure) and entry.fresh(now):
            raise Error.from_problem(entry.problem)
        if not isinstance(entry, Result):
            return None
        if ranged and self._held(entry.before):
            return entry.before
        exists = self._store.last_used(entry) > 0
        if exists and (entry.fresh(now) or (ranged and self._held(entry))):
            return entry
        if exists and entry.key in self._unclaimed:
            self._unclaimed.discard(entry.key)
            return entry
        return None

    def _held(self, result: Result | None) -> bool:
        """Whether somebody may be in the middle of reading ranges of `result`."""
        if result is None:
            return False
        now = time.time()
        ended = result.created if math.isinf(result.expires) else result.expires
        return now - self._store.last_used(result) < RANGE_PAUSE_S and now - ended < RANGE_READ_S

    async def _join(self, key: str, make: Callable[[], Awaitable[Result]]) -> Result:
        """Wait for the one flight of `key`, which goes on when this request is cancelled."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(make()))
            flight.task.add_done_callback(lambda _: self._land(key))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.task.cancelled():
                raise RunCancelled("the run was stopped before it had an answer; try again") from None
            raise
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                asyncio.get_running_loop().call_later(LINGER_S, flight.cancel_if_abandoned)

    def _land(self, key: str) -> None:
        flight = self._flights.pop(key)
        if not flight.task.cancelled() and flight.task.exception() is None and not flight.waiting:
            self._unclaimed.add(key)

    async def _claimed(
        self,
        key: str,
        run: Callable[[], Awaitable[Result]],
        ranged: bool,
        began: float,
        rerun: bool,
    ) -> Result:
        """Run, unless another process has done so while this one waited for its turn."""
        async with self._store.claim(key):
            entry = await self._store.find(key)
            if entry is not None and (not rerun or entry.created > began):
                known = self._usable(entry, ranged=ranged)
                if known is None and isinstance(entry, Result) and entry.created > began:
                    known = entry
                if known is not None:
                    return known
            return await run()

    async def _run_udf(self, udf: Udf, call: Call) -> Result:
        options = udf.options
        job = UdfJob(
            udf=udf,
            arguments=call.arguments,
            timeout_s=options.timeout_s or self._settings.timeout,
            memory_bytes=options.memory_bytes or self._settings.memory,
        )
        return await self._run(job, udf, call.key, self.lifetime(udf), call.arguments)

    async def _write_view(self, udf: Udf, key: str, result: Result, view: View) -> Result:
        source = await self._store.local_path(result)
        job = ViewJob(
            view, source, result.columns, self._settings.timeout, self._settings.memory
        )
        return await self._run(job, udf, key, math.inf, "")

    async def _run(self, job: Job, udf: Udf, key: str, lifetime: float, arguments: str) -> Result:
        """One run: into the staging area, then published, or remembered as a failure."""
        extension = job.view.extension if isinstance(job, ViewJob) else "parquet"
        run = Run(run_records.new_id(), udf.name, arguments, time.time(), 0.0)
        staged = self._store.stage(run.id, extension)
        earlier = await self._store.find(key)
        executions = 1 + (earlier.executions if earlier else 0)
        try:
            draft = await self._runner.run(job, staged, self.runs.log_path(run.id))
            now = time.time()
            before = earlier if isinstance(earlier, Result) and earlier.etag != draft.etag else None
            result = Result(
                key=key,
                run=run.id,
                extension=extension,
                etag=draft.etag,
                size=draft.size,
                rows=draft.rows,
                columns=draft.columns,
                seconds=draft.seconds,
                created=now,
                expires=now + lifetime,
                executions=executions,
                before=replace(before, before=None) if before and self._held(before) else None,
            )
            await self._store.publish(result, staged)
        except Error as error:
            await self._fail(error, run, key, executions)
            raise
        finally:
            _remove(staged)
        if isinstance(job, UdfJob):
            seconds = time.time() - run.started
            self.runs.record(replace(run, seconds=seconds, rows=result.rows))
        return result

    async def _fail(self, error: Error, run: Run, key: str, executions: int) -> None:
        error.udf, error.run = run.udf, run.id
        if isinstance(error, StorageFull):
            await self._store.relieve()
        now = time.time()
        problem = error.problem() | {"traceback": error.traceback}
        if isinstance(error, RunError | InvalidParameters) and not isinstance(error, RunCancelled):
            await self._store.remember(Failure(key, problem, now, now + FAILURE_S, executions))
        if not isinstance(error, ServerBusy):
            self.runs.record(replace(run, seconds=now - run.started, problem=problem))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
