"""Real worker processes, and UDFs that mean harm."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
import pyarrow.parquet as pq
import pytest

from webfoot import registry, sources
from webfoot.errors import (
    Error,
    MemoryExceeded,
    RunCancelled,
    ServerBusy,
    UdfCrashed,
    UdfFailed,
    UdfTimeout,
    UdfUnavailable,
)
from webfoot.results import Column
from webfoot.runners import NoCalls, processes
from webfoot.runners.jobs import UdfJob, ViewJob
from webfoot.runners.processes import ProcessRunner
from webfoot.runners.slots import Queue
from webfoot.runs import LOG_BYTES
from webfoot.views import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from webfoot.registry import Registry
    from webfoot.results import Draft

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
    def hold_in_child() -> list[dict[str, int]]:
        code = "import time; held = b'x' * 180_000_000; time.sleep(2.5)"
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
        while True: eaten.append(bytearray(5_000_000))

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
        while not os.path.exists(path): time.sleep(0.01)
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
        signal.alarm(1)
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


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, write_files: Callable[..., Path]
) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("runner")
    loaded = registry.load(sources.read(write_files(root / "harmful", harm=UDFS)))
    assert not loaded.problems
    runner = ProcessRunner(2, Queue(4), root / "temp")
    with asyncio.Runner() as loop:
        loop.run(runner.use(loaded))
        yield Place(runner, loaded, root, loop)
        loop.run(runner.close())


def gone(pid: int) -> bool:
    """Whether a process ends in a moment."""
    for _ in range(200):
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        "loop",
        "regex",
        *(
            pytest.param(name, marks=slow)
            for name in ("big_power", "ignore_signals", "stop_itself")
        ),
    ],
)
def test_a_time_limit_is_hard(place: Place, name: str) -> None:
    error = place.fails(name, timeout_s=0.5)
    assert isinstance(error, UdfTimeout)
    assert error.timeout_s == 0.5
    assert "0.5s" in error.detail


@pytest.mark.parametrize(
    "name", ["eat_at_once", *(pytest.param(name, marks=slow) for name in ("eat", "eat_in_child"))]
)
def test_too_much_memory_fails_and_names_the_limit(place: Place, name: str) -> None:
    error = place.fails(name)
    assert isinstance(error, MemoryExceeded)
    assert error.limit_bytes == LIMIT
    assert "300 MB" in error.detail


def test_more_memory_than_there_is_fails_and_names_the_limit(place: Place) -> None:
    error = place.fails("ask_too_much")
    assert isinstance(error, MemoryExceeded)
    assert "300 MB" in error.detail


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("os_exit", "exit code 3"),
        ("segfault", "SIGSEGV"),
        pytest.param("abort", "SIGABRT", marks=slow),
        pytest.param("recurse_in_c", "SIGSEGV", marks=slow),
        ("fork_and_exit", "exit code 4"),
        ("close_descriptors", "lost its connection"),
    ],
)
def test_a_crash_says_how_the_process_ended(place: Place, name: str, reason: str) -> None:
    if name == "recurse_in_c" and sys.version_info >= (3, 12):
        pytest.skip("Python 3.12 guards its C stack")
    error = place.fails(name)
    assert isinstance(error, UdfCrashed)
    assert reason in error.detail


# What a run takes.


def test_a_large_run_does_not_count_for_the_next_in_its_process(place: Place) -> None:
    async def runs() -> list[tuple[int, int]]:
        found = []
        for name in ("hold", "pid", "hold", "pid"):
            draft, target, _ = await place.run(place.job(name))
            assert draft.usage.memory_bytes is not None
            pid = pq.read_table(target)[0][0].as_py()
            found.append((pid, draft.usage.memory_bytes))
        return found

    found = place.loop.run(runs())
    large, small = found[0::2], found[1::2]
    assert {pid for pid, _ in large} & {pid for pid, _ in small}, "no two ran in one process"
    assert min(used for _, used in large) > max(used for _, used in small) + 100_000_000


def test_a_runs_time_and_processor_time_are_its_own(place: Place) -> None:
    draft, _, _ = place.loop.run(place.run(place.job("neighbour")))
    assert 0.4 <= draft.usage.seconds < 20
    assert draft.usage.cpu_s is not None
    assert draft.usage.cpu_s < draft.usage.seconds


def test_the_memory_of_a_runs_children_is_its_own(place: Place) -> None:
    draft, _, _ = place.loop.run(place.run(place.job("hold_in_child")))
    assert draft.usage.memory_bytes is not None
    assert draft.usage.memory_bytes > 200_000_000


@pytest.mark.parametrize("name", ["raise_silent", "loop", "os_exit", "eat_at_once"])
def test_a_run_that_fails_tells_what_it_took(place: Place, name: str) -> None:
    usage = place.fails(name, timeout_s=1.0).usage
    assert usage is not None
    assert usage.seconds > (1.0 if name == "loop" else 0.0)
    # One that is killed measures nothing itself.
    assert (usage.cpu_s is None) == (name != "raise_silent")
    if name == "eat_at_once":
        assert usage.memory_bytes is not None
        assert usage.memory_bytes > LIMIT


def test_a_spoilt_conversation_is_a_crash(place: Place) -> None:
    assert isinstance(place.fails("spoil_conversation"), UdfCrashed)


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("sys_exit", "SystemExit: enough"),
        ("interrupt", "KeyboardInterrupt"),
        ("raise_silent", "Silent"),
    ],
)
def test_an_exception_of_any_kind_fails_its_call_only(place: Place, name: str, detail: str) -> None:
    error = place.fails(name)
    assert isinstance(error, UdfFailed)
    assert error.detail == detail
    assert "harm.py" in (error.traceback or "")


def test_deep_recursion_is_an_error_of_the_udf(place: Place) -> None:
    assert "RecursionError" in place.fails("recurse").detail


def test_a_long_message_is_cut(place: Place) -> None:
    error = place.fails("raise_much")
    assert len(error.detail) < 20_000
    assert len(error.traceback or "") < 20_000


@pytest.mark.parametrize("name", ["fork_and_return", "fork_in_batches", "fork_and_raise"])
def test_a_fork_leaves_one_sound_result(place: Place, name: str) -> None:
    draft, target, _ = place.succeeds(name)
    table = pq.read_table(target)
    assert table.num_rows == draft.rows
    assert draft.size == target.stat().st_size
    if name == "fork_and_return":
        assert table["number"][0].as_py() > 0, "the parent's result, not the child's"


@pytest.mark.parametrize("name", ["leave_subprocess", "leave_daemon"])
def test_a_process_left_behind_is_killed(place: Place, name: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    place.succeeds(name, f'{{"path": "{note}"}}')
    assert gone(int(note.read_text()))


@pytest.mark.parametrize("name", ["leave_thread", "change_much", "patch_builtins"])
def test_what_a_run_leaves_does_not_reach_the_next(place: Place, name: str) -> None:
    for _ in range(2):
        place.succeeds(name)


def test_a_worker_with_a_busy_thread_is_replaced(place: Place) -> None:
    place.succeeds("leave_busy_thread")

    async def pids() -> set[int]:
        found = set()
        for _ in range(6):
            await asyncio.sleep(0.1)
            _, target, _ = await place.run(place.job("pid"))
            found.add(pq.read_table(target)["pid"][0].as_py())
        return found

    place.loop.run(pids())
    time.sleep(0.3)
    for pid in place.loop.run(pids()):
        with contextlib.suppress(psutil.NoSuchProcess):
            assert psutil.Process(pid).cpu_percent(0.2) < 50


def test_what_descriptors_are_told_is_in_the_log_only(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    _, _, log = place.succeeds("write_to_descriptors")
    assert log.read_text() == "to one\nto two\nfrom a child\n"
    assert capfd.readouterr() == ("", "")


def test_printing_much_fills_one_short_log(place: Place) -> None:
    _, _, log = place.succeeds("print_much")
    assert log.stat().st_size <= 2 * LOG_BYTES


def test_printing_for_ever_fills_one_short_log(place: Place) -> None:
    assert isinstance(place.fails("print_for_ever", timeout_s=1.0), UdfTimeout)
    sizes = []
    for log in place.root.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):  # An earlier run's, which goes.
            sizes.append(log.stat().st_size)
    assert max(sizes) <= 2 * LOG_BYTES


def test_a_silent_run_has_no_log(place: Place) -> None:
    _, _, log = place.loop.run(place.run(place.job("pid")))
    assert not log.exists()


def test_a_view_is_written_by_a_worker(place: Place) -> None:
    async def view() -> str:
        _, source, _ = await place.run(place.job("next"))
        columns = (Column("number", "int64"),)
        _, target, _ = await place.run(ViewJob(View("csv"), source, columns, 20.0, LIMIT))
        return target.read_text()

    assert place.loop.run(view()).splitlines() == ["number", "1", "1", "1"]


def test_a_cancelled_run_is_killed(place: Place) -> None:
    async def cancel() -> None:
        before = {worker.process.pid for worker in place.runner._alive}
        running = asyncio.create_task(place.run(place.job("loop")))
        await asyncio.sleep(0.3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await place.rows("next") == 3
        killed = before - {worker.process.pid for worker in place.runner._alive}
        assert all([await asyncio.to_thread(gone, pid) for pid in killed])
        assert killed

    place.loop.run(cancel())


def test_an_idle_worker_that_died_is_replaced(place: Place) -> None:
    async def kill() -> list[int]:
        for worker in list(place.runner._idle):
            worker.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(
                os.waitid, os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT
            )
        return [await place.rows("next") for _ in range(4)]

    assert place.loop.run(kill()) == [3, 3, 3, 3]


def test_a_full_queue_refuses_at_once(place: Place) -> None:
    async def crowd() -> list[object]:
        calls = (place.rows("neighbour") for _ in range(8))
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = place.loop.run(crowd())
    busy = [answer for answer in answers if isinstance(answer, ServerBusy)]
    assert answers.count(5) == 6, "two run and four wait"
    assert [error.retry_after_s for error in busy] == [1, 1]


def test_workers_are_recycled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_RUNS_A_WORKER", 2)

    async def pids() -> list[int]:
        found = []
        for _ in range(5):
            _, target, _ = await place.run(place.job("pid"))
            found.append(pq.read_table(target)["pid"][0].as_py())
        return found

    found = place.loop.run(pids())
    assert max(found.count(pid) for pid in found) <= 2


def test_a_worker_that_keeps_memory_is_replaced(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_KEPT_BYTES", 1)

    async def pids() -> set[int]:
        found = set()
        for _ in range(2):
            _, target, _ = await place.run(place.job("pid"))
            found.add(pq.read_table(target)["pid"][0].as_py())
        return found

    assert len(place.loop.run(pids())) == 2


def test_old_code_finishes_while_new_code_runs(
    place: Place, tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    text = """
        import time
        from pathlib import Path
        @udf
        def slow(until: str) -> list[dict[str, str]]:
            Path(until + "-begun").touch()
            while not Path(until).exists():
                time.sleep(0.01)
            return [{"code": "old"}]
    """
    old = registry.load(sources.read(write_files(tmp_path / "live", slow=text)))
    new = registry.load(
        sources.read(write_files(tmp_path / "live", slow=text.replace("old", "new")))
    )

    async def change() -> list[str]:
        await place.runner.use(old)
        gate, opened = tmp_path / "gate", tmp_path / "opened"
        opened.touch()
        began = UdfJob(old["slow"], json.dumps({"until": str(gate)}), 20, LIMIT)
        slow = asyncio.create_task(place.run(began))
        while not gate.with_name("gate-begun").exists():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.01)
        await place.runner.use(new)
        at_once = json.dumps({"until": str(opened)})
        quick = await place.run(UdfJob(new["slow"], at_once, 20, LIMIT))
        assert not slow.done()
        # A call that was understood before the change, and begins after it, runs what it meant.
        late = await place.run(UdfJob(old["slow"], at_once, 20, LIMIT))
        gate.touch()
        answers = [await slow, quick, late]
        await place.runner.use(place.registry)
        return [pq.read_table(target)["code"][0].as_py() for _, target, _ in answers]

    assert place.loop.run(change()) == ["old", "new", "old"]


def test_a_file_that_raises_at_import_fails_its_calls_only(
    place: Place, tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    well = "@udf\ndef well() -> list[dict[str, int]]:\n    return [{'n': 1}]\n"
    # It raises in workers only, so that the registry here serves it.
    broken = "import os, sys\nif 'pytest' not in sys.modules: raise OSError('not here')\n"
    broken += "@udf\ndef broken() -> list[dict[str, int]]:\n    return []\n"
    files = write_files(tmp_path / "half", broken=broken, well=well)
    loaded = registry.load(sources.read(files))

    async def call() -> Error:
        await place.runner.use(loaded)
        with pytest.raises(UdfUnavailable) as caught:
            await place.run(UdfJob(loaded["broken"], "{}", 20, LIMIT))
        draft, _, _ = await place.run(UdfJob(loaded["well"], "{}", 20, LIMIT))
        assert draft.rows == 1
        await place.runner.use(place.registry)
        return caught.value

    assert "OSError: not here" in place.loop.run(call()).detail


def test_a_killed_run_leaves_no_files(
    place: Place, tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    text = """
        import pathlib, time
        @udf
        def fill(folder: pathlib.Path) -> list[dict[str, int]]:
            (folder / "big").write_bytes(b"x" * 1_000_000)
            time.sleep(30)
    """
    loaded = registry.load(sources.read(write_files(tmp_path / "filling", fill=text)))
    staging = tmp_path / "staging"
    staging.mkdir()

    async def fill() -> None:
        await place.runner.use(loaded)
        job = UdfJob(loaded["fill"], "{}", 0.5, LIMIT)
        with pytest.raises(UdfTimeout):
            await place.runner.run(job, staging / "run.parquet", staging / "run.log", NoCalls())
        await asyncio.gather(*place.runner._ending)
        await place.runner.use(place.registry)

    if not loaded["fill"].parameters.injected:
        pytest.skip("no parameter of this version is a temporary folder")
    place.loop.run(fill())
    assert list(staging.iterdir()) == []


def test_workers_spill_into_folders_of_their_own(place: Place) -> None:
    """DuckDBs that share a temporary folder overwrite each other's files, and crash."""
    folders = {str(worker._temp) for worker in place.runner._alive}
    assert len(folders) == len(place.runner._alive) > 1


