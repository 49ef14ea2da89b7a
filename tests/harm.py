"""UDFs that mean harm, and a runner with real worker processes to run them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
import pyarrow.parquet as pq
import pytest

from webfoot.errors import Error
from webfoot.runners import NoCalls
from webfoot.runners.jobs import UdfJob, ViewJob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from webfoot.registry import Registry
    from webfoot.results import Draft
    from webfoot.runners.processes import ProcessRunner

# `next` shares its file with the harm, `neighbour` runs at the same time.
UDFS = """
    import builtins, ctypes, os, re, signal, stat, subprocess, sys, threading, time
    import numpy as np

    ROW = [{"number": 1}]

    @udf
    def next() -> list[dict[str, int]]:
        print("next was here")
        with open(__file__) as _: pass
        assert "HARMED" not in os.environ
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert subprocess.run(["true"]).returncode == 0
        return ROW * len("abc")

    @udf
    def neighbour() -> list[dict[str, int]]:
        time.sleep(0.4)
        return ROW * 5

    @udf
    def pid() -> list[dict[str, int]]:
        return [{"pid": os.getpid()}]

    @udf
    def hold() -> list[dict[str, int]]:
        held = np.ones(20_000_000)
        return [{"pid": os.getpid()}]

    @udf
    def hold_in_child(until: str) -> list[dict[str, int]]:
        code = "import os, time; held = b'x' * 180_000_000" + chr(10)
        code += f"while not os.path.exists({until!r}): time.sleep(0.02)"
        subprocess.run([sys.executable, "-c", code])
        return ROW

    @udf
    def loop() -> list[dict[str, int]]:
        while True: pass

    @udf
    def note_and_loop(path: str) -> list[dict[str, int]]:
        open(path, "w").close()
        while True: pass

    @udf
    def regex() -> list[dict[str, int]]:
        re.match("(a+)+$", "a" * 60 + "b")
        return ROW

    @udf
    def big_power() -> list[dict[str, int]]:
        7 ** (10 ** 9)
        return ROW

    @udf
    def ignore_signals() -> list[dict[str, int]]:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        while True: pass

    @udf
    def stop_itself() -> list[dict[str, int]]:
        os.kill(os.getpid(), signal.SIGSTOP)
        return ROW

    @udf
    def eat() -> list[dict[str, int]]:
        eaten = []
        # More than three times what it may have, and no more of the machine's.
        while len(eaten) < 200: eaten.append(bytearray(5_000_000))
        time.sleep(60)
        return ROW

    @udf
    def eat_at_once() -> list[dict[str, int]]:
        eaten = np.ones(80_000_000)
        time.sleep(30)
        return ROW

    @udf
    def eat_in_child() -> list[dict[str, int]]:
        code = "import time; eaten = bytearray(600_000_000); time.sleep(60)"
        subprocess.run([sys.executable, "-c", code.replace("bytearray(", "b'x' * (")])
        return ROW

    @udf
    def ask_too_much() -> list[dict[str, int]]:
        np.ones(10**15)
        return ROW

    @udf
    def os_exit() -> list[dict[str, int]]:
        os._exit(3)

    @udf
    def sys_exit() -> list[dict[str, int]]:
        sys.exit("enough")

    @udf
    def segfault() -> list[dict[str, int]]:
        ctypes.string_at(0)
        return ROW

    @udf
    def abort() -> list[dict[str, int]]:
        os.abort()

    @udf
    def fork_and_return() -> list[dict[str, int]]:
        child = os.fork()
        if not child: time.sleep(0.05)
        return [{"number": child}] * 3

    @udf
    def fork_in_batches():
        import pyarrow as pa
        for number in range(3):
            yield pa.record_batch({"number": [number] * 1000})
            os.fork()

    @udf
    def fork_and_raise() -> list[dict[str, int]]:
        if os.fork() == 0:
            raise ValueError("the child")
        time.sleep(0.2)
        return ROW

    @udf
    def fork_and_exit() -> list[dict[str, int]]:
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(4)

    @udf
    def leave_subprocess(path: str) -> list[dict[str, int]]:
        child = subprocess.Popen(["sleep", "1000"])
        open(path, "w").write(str(child.pid))
        return ROW

    @udf
    def leave_daemon(path: str) -> list[dict[str, int]]:
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                open(path, "w").write(str(os.getpid()))
                time.sleep(1000)
            os._exit(0)
        os.waitpid(child, 0)
        while not (os.path.exists(path) and os.path.getsize(path)): time.sleep(0.01)
        return ROW

    @udf
    def leave_thread() -> list[dict[str, int]]:
        threading.Thread(target=time.sleep, args=(1000,)).start()
        return ROW

    @udf
    def leave_busy_thread() -> list[dict[str, int]]:
        def spin():
            while True: pass
        threading.Thread(target=spin, daemon=True).start()
        return ROW

    @udf
    def close_descriptors() -> list[dict[str, int]]:
        os.closerange(0, 4096)
        return ROW

    @udf
    def print_much() -> list[dict[str, int]]:
        for _ in range(100): print("x" * 1_000_000)
        return ROW

    @udf
    def print_for_ever() -> list[dict[str, int]]:
        while True: print("x" * 1_000_000)

    @udf
    def write_to_descriptors() -> list[dict[str, int]]:
        os.write(1, b"to one\\n")
        os.write(2, b"to two\\n")
        subprocess.run(["echo", "from a child"])
        return ROW

    @udf
    def spoil_conversation() -> list[dict[str, int]]:
        for number in range(3, 4096):
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.write(number, b"\\0\\0\\0\\3abc")
            except OSError: pass
        time.sleep(30)

    @udf
    def change_much() -> list[dict[str, int]]:
        os.chdir("/")
        os.environ["HARMED"] = "yes"
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.alarm(1000)
        sys.stdout.close()
        sys.stdout = None
        sys.stderr = None
        sys.setrecursionlimit(60)
        return ROW

    @udf
    def patch_builtins() -> list[dict[str, int]]:
        builtins.open = builtins.print = None
        return ROW

    @udf
    def interrupt() -> list[dict[str, int]]:
        raise KeyboardInterrupt

    @udf
    def recurse() -> list[dict[str, int]]:
        return recurse()

    @udf
    def recurse_in_c() -> list[dict[str, int]]:
        sys.setrecursionlimit(10**9)
        def deeper(): return deeper.__call__()
        threading.stack_size()
        nested = []
        for _ in range(10**6): nested = [nested]
        repr(nested)
        return ROW

    class Silent(Exception):
        def __str__(self): raise RuntimeError("no words")

    @udf
    def raise_silent() -> list[dict[str, int]]:
        raise Silent

    @udf
    def raise_much() -> list[dict[str, int]]:
        raise ValueError("x" * 5_000_000)
