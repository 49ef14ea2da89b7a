"""Runs in this process: on Lambda, which isolates calls itself, and to debug with a breakpoint.

Nothing protects the server here: a run that takes too long is given up, and it ends with the next
line of Python that it comes to; so do DuckDB's queries. What stays inside another library goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from webfoot.billing import function_bytes
from webfoot.errors import Error, RunCancelled
from webfoot.interruption import Queries
from webfoot.results import Usage
from webfoot.runners import SPARE_CALLS, Load
from webfoot.runners.exceeded import time_exceeded
from webfoot.runners.jobs import SHARED_JOBS, UdfJob
from webfoot.runners.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from webfoot.database.calls import CallDatabase
    from webfoot.registry import Registry
    from webfoot.results import Draft
    from webfoot.runners import Calls
    from webfoot.runners.jobs import Job
    from webfoot.runners.nested import Answers
    from webfoot.runners.slots import Queue, Slot

_T = TypeVar("_T")


class InlineRunner:
    """Runs jobs on threads of this process.

    Args:
        workers: How many run at once; many times as many that only wait.
        queue: Which requests may wait.
        temp: Where DuckDB may spill.
    """

    def __init__(self, workers: int, queue: Queue, temp: Path) -> None:
        self.calls_at_once = workers + SPARE_CALLS
        self._slots = Slots(workers, queue)
        self._waiting_slots = Slots(workers * SHARED_JOBS, queue)
        self._temp = temp
        self._opening = threading.Lock()
        # What runs share, once there is one.
        self._opened = contextlib.ExitStack()
        self._is_closed = False
        self._database: CallDatabase | None = None
        self._registry: Registry | None = None

    async def run(self, job: Job, target: Path, log: Path, calls: Calls) -> Draft:  # noqa: ARG002  # prints show
        """Run `job` on a thread; its prints go where this process's go."""
        waits = isinstance(job, UdfJob) and job.udf.options.waits
        slots = self._waiting_slots if waits else self._slots
        async with slots.hold(calls.descent.depth) as slot:
            caller = _LoopCaller(calls, slot, self._registry)
            stoppable, queries = _Stoppable(), Queries()
            try:
                with (
                    anyio.fail_after(job.timeout_s),
                    contextlib.closing(caller),
                    # After the thread was told to stop: it must not go on with another query.
                    contextlib.closing(queries),
                    contextlib.closing(stoppable),
                ):
                    return await anyio.to_thread.run_sync(
                        self._execute,
                        *(stoppable, job, target, caller, queries),
                        abandon_on_cancel=True,
                        # The slots limit them: a run that waits for others must not hold a thread
                        # that these need.
                        limiter=anyio.CapacityLimiter(1),
                    )
            except TimeoutError:
                error = time_exceeded(job)
                error.usage = Usage(job.timeout_s, memory_bytes=function_bytes())
                raise error from None

    def has_room(self) -> bool:
        """Whether a job that computes would begin at once."""
        return self._slots.has_room()

    def _execute(
        self,
        stoppable: _Stoppable,
        job: Job,
        target: Path,
        caller: _LoopCaller,
        queries: Queries,
    ) -> Draft:
        # What running takes is imported by the first run: a function that answers from its store
        # starts without it. It is not stopped there: DuckDB, of which half is imported, cannot be
        # imported again.
        from webfoot import calling  # noqa: PLC0415
        from webfoot.runners.execution import execute  # noqa: PLC0415
        from webfoot.runners.meters import meter_thread  # noqa: PLC0415

        database = self._open()

        def run() -> Draft:
            with calling.through(caller), queries.watched():
                return execute(job, target, database, meter_thread(), caller)

        return stoppable.run(run)

    def _open(self) -> CallDatabase:
        from webfoot.database import sessions  # noqa: PLC0415  # likewise
        from webfoot.database.calls import CallDatabase  # noqa: PLC0415  # likewise

        with self._opening:
            if self._is_closed:  # While a run that was given up did its imports.
                raise RunCancelled("the runner was closed")
            if self._database is None:
                self._opened.enter_context(sessions.everywhere_in(self._temp))
                self._database = self._opened.enter_context(CallDatabase(self._temp))
            return self._database

    def load(self) -> Load:
        """How busy its threads are, and what this process has of memory, for all that it does."""
        import psutil  # noqa: PLC0415  # a start on Lambda goes without

        slots = (self._slots, self._waiting_slots)
        return Load(
            running=sum(each.held for each in slots),
            waiting=sum(each.waiting for each in slots),
            memory_bytes=psutil.Process().memory_info().rss,
        )

    async def use(self, registry: Registry) -> None:
        """Note what runs may call; there is nothing to make ready: a job brings its function."""
        self._registry = registry

    async def close(self) -> None:
        """Close DuckDB."""
        with self._opening:
            self._is_closed = True
            self._opened.close()


