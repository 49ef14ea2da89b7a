"""One job in a worker: within its limits, watched from outside, and what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webfoot.billing import function_bytes
from webfoot.quantities import write_size
from webfoot.results import Usage
from webfoot.runners import frames, prints
from webfoot.runners.exceeded import crashed, memory_exceeded, time_exceeded
from webfoot.runs import LOG_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webfoot.errors import Error, UdfCrashed
    from webfoot.results import Draft
    from webfoot.runners import Calls
    from webfoot.runners.jobs import Job
    from webfoot.runners.slots import Slot
    from webfoot.runners.worker_process import WorkerProcess

# How often a run's memory is looked at. Children are looked for less often: it costs milliseconds.
_WATCH_S = 0.05
_WATCH_CHILDREN_EVERY = 20


class Crash(Exception):
    """The worker ended, or what it says makes no sense.

    Args:
        usage: What the run took until then, as far as it was watched.
    """

    def __init__(self, usage: Usage) -> None:
        super().__init__()
        self._usage = usage

    def told(self, job: Job, ended: str) -> UdfCrashed:
        """The error for who waits for `job`; `ended` says how the process did."""
        error = crashed(job, ended)
        error.usage = self._usage
        return error


async def supervise(
    worker: WorkerProcess, job: Job, message: dict[str, Any], calls: Calls, slot: Slot
) -> dict[str, Any]:
    """Have a worker run a job, within its limits.

    Args:
        worker: The worker.
        job: The job.
        message: How the worker is told of it.
        calls: Makes the calls of the run.
        slot: The place of the run.

    Returns:
        What `read_answer` reads.

    Raises:
        Crash: If the worker ended instead.
        MemoryExceeded: If it used too much memory; it still does.
        UdfTimeout: If the job takes too long; it still runs.
    """
    channel = await worker.channel()
    with (
        channel.order(message, calls, slot) as answer,
        _watching(answer, worker, job, Path(message["log"])) as watched,
    ):
        return _checked(await answer, watched)


def read_answer(answer: dict[str, Any]) -> Draft:
    """What a worker has written.

    Raises:
        Error: Why there is nothing.
    """
    if "problem" in answer:
        error = frames.read_error(answer)
        error.usage = error.usage and _with_children(error.usage, answer["peak_bytes"])
        raise error
    draft = frames.read_draft(answer["draft"])
    return replace(draft, usage=_with_children(draft.usage, answer["peak_bytes"]))


def _with_children(usage: Usage, seen_bytes: int) -> Usage:
    """What a run says of itself, with what was seen from outside: its children's memory, too."""
    return replace(usage, memory_bytes=max(usage.memory_bytes or 0, seen_bytes) or None)


class _Watched:
    """What is seen of a run from outside: it measures itself, unless it is killed."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.peak_bytes = 0

    def usage(self) -> Usage:
        """What it has taken so far; its memory only if anybody has looked yet."""
        memory = function_bytes() or self.peak_bytes or None
        return Usage(time.perf_counter() - self._began, memory_bytes=memory)


def _checked(answer: dict[str, Any] | None, watched: _Watched) -> dict[str, Any]:
    """The answer, if it is one: a run that finds the socket can write anything."""
    if answer is None:
        raise Crash(watched.usage())
    told = answer.get("draft", answer.get("problem"))
    spoilt, used_bytes = answer.get("spoilt"), answer.get("used_bytes")
    if not (isinstance(told, dict) and isinstance(spoilt, bool) and isinstance(used_bytes, int)):
        raise Crash(watched.usage())
    return answer | {"peak_bytes": watched.peak_bytes}


@contextlib.contextmanager
def _watching(
    answer: asyncio.Future[Any], worker: WorkerProcess, job: Job, log: Path
) -> Iterator[_Watched]:
    """Look now and then whether a run is within its limits; if not, its answer is an error.

    With timers, not with a task of its own for each run, of which there are thousands.
    """
    # It begins before the time limit does: who runs out of time has taken all of it.
    loop, watched = asyncio.get_running_loop(), _Watched()
    ends, looks = loop.time() + job.timeout_s, itertools.count(1)
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if answer.done():
            return
        used = worker.used_bytes(children=next(looks) % _WATCH_CHILDREN_EVERY == 0)
        watched.peak_bytes = max(watched.peak_bytes, used)
        error = _exceeded(job, used, loop.time() >= ends)
        if error is not None:
            error.usage = watched.usage()
            answer.set_exception(error)
            return
        prints.show(worker.printed, log)
        shorten(log, 2 * LOG_BYTES)
        timer = schedule()

    def schedule() -> asyncio.TimerHandle:
        return loop.call_later(max(min(_WATCH_S, ends - loop.time()), 0.0), look)

    timer = schedule()
    try:
        yield watched
    finally:
        timer.cancel()


def _exceeded(job: Job, used: int, is_late: bool) -> Error | None:
    """The limit that a run exceeds."""
    if used > job.memory_bytes:
        return memory_exceeded(job, f"used {write_size(used)} of memory")
    return time_exceeded(job) if is_late else None


def shorten(log: Path, over_bytes: int = LOG_BYTES) -> None:
    """Keep of a log that is longer than `over_bytes` what was printed first."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > over_bytes:
            os.truncate(log, LOG_BYTES)