"""

LIMIT = 300_000_000


@dataclass
class Place:
    """A runner, in a loop that goes on between tests."""

    runner: ProcessRunner
    registry: Registry
    root: Path
    loop: asyncio.Runner
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def job(self, name: str, arguments: str = "{}", timeout_s: float = 20.0) -> UdfJob:
        return UdfJob(self.registry.find(name), arguments, timeout_s, LIMIT)

    async def run(self, job: UdfJob | ViewJob) -> tuple[Draft, Path, Path]:
        number = next(self.numbers)
        target, log = self.root / f"{number}.parquet", self.root / f"{number}.log"
        return await self.runner.run(job, target, log, NoCalls()), target, log

    async def rows(self, name: str) -> int:
        draft, target, _ = await self.run(self.job(name))
        assert pq.read_table(target).num_rows == draft.rows
        return draft.rows

    def fails(self, name: str, timeout_s: float = 20.0) -> Error:
        """Why `name` fails; a neighbour runs meanwhile, and the next call is well."""

        async def harm() -> Error:
            neighbour = asyncio.create_task(self.rows("neighbour"))
            with pytest.raises(Error) as caught:
                await self.run(self.job(name, timeout_s=timeout_s))
            assert await neighbour == 5
            assert await self.rows("next") == 3
            return caught.value

        return self.loop.run(harm())

    def succeeds(self, name: str, arguments: str = "{}") -> tuple[Draft, Path, Path]:
        """What `name` leaves; a neighbour runs meanwhile, and the next calls are well."""

        async def harm() -> tuple[Draft, Path, Path]:
            neighbour = asyncio.create_task(self.rows("neighbour"))
            answer = await self.run(self.job(name, arguments))
            assert await neighbour == 5
            assert await asyncio.gather(*(self.rows("next") for _ in range(3))) == [3, 3, 3]
            return answer

        return self.loop.run(harm())


def gone(pid: int) -> bool:
    """Whether a process ends in a while."""
    patient_until = time.monotonic() + 30
    while time.monotonic() < patient_until:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False
