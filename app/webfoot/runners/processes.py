"""Worker processes on this machine: a run that loops, leaks or crashes harms nothing but itself.

Our own pool, because the known ones lose neighbouring calls when a worker dies, cannot kill one
run, or speak over the standard output that runs print to. A worker holds one snapshot of the code;
when the code changes, new workers take over and the old ones finish what they began.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess  # nosec B404  # what it starts is marked where it does
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from webfoot import sources
from webfoot.billing import function_bytes
from webfoot.errors import Error, MemoryExceeded, RunCancelled, UdfCrashed, UdfTimeout
from webfoot.quantities import write_seconds, write_size
from webfoot.results import Usage
from webfoot.runners import SPARE_CALLS, Load, NoCalls, frames, prints
from webfoot.runners.channel import open_channel
from webfoot.runners.exceeded import crashed, memory_exceeded, time_exceeded
from webfoot.runners.jobs import SHARED_JOBS, UdfJob, ViewJob
from webfoot.runners.slots import Queue, Slot, Slots
from webfoot.runs import LOG_BYTES

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from webfoot.registry import Registry
    from webfoot.results import Draft
    from webfoot.runners import Calls
    from webfoot.runners.channel import Channel
    from webfoot.runners.jobs import Job
    from webfoot.sources import Code

# A worker is replaced after this many runs: libraries leak.
_RUNS_A_WORKER = 10_000
# A worker that still holds this much after a run is replaced too.
_KEPT_BYTES = 500_000_000
# How often a run's memory is looked at. Children are looked for less often: it costs milliseconds.
_WATCH_S = 0.05
_WATCH_CHILDREN_EVERY = 20
_LOAD_TIMEOUT_S = 60
# A process that closed the conversation has ended by itself within this time, or will not.
_ENDING_S = 2
# Idle workers beyond those that can run at once and one more: others waited for calls they made.
_SPARE = 1
# How many runs that only wait are under way at once, for each worker that computes.
_WAITING_A_WORKER = 64


class _Worker:
    """One process and the conversation with it."""

    def __init__(
        self, process: subprocess.Popen[bytes], connected: socket.socket, temp: Path
    ) -> None:
        self.process = process
        self.printed = prints.file_in(temp)
        self._temp = temp
        self.runs = 0
        # Under way: more than one only if all of them only wait.
        self.jobs = 0
        self.most_jobs = 0
        self.worn = False
        self.digest: str | None = None
        self._connected: socket.socket | None = connected
        self._channel: Channel | None = None

    @classmethod
    def start(cls, temps: Path) -> _Worker:
        # One each: DuckDBs that share a folder overwrite each other's files and crash.
        temp = temps / uuid.uuid4().hex
        ours, theirs = socket.socketpair()
        with theirs:
            worker = [sys.executable, "-m", "webfoot.runners.worker", str(theirs.fileno())]
            process = subprocess.Popen(  # noqa: S603  # nosec B603  # our own module
                [*worker, str(temp)],
                stdin=subprocess.DEVNULL,
                # What threads print after their run: not into what `webfoot run` writes.
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return cls(process, ours, temp)

    async def channel(self) -> Channel:
        """The conversation with it, which begins with its first job."""
        if self._channel is None:
            assert self._connected is not None, "it is connected until the channel takes over"
            connected, self._connected = self._connected, None
            self._channel = await open_channel(connected)
        return self._channel

    def used_bytes(self, *, children: bool) -> int:
        """Memory that is the worker's own, and its children's if asked for."""
        try:
            process = psutil.Process(self.process.pid)
            family = [process, *(process.children(recursive=True) if children else ())]
            return sum(_own_bytes(member) for member in family)
        except psutil.Error:
            return 0

    def kill(self) -> None:
        """End the process and whatever it started."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for end in (self._channel, self._connected):
            if end is not None:
                end.close()

    async def ended(self) -> str:
        """How the process ended, in words."""
        try:
            code = await asyncio.to_thread(self.process.wait, _ENDING_S)
        except subprocess.TimeoutExpired:
            code = frames.LOST
        if code == frames.LOST:
            return "its process lost its connection to the server: it closed file descriptors, say"
        if code >= 0:
            return f"its process ended with exit code {code}"
        if code == -signal.SIGKILL:
            return "its process was killed (SIGKILL), most likely as the machine ran out of memory"
        try:
            return f"its process crashed ({signal.Signals(-code).name})"
        except ValueError:  # Real-time signals have no names.
            return f"its process crashed (signal {-code})"

    def clear_up(self, target: Path | None) -> None:
        """Wait for the end of a killed process; remove its files, and those beside `target`."""
        self.process.wait()
        shutil.rmtree(self._temp, ignore_errors=True)
        for left in target.parent.glob(f"{target.stem}*") if target else ():
            shutil.rmtree(left, ignore_errors=True)
            with contextlib.suppress(OSError):
                left.unlink()


