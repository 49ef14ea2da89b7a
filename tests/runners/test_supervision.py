"""Limits of real runs that mean harm; what they take, print and end with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from tests.harm import LIMIT

from webfoot.errors import MemoryExceeded, UdfCrashed, UdfTimeout
from webfoot.runners.worker_process import WorkerProcess
from webfoot.runs import LOG_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harm import Place


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


class Unheard(subprocess.Popen[bytes]):
    """A process whose end nobody hears of in time."""

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return super().wait()


@pytest.mark.parametrize(
    ("code", "told"),
    [("raise SystemExit(3)", "exit code 3"), ("import time; time.sleep(600)", "lost its connec")],
)
def test_a_process_that_takes_long_to_end_keeps_its_own_exit_code(
    tmp_path: Path, code: str, told: str
) -> None:
    process = Unheard([sys.executable, "-c", code], start_new_session=True)
    if told == "exit code 3":
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    ours, theirs = socket.socketpair()
    with theirs:
        worker = WorkerProcess(process, ours, tmp_path)
        assert told in asyncio.run(worker.ended())


# What a run takes.


def test_a_large_run_does_not_count_for_the_next_in_its_process(place: Place) -> None:
    async def runs() -> list[tuple[int, int]]:
        found = []
        # Whichever of the two workers held much, it comes to it again.
        for name in ("hold", "pid", "pid", "pid"):
            draft, target, _ = await place.run(place.job(name))
            assert draft.usage.memory_bytes is not None
            pid = pq.read_table(target)[0][0].as_py()
            found.append((pid, draft.usage.memory_bytes))
        return found

    found = place.loop.run(runs())
    (large_pid, large), *others = found
    small = [used for pid, used in others if pid == large_pid]
    assert small, "no two ran in one process"
    assert large > max(small) + 100_000_000


def test_a_runs_time_and_processor_time_are_its_own(place: Place) -> None:
    draft, _, _ = place.loop.run(place.run(place.job("neighbour")))
    assert 0.4 <= draft.usage.seconds < 20
    assert draft.usage.cpu_s is not None
    assert draft.usage.cpu_s < draft.usage.seconds


def test_the_memory_of_a_runs_children_is_its_own(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, used_bytes = tmp_path / "seen", WorkerProcess.used_bytes

    def look(worker: WorkerProcess, *, children: bool) -> int:
        used = used_bytes(worker, children=children)
        if children and used > 200_000_000:
            seen.touch()
        return used

    monkeypatch.setattr(WorkerProcess, "used_bytes", look)
    job = place.job("hold_in_child", json.dumps({"until": str(seen)}), timeout_s=50)
    draft, _, _ = place.loop.run(place.run(job))
    assert draft.usage.memory_bytes is not None
    assert draft.usage.memory_bytes > 200_000_000


@pytest.mark.parametrize("name", ["raise_silent", "loop", "os_exit", "eat_at_once"])
def test_a_run_that_fails_tells_what_it_took(place: Place, name: str) -> None:
    # Time is what one of them runs out of; the others must not, on a machine that is busy.
    usage = place.fails(name, timeout_s=1.0 if name == "loop" else 30.0).usage
    assert usage is not None
    assert usage.seconds > (1.0 if name == "loop" else 0.0)
    # One that is killed measures nothing itself.
    assert (usage.cpu_s is None) == (name != "raise_silent")
    if name == "eat_at_once":
        assert usage.memory_bytes is not None
        assert usage.memory_bytes > LIMIT


def test_a_spoilt_conversation_is_a_crash(place: Place) -> None:
    assert isinstance(place.fails("spoil_conversation"), UdfCrashed)


# What a run prints.


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
