"""A worker process: it loads the code once and runs one job at a time, or many that only wait.

It is started as `python -m webfoot.runners.worker DESCRIPTOR TEMP` and talks over that socket. What
jobs print goes to the run's log; nothing they do to standard output can reach the conversation.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import faulthandler
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pyarrow as pa

from webfoot import calling, sources
from webfoot import registry as registries
from webfoot.database import sessions
from webfoot.database.calls import CallDatabase
from webfoot.errors import Error, UdfFailed
from webfoot.runners import frames, prints
from webfoot.runners.conversation import Conversation, JobCaller
from webfoot.runners.execution import execute
from webfoot.runners.jobs import SHARED_JOBS
from webfoot.runners.meters import meter_process, meter_thread
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from webfoot.outcomes import Source
    from webfoot.registry import Registry
    from webfoot.runners.meters import Meter

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Handlers that a run may set and the next would trip over.
_SIGNALS = (
    *(signal.SIGALRM, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE),
    *(signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU),
)
# A worker in which this many threads live, or that is this busy between two runs, is replaced:
# threads that runs left behind would slow the next.
_MOST_THREADS = 64
_MOST_IDLE_LOAD = 0.2
_IDLE_FROM_S = 0.05
# Its memory is looked at after a run, but not more often than this.
_LOOK_S = 0.05


def main() -> None:
    """Serve jobs until the server goes away."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    # Nobody but this process holds it, so that the server notices when this process ends.
    channel.set_inheritable(False)
    os.register_at_fork(after_in_child=channel.close)
    _tie_to_server()
    faulthandler.enable()
    registry: Registry | None = None
    temp = Path(sys.argv[2])
    _warm_up(temp)
    conversation = Conversation(channel)
    threads = ThreadPoolExecutor(SHARED_JOBS, thread_name_prefix="webfoot-run")
    usage = _usage_meter()
    with (
        CallDatabase(temp) as database,
        sessions.everywhere_in(temp),
        calling.everywhere_through(_Nobody()),
    ):
        idle, surroundings = _load_meter(), _Surroundings()
        while (message := conversation.next_job()) is not None:
            job = message["job"]
            if message["do"] == "load":
                registry = registries.load(sources.from_message(message["code"]))
                conversation.answer(job, {})
                idle, surroundings = _load_meter(), _Surroundings()
                continue
            caller = JobCaller(conversation, job, registry) if registry else None
            if message["shared"]:
                conversation.listen()
                threads.submit(
                    _run_beside_others,
                    *(message, registry, database, caller),
                    partial(_tell, conversation, job, usage),
                )
                continue
            haunted = idle() > _MOST_IDLE_LOAD
            answer = _run_alone(
                message, surroundings, prints.file_in(temp), registry, database, caller
            )
            spoilt = haunted or _left_behind()
            conversation.answer(job, answer | usage() | {"spoilt": spoilt})
            idle = _load_meter()


class _Nobody:
    """For threads of which it cannot be told for which of several runs they call."""

    def outcomes(self, name: str, inputs: Sequence[Mapping[str, Any]]) -> Source:  # noqa: ARG002  # none are called
        """Refuse."""
        raise UdfFailed(
            f"{name} is called on a thread that a run with waits=True has started, and nobody knows"
            " which run that is; use webfoot.map, or run the thread's function by"
            " contextvars.copy_context().run"
        )


def _warm_up(temp: Path) -> None:
    """Have pyarrow import what it imports on first use: a fifth of a second, with pandas."""
    temp.mkdir(parents=True, exist_ok=True)
    path = temp / f"warm-up-{os.getpid()}"
    with contextlib.suppress(OSError):
        write(to_batches([{"number": 1, "text": "a"}]), path)
        path.unlink()


def _tie_to_server() -> None:
    """Die with the server, and adopt what jobs leave behind, where the system knows how (Linux)."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        with contextlib.suppress(OSError):
            # When the machine runs out of memory, the system is to take a worker, not the server.
            Path("/proc/self/oom_score_adj").write_text("500")


def _run_alone(
    message: Mapping[str, Any],
    surroundings: _Surroundings,
    printed: Path,
    registry: Registry | None,
    database: CallDatabase,
    caller: JobCaller | None,
) -> dict[str, Any]:
    """Run a job that has the process for itself."""
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_printing_to(str(printed), message["log"]))
            stack.callback(surroundings.put_back)
            if caller is not None:
                stack.enter_context(calling.everywhere_through(caller))
            stack.enter_context(sessions.within_memory(message["memory_bytes"]))
            answer = _run(message, registry, database, meter_process(), caller)
    except BaseException as error:  # noqa: BLE001  # a run may have closed what it prints to
        answer = _bad_end(error)
    return answer


def _run_beside_others(
    message: Mapping[str, Any],
    registry: Registry | None,
    database: CallDatabase,
    caller: JobCaller | None,
    tell: Callable[[dict[str, Any]], None],
) -> None:
    """Run a job on this thread, one of many: what it changes in the process, it changes for all."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(prints.to_log(Path(message["log"])))
        if caller is not None:
            stack.enter_context(calling.through(caller))
        answer = _run(message, registry, database, meter_thread(), caller)
    tell(answer)