def _own_bytes(process: psutil.Process) -> int:
    memory = process.memory_info()
    # Pages of libraries and mapped files are shared, and the system can drop them.
    return int(memory.rss - getattr(memory, "shared", 0))


class ProcessRunner:
    """Runs jobs in worker processes.

    Args:
        workers: How many run at once.
        queue: Which requests may wait.
        temp: Where workers may put temporary files, each in a folder of its own.
    """

    def __init__(self, workers: int, queue: Queue, temp: Path) -> None:
        self.calls_at_once = workers + SPARE_CALLS
        self._workers = workers
        self._temp = temp
        self._slots = Slots(workers, queue)
        self._waiting_slots = Slots(workers * _WAITING_A_WORKER, queue)
        self._idle: list[_Worker] = []
        self._shared: list[_Worker] = []
        # One at a time finds itself a place: else each of many would start a worker of its own.
        self._sharing = asyncio.Lock()
        self._alive: set[_Worker] = set()
        self._registry: Registry | None = None
        self._loading: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._replaced = 0
        self._closed = False

    def load(self) -> Load:
        """How busy its processes are."""
        slots = (self._slots, self._waiting_slots)
        return Load(
            running=sum(each.held for each in slots),
            waiting=sum(each.waiting for each in slots),
            processes=len(self._alive),
            memory_bytes=sum(worker.used_bytes(children=False) for worker in self._alive),
            replaced=self._replaced,
        )

    async def use(self, registry: Registry) -> None:
        """Make workers ready for `registry`, in the background."""
        self._registry = registry
        for worker in [worker for worker in self._idle if worker.digest is not None]:
            if worker.digest != registry.code.digest:
                self._idle.remove(worker)
                self._retire(worker)
        for worker in [worker for worker in self._shared if not worker.jobs]:
            if self._is_outdated(worker):
                self._shared.remove(worker)
                self._retire(worker)
        self._fill()
        for _ in range(self._workers):
            _keep(self._loading, self._load_one(registry))

    async def run(self, job: Job, target: Path, log: Path, calls: Calls) -> Draft:
        """Run `job` in a worker, which is killed if the job outlives its limits or this call."""
        if isinstance(job, UdfJob) and job.udf.options.waits:
            with contextlib.suppress(_Together):
                async with self._waiting_slots.hold(calls.descent.depth) as slot:
                    return await self._run_beside_others(job, target, log, calls, slot)
            # One of several took their process down: each runs again, alone, to tell which.
        async with self._slots.hold(calls.descent.depth) as slot:
            return await self._run_alone(job, target, log, calls, slot)

    async def _run_alone(
        self, job: Job, target: Path, log: Path, calls: Calls, slot: Slot
    ) -> Draft:
        worker = await self._take(job, slot)
        answer, message = None, frames.write_job(job, target, log)
        try:
            answer = await self._supervise(worker, job, message, calls, slot)
        except _Crash as crash:
            raise crash.told(job, await worker.ended()) from None
        finally:
            if answer is None:
                prints.keep(str(worker.printed), str(log))
            self._give_back(worker, answer, target)
            # Only now: a worker that had to be killed has printed until then.
            _shorten(log, LOG_BYTES)
        return _read_answer(answer)

    async def _run_beside_others(
        self, job: UdfJob, target: Path, log: Path, calls: Calls, slot: Slot
    ) -> Draft:
        """Run a job that only waits in a process that it shares.

        Raises:
            _Together: If the process ended, or had to be ended, while others ran there, too.
        """
        worker = await self._take_shared(job, slot)
        message = frames.write_job(job, target, log) | {"shared": True}
        answer = None
        try:
            answer = await self._supervise(worker, job, message, calls, slot)
        except (_Crash, MemoryExceeded) as error:
            worker.worn = True
            ended = await worker.ended() if isinstance(error, _Crash) else ""
            worker.kill()
            if worker.most_jobs > 1:
                raise _Together from None
            if isinstance(error, MemoryExceeded):
                raise
            raise error.told(job, ended) from None
        finally:
            # A run that was given up still has its thread there: others end, and no more begin.
            self._leave_shared(worker, answer, target)
            _shorten(log, LOG_BYTES)
        return _read_answer(answer)

    async def close(self) -> None:
        """Kill every worker."""
        self._closed = True
        for task in self._loading:
            task.cancel()
        for worker in list(self._alive):
            self._retire(worker)
        await asyncio.gather(*self._loading, *self._ending, return_exceptions=True)

    async def _take(self, job: Job, slot: Slot) -> _Worker:
        """An idle worker that can run `job`."""
        if self._closed:
            raise RunCancelled("the server is stopping; try again in a moment")
        if isinstance(job, ViewJob):
            return self._pick(None)
        worker = self._pick(job.code.digest)
        if worker.digest is None:
            try:
                await self._load(worker, job.code, slot)
            except BaseException:
                self._replace(worker)
                raise
        return worker

    async def _take_shared(self, job: UdfJob, slot: Slot) -> _Worker:
        """A worker that runs such jobs already and has room, or an idle one."""
        async with self._sharing:
            for idle in [worker for worker in self._shared if not worker.jobs]:
                if idle.process.poll() is not None:  # It died in its sleep.
                    self._shared.remove(idle)
                    self._replace(idle)
            able = (
                worker
                for worker in self._shared
                if worker.digest == job.code.digest and worker.jobs < SHARED_JOBS
                if not worker.worn
            )
            worker = next(able, None)
            if worker is None:
                worker = await self._take(job, slot)
                self._shared.append(worker)
            worker.jobs += 1
            worker.most_jobs = max(worker.jobs, worker.most_jobs)
            return worker

    def _leave_shared(
        self, worker: _Worker, answer: dict[str, Any] | None, target: Path | None
    ) -> None:
        """Count a run as ended.

        The worker stays for others that wait: what runs that share a process have changed in it,
        one that has a process for itself must not meet.
        """
        worker.jobs -= 1
        worker.runs += 1
        worker.worn = worker.worn or answer is None or self._is_worn(worker, answer)
        if worker.jobs:
            return
        worker.most_jobs = 0
        if worker.worn or self._is_outdated(worker):
            self._shared.remove(worker)
            leave = self._replace if worker.worn else self._retire
            leave(worker, target if answer is None else None)

    def _pick(self, digest: str | None) -> _Worker:
        """An idle worker that has the code (a view needs none), or an empty one, or a new one."""
        for worker in [worker for worker in self._idle if worker.process.poll() is not None]:
            self._idle.remove(worker)  # It died in its sleep: the machine was out of memory, say.
            self._replace(worker)
        able = [worker for worker in self._idle if digest in (None, worker.digest)]
        able = able or [worker for worker in self._idle if worker.digest is None]
        if not able:
            return self._start()
        self._idle.remove(able[0])
        return able[0]

    async def _load(self, worker: _Worker, code: Code, slot: Slot) -> None:
        message = {"do": "load", "code": sources.to_message(code)}
        channel = await worker.channel()
        with channel.order(message, NoCalls(), slot) as answer:
            await asyncio.wait((answer,), timeout=_LOAD_TIMEOUT_S)
            if not answer.done():
                raise UdfTimeout(
                    f"importing the UDFs took longer than {write_seconds(_LOAD_TIMEOUT_S)}",
                    timeout_s=_LOAD_TIMEOUT_S,
                )
            if answer.result() is None:
                raise UdfCrashed(f"while the UDFs were imported, {await worker.ended()}")
        worker.digest = code.digest

    async def _supervise(
        self,
        worker: _Worker,
        job: Job,
        message: dict[str, Any],
        calls: Calls,
        slot: Slot,
    ) -> dict[str, Any]:
        """Have the worker run a job, within its limits.

        Raises:
            _Crash: If the worker ended instead.
            MemoryExceeded: If it used too much memory; it still does.
            UdfTimeout: If the job takes too long; it still runs.
        """
        channel = await worker.channel()
        with (
            channel.order(message, calls, slot) as answer,
            _watching(answer, worker, job, Path(message["log"])) as watched,
        ):
            return _checked(await answer, watched)

    def _give_back(self, worker: _Worker, answer: dict[str, Any] | None, target: Path) -> None:
        """Let a worker that has nothing to do rest, unless it is worn out."""
        worker.runs += 1
        if answer is None or self._is_worn(worker, answer):
            self._replace(worker, target if answer is None else None)
            self._fill()
        else:
            self._rest(worker)

    def _is_worn(self, worker: _Worker, answer: dict[str, Any]) -> bool:
        return bool(
            answer["spoilt"] or answer["used_bytes"] > _KEPT_BYTES or worker.runs >= _RUNS_A_WORKER
        )

    def _is_outdated(self, worker: _Worker) -> bool:
        """Whether a worker's code is no longer the one that is used, or none will be."""
        current = self._registry.code.digest if self._registry else worker.digest
        return self._closed or worker.digest not in (None, current)

    def _rest(self, worker: _Worker) -> None:
        """Let a worker wait for its next job, if there may be one for it."""
        if self._is_outdated(worker) or len(self._idle) >= self._workers + _SPARE:
            self._retire(worker)
            self._fill()
        else:
            self._idle.append(worker)

    def _start(self) -> _Worker:
        worker = _Worker.start(self._temp)
        self._alive.add(worker)
        return worker

    def _fill(self) -> None:
        """Keep a worker more than can run, so that the next to be needed has already started."""
        serving = self._registry is not None and not self._closed
        # Those that are shared run nothing alone.
        while serving and len(self._alive) - len(self._shared) <= self._workers:
            self._idle.append(self._start())

    def _replace(self, worker: _Worker, target: Path | None = None) -> None:
        """End a worker that could be of use yet, had its runs been well."""
        self._replaced += 1
        self._retire(worker, target)

    def _retire(self, worker: _Worker, target: Path | None = None) -> None:
        self._alive.discard(worker)
        worker.kill()
        _keep(self._ending, asyncio.to_thread(worker.clear_up, target))

    async def _load_one(self, registry: Registry) -> None:
        """Load the code into one empty worker, unless none is idle but the last."""
        empty = [worker for worker in self._idle if worker.digest is None]
        if len(empty) < 2:  # noqa: PLR2004  # one is kept empty, for the next change of the code
            return
        # The newest: the oldest has long started, and waits for the first call on the new code.
        worker = empty[-1]
        self._idle.remove(worker)
        try:
            await self._load(worker, registry.code, Slot(self._slots))
        except Error:
            self._retire(worker)
        else:
            self._rest(worker)