def test_closing_leaves_no_process_and_no_file(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    loaded = registry.load(sources.read(write_files(tmp_path / "harmful", harm=UDFS)))

    async def close() -> list[int]:
        runner = ProcessRunner(2, Queue(4), tmp_path / "temp")
        await runner.use(loaded)
        job = UdfJob(loaded["loop"], "{}", 20, LIMIT)
        running = asyncio.create_task(
            runner.run(job, tmp_path / "a.parquet", tmp_path / "a.log", NoCalls())
        )
        await asyncio.sleep(1)
        pids = [worker.process.pid for worker in runner._alive]
        await runner.close()
        with pytest.raises(Error):
            await running
        with pytest.raises(RunCancelled):
            await runner.run(job, tmp_path / "b.parquet", tmp_path / "b.log", NoCalls())
        await runner.close()
        return pids

    pids = asyncio.run(close())
    assert len(pids) == 3
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert list(tmp_path.glob("temp/*")) == []


def test_a_killed_server_leaves_no_worker(tmp_path: Path, write_files: Callable[..., Path]) -> None:
    write_files(tmp_path / "harmful", harm=UDFS)
    script = f"""
import asyncio
from pathlib import Path
from webfoot import registry, sources
from webfoot.runners import NoCalls
from webfoot.runners.jobs import UdfJob
from webfoot.runners.processes import ProcessRunner
from webfoot.runners.slots import Queue
root = Path({str(tmp_path)!r})
loaded = registry.load(sources.read(root / "harmful"))
async def main():
    runner = ProcessRunner(2, Queue(4), root / "temp")
    await runner.use(loaded)
    note = root / "note"
    job = UdfJob(loaded["note_and_loop"], f'{{{{"path": "{{note}}"}}}}', 60, 10**9)
    asyncio.ensure_future(runner.run(job, root / "a.parquet", root / "a.log", NoCalls()))
    while not note.exists():
        await asyncio.sleep(0.01)
    print(*(worker.process.pid for worker in runner._alive), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pids = [int(pid) for pid in server.stdout.readline().split()]
        server.kill()
    assert len(pids) == 3
    assert all(gone(pid) for pid in pids)
