"""What a run takes, as it measures itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from webfoot.runners.meters import meter_process, meter_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from webfoot.runners.meters import Meter

MB = 1 << 20
BUSY_S = 0.2
METERS = pytest.mark.parametrize("begin", [meter_process, meter_thread])
proc_only = pytest.mark.skipif(sys.platform != "linux", reason="the system forgets no peak")


def busy(seconds: float = BUSY_S) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@METERS
def test_time_and_processor_time_are_told_apart(begin: Callable[[], Meter]) -> None:
    meter = begin()
    time.sleep(0.1)
    busy()
    usage = meter()
    assert usage.seconds >= BUSY_S + 0.1
    assert usage.cpu_s is not None
    assert BUSY_S <= usage.cpu_s < usage.seconds


def measured(text: str) -> int:
    """What is printed by a process of its own: this one has a past, and threads."""
    code = "import numpy as np\nfrom webfoot.runners.meters import *\nMB = 1 << 20\n" + text
    told = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    return int(told.stdout)


@proc_only
def test_a_run_with_a_process_for_itself_has_that_runs_peak_alone() -> None:
    more = measured("""
np.ones(400 * MB // 8)
meter = meter_process()
before = meter().memory_bytes
np.ones(200 * MB // 8)
print(meter().memory_bytes - before)
""")
    assert 190 * MB < more < 300 * MB


@proc_only
def test_beside_others_it_is_the_peak_of_all_time() -> None:
    peak = measured("np.ones(400 * MB // 8); print(meter_thread()().memory_bytes)")
    assert peak > 400 * MB


def test_what_other_threads_compute_is_the_process_and_not_the_threads() -> None:
    process, thread = meter_process(), meter_thread()
    other = threading.Thread(target=busy)
    other.start()
    other.join()
    whole, own = process().cpu_s, thread().cpu_s
    assert whole is not None
    assert own is not None
    assert own < BUSY_S <= whole


def test_what_a_child_computes_is_its_parents() -> None:
    meter = meter_process()
    code = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    used = meter().cpu_s
    assert used is not None
    assert used >= 0.3


@METERS
def test_on_lambda_the_memory_is_the_functions(
    begin: Callable[[], Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")
    assert begin()().memory_bytes == 1024 * MB


@METERS
def test_without_proc_the_peak_is_what_the_system_says(
    begin: Callable[[], Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, *given: Any) -> int:
        if str(path).startswith("/proc"):
            raise PermissionError(path)
        return real(path, *given)

    monkeypatch.setattr(os, "open", refuse)
    peak = begin()().memory_bytes
    assert peak is not None
    assert peak > 20 * MB