def _tell(
    conversation: Conversation,
    job: int,
    usage: Callable[[], dict[str, Any]],
    answer: dict[str, Any],
) -> None:
    try:
        conversation.answer(job, answer | usage() | {"spoilt": False})
    except BaseException:  # noqa: BLE001  # nobody waits for this thread, and the server must know
        traceback.print_exc()
        os._exit(frames.LOST)


def _run(
    message: Mapping[str, Any],
    registry: Registry | None,
    database: CallDatabase,
    meter: Meter,
    caller: JobCaller | None,
) -> dict[str, Any]:
    try:
        job = frames.read_job(message, registry)
        draft = execute(job, Path(message["target"]), database, meter, caller)
    except Error as error:
        return frames.write_error(error)
    except BaseException as error:  # noqa: BLE001  # even `sys.exit` must not end the worker
        return _bad_end(error)
    return {"draft": frames.write_draft(draft)}


def _bad_end(error: BaseException) -> dict[str, Any]:
    return frames.write_error(UdfFailed(f"{type(error).__name__}: {error}"))


def _usage_meter() -> Callable[[], dict[str, Any]]:
    """Tells how much memory is this process's own, or was a moment ago."""
    process = psutil.Process()
    looked, used_bytes = -math.inf, 0

    def usage() -> dict[str, Any]:
        nonlocal looked, used_bytes
        now = time.monotonic()
        if now - looked > _LOOK_S:
            pa.default_memory_pool().release_unused()
            used = process.memory_info()
            looked, used_bytes = now, used.rss - getattr(used, "shared", 0)
        return {"used_bytes": used_bytes}

    return usage


class _Surroundings:
    """What a run may change in its process and the next would trip over, as it is now."""

    def __init__(self) -> None:
        self._folder = Path.cwd()
        # As bytes, which are not decoded: this is looked at after every run.
        self._environment = dict(os.environb)
        self._builtins = dict(vars(builtins))
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._depth = sys.getrecursionlimit()

    def put_back(self) -> None:
        """Have them again as they were."""
        vars(builtins).update(self._builtins)
        with contextlib.suppress(OSError):
            os.chdir(self._folder)
        if os.environb != self._environment:
            os.environb.clear()
            os.environb.update(self._environment)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        sys.setrecursionlimit(self._depth)


def _load_meter() -> Callable[[], float]:
    """Tells how busy this process has been since now: 1 is one core."""
    since, used = time.monotonic(), time.process_time()

    def load() -> float:
        elapsed = time.monotonic() - since
        return (time.process_time() - used) / elapsed if elapsed > _IDLE_FROM_S else 0.0

    return load


@contextlib.contextmanager
def _printing_to(path: str, log: str) -> Iterator[None]:
    """Send descriptors 1 and 2 to a file, so that subprocesses and C code print there too.

    What a run has printed becomes its log. Most print nothing: the file is there for the next.
    """
    saved = os.dup(1), os.dup(2)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    except OSError:  # A full disk must not stop a run.
        descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # New ones for each run: the last may have replaced or closed them.
    streams = [
        open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115  # descriptors
        for number in (1, 2)
    ]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in (*streams, sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()  # type: ignore[union-attr]  # None is suppressed
        for number, original in enumerate(saved, start=1):
            os.dup2(original, number)
            os.close(original)
        prints.keep(path, log)


def _left_behind() -> bool:
    """Whether runs left processes behind, of which this is the parent now, or many threads."""
    if threading.active_count() > _MOST_THREADS:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # It has none.
        return False
    return True


if __name__ == "__main__":
    status = 1
    try:
        main()
        status = 0
    except BaseException:  # noqa: BLE001  # shown, and the process ends in any case
        traceback.print_exc()
    os._exit(status)  # Threads that runs left must not keep the process.