class _Stop(BaseException):
    """Ends a run that was given up; no author's `except Exception` holds it."""


class _Stoppable:
    """A function on a thread that another thread can end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._is_closed = False

    def run(self, function: Callable[[], _T]) -> _T:
        """Call `function` on this thread, unless it was stopped before."""
        with self._lock:
            if self._is_closed:
                raise _Stop
            self._thread = threading.get_ident()
        try:
            return function()
        finally:
            # Whoever has the lock may stop this thread, and nobody after it: what the thread does
            # next is not theirs.
            with self._lock:
                self._thread = None

    def close(self) -> None:
        """Stop the function, if it still runs; begin it no more."""
        import ctypes  # noqa: PLC0415  # a start on Lambda goes without

        with self._lock:
            self._is_closed = True
            if self._thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(_Stop)
                )


class _LoopCaller:
    """Makes the calls of a run that is on a thread; see `webfoot.calling.Caller`.

    Args:
        calls: Makes them, on the event loop in which the caller is made.
        slot: The run's place, which others may have meanwhile.
        registry: The UDFs that it may call.
    """

    def __init__(self, calls: Calls, slot: Slot, registry: Registry | None) -> None:
        self._calls = calls
        self._slot = slot
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._asked: set[Future[None]] = set()

    def outcomes(self, name: str, inputs: Sequence[Mapping[str, Any]]) -> Answers:
        """Have the event loop make the calls."""
        from webfoot.runners.nested import write_inputs  # noqa: PLC0415  # likewise

        return self._begin(name, write_inputs(self._registry, name, inputs), inputs)

    def file(self, name: str, query: str, seconds: float) -> Path:
        """Have it make one, for its file; see `webfoot.runners.Finder`."""
        return self._begin(name, [query], [{}]).file(seconds)

    def _begin(
        self, name: str, arguments: Sequence[str], inputs: Sequence[Mapping[str, Any]]
    ) -> Answers:
        from webfoot.runners.nested import Answers  # noqa: PLC0415  # likewise

        answers = Answers(inputs, lambda: _cancel(asked))
        asking = self._ask(name, arguments, answers)
        asked = asyncio.run_coroutine_threadsafe(asking, self._loop)
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        # Also of one that is stopped before it begins.
        asked.add_done_callback(lambda ended: answers.hear(_end(ended)))
        return answers

    async def _ask(self, name: str, arguments: Sequence[str], answers: Answers) -> None:
        told = self._calls.answers(name, arguments)
        async with self._slot.waiting(), contextlib.aclosing(told):
            async for answered in told:
                answers.hear(answered)

    def close(self) -> None:
        """Stop the calls of a run that is given up."""
        for asked in list(self._asked):
            asked.cancel()


def _cancel(asked: Future[None]) -> None:
    asked.cancel()


def _end(asked: Future[None]) -> Error | None:
    """Why the calls have ended; None if they all have their answers."""
    if asked.cancelled():
        return RunCancelled("the calls were cancelled")
    error = asked.exception()
    return error if error is None or isinstance(error, Error) else Error(f"a bug: {error!r}")