class _Together(Exception):
    """A process in which several jobs ran has ended, and nobody knows through which of them."""


class _Crash(Exception):
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
        raise _Crash(watched.usage())
    told = answer.get("draft", answer.get("problem"))
    spoilt, used_bytes = answer.get("spoilt"), answer.get("used_bytes")
    if not (isinstance(told, dict) and isinstance(spoilt, bool) and isinstance(used_bytes, int)):
        raise _Crash(watched.usage())
    return answer | {"peak_bytes": watched.peak_bytes}


def _read_answer(answer: dict[str, Any]) -> Draft:
    if "problem" in answer:
        error = frames.read_error(answer)
        error.usage = error.usage and _with_children(error.usage, answer["peak_bytes"])
        raise error
    draft = frames.read_draft(answer["draft"])
    return replace(draft, usage=_with_children(draft.usage, answer["peak_bytes"]))


def _with_children(usage: Usage, seen_bytes: int) -> Usage:
    """What a run says of itself, with what was seen from outside: its children's memory, too."""
    return replace(usage, memory_bytes=max(usage.memory_bytes or 0, seen_bytes) or None)


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    """Start a task, and hold it until it ends: the loop itself forgets it."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


@contextlib.contextmanager
def _watching(
    answer: asyncio.Future[Any], worker: _Worker, job: Job, log: Path
) -> Iterator[_Watched]:
    """Look now and then whether a run is within its limits; if not, its answer is an error.

    With timers, not with a task of its own for each run, of which there are thousands.
    """
    loop = asyncio.get_running_loop()
    ends, looks, watched = loop.time() + job.timeout_s, itertools.count(1), _Watched()
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
        _shorten(log, 2 * LOG_BYTES)
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


def _shorten(log: Path, over_bytes: int) -> None:
    """Keep what was printed first."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > over_bytes:
            os.truncate(log, LOG_BYTES)
