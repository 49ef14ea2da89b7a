"""A worker process: it loads the code once and runs one job at a time.

It is started as `python -m webfoot.runners.worker DESCRIPTOR TEMP` and talks over that socket. What
jobs print goes to the run's log; nothing they do to standard output can reach the conversation.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pyarrow as pa

from webfoot import registry as registries
from webfoot import sources
from webfoot.database import Database
from webfoot.errors import Error, UdfFailed
from webfoot.runners import frames
from webfoot.runners.jobs import execute
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from webfoot.registry import Registry

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Serve jobs until the server goes away."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    _tie_to_server()
    faulthandler.enable()
    own_pid = os.getpid()
    registry: Registry | None = None
    temp = Path(sys.argv[2])
    _warm_up(temp)
    with Database(temp) as database:
        while (message := _receive(channel)) is not None:
            if message["do"] == "load":
                registry = registries.load(sources.from_message(message["code"]))
                answer: dict[str, Any] = {}
            else:
                answer = _run(message, registry, database)
            if os.getpid() != own_pid:
                os._exit(0)  # A child that the UDF forked, come back through its `return`.
            channel.sendall(frames.pack(answer))


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


def _receive(channel: socket.socket) -> dict[str, Any] | None:
    head = _read(channel, frames.LENGTH_BYTES)
    if head is None:
        return None
    body = _read(channel, frames.length(head))
    return None if body is None else frames.unpack(body)


def _read(channel: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _run(message: Mapping[str, Any], registry: Registry | None, database: Database) -> dict[str, Any]:
    try:
        with _printing_to(message["log"]):
            job = frames.read_job(message, registry)
            draft = execute(job, Path(message["target"]), database)
        answer: dict[str, Any] = {"draft": frames.write_draft(draft)}
    except Error as error:
        answer = {"problem": error.problem() | {"traceback": error.traceback}}
    except BaseException as error:  # noqa: BLE001  # even `sys.exit` must not end the worker
        problem = UdfFailed(f"{type(error).__name__}: {error}")
        answer = {"problem": problem.problem()}
    pa.default_memory_pool().release_unused()
    used = psutil.Process().memory_info()
    own = used.rss - getattr(used, "shared", 0)
    return answer | {"left_children": _has_children(), "used_bytes": own}


@contextlib.contextmanager
def _printing_to(log: str) -> Iterator[None]:
    """Send descriptors 1 and 2 to the log, so that subprocesses and C code print there too."""
    saved = os.dup(1), os.dup(2)
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:  # A full disk must not stop a run.
        descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        for number, original in enumerate(saved, start=1):
            os.dup2(original, number)
            os.close(original)
        with contextlib.suppress(OSError):
            if os.path.getsize(log) == 0:  # noqa: PTH202  # half the price of a Path, on every run
                os.unlink(log)  # noqa: PTH108


def _has_children() -> bool:
    """Whether the job left processes behind, as far as the system tells (Linux)."""
    with contextlib.suppress(OSError):
        for thread in os.scandir("/proc/self/task"):
            if Path(thread.path, "children").read_bytes():
                return True
    return False


if __name__ == "__main__":
    main()
