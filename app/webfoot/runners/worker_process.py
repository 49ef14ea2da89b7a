"""A worker process as the server has it: started, spoken with, looked at, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess  # nosec B404  # what it starts is marked where it does
import sys
import uuid
from typing import TYPE_CHECKING

import psutil

from webfoot import sources
from webfoot.errors import UdfCrashed, UdfTimeout
from webfoot.quantities import write_seconds
from webfoot.runners import NoCalls, frames, prints
from webfoot.runners.channel import open_channel

if TYPE_CHECKING:
    from pathlib import Path

    from webfoot.runners.channel import Channel
    from webfoot.runners.slots import Slot
    from webfoot.sources import Code

_LOAD_TIMEOUT_S = 60
# A process that closed the conversation has ended by itself within this time, or is ended.
_ENDING_S = 2


class WorkerProcess:
    """One process and the conversation with it.

    Args:
        process: The process.
        connected: The other end of what it listens to.
        temp: Where it may put temporary files.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], connected: socket.socket, temp: Path
    ) -> None:
        self.process = process
        self.printed = prints.file_in(temp)
        self._temp = temp
        self.runs = 0
        # Of the code that it holds; None if it holds none yet.
        self.digest: str | None = None
        self._connected: socket.socket | None = connected
        self._channel: Channel | None = None

    @classmethod
    def start(cls, temps: Path) -> WorkerProcess:
        """Start one, which has a folder of its own in `temps`."""
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

    async def load(self, code: Code, slot: Slot) -> None:
        """Have it import the UDFs of `code`.

        Raises:
            UdfTimeout: If that takes too long.
            UdfCrashed: If it ended meanwhile.
        """
        message = {"do": "load", "code": sources.to_message(code)}
        channel = await self.channel()
        with channel.order(message, NoCalls(), slot) as answer:
            await asyncio.wait((answer,), timeout=_LOAD_TIMEOUT_S)
            if not answer.done():
                raise UdfTimeout(
                    f"importing the UDFs took longer than {write_seconds(_LOAD_TIMEOUT_S)}",
                    timeout_s=_LOAD_TIMEOUT_S,
                )
            if answer.result() is None:
                raise UdfCrashed(f"while the UDFs were imported, {await self.ended()}")
        self.digest = code.digest

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
            self.kill()
            code = await asyncio.to_thread(self.process.wait)
            # One that was on its way out, on a machine that is slow, ends as it would have.
            if code == -signal.SIGKILL:
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
