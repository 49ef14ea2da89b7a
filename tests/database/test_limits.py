"""Memory and threads are what Lambda, a control group and the machine allow, the least of them."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003  # pytest resolves it

import pytest

from webfoot.database.limits import Limits, limits

GIB = 1 << 30


@pytest.mark.parametrize(
    ("mib", "memory_mib", "threads"),
    [(128, 76, 1), (512, 307, 1), (1769, 1061, 1), (1770, 1062, 2), (3008, 1804, 2)],
)
def test_on_lambda_they_follow_the_function_s_memory(
    mib: int, memory_mib: int, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    found = limits({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(mib)}, tmp_path)
    assert (found.memory_bytes >> 20, found.threads) == (memory_mib, threads)


@pytest.mark.parametrize("path", ["/", "/app", "/../../host/path"])
def test_a_control_group_of_version_2_limits_them(path: str, tmp_path: Path) -> None:
    root = tmp_path
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::{path}\n")
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{GIB}\n")
    (group / "cpu.max").write_text("150000 100000\n")
    assert limits({}, root) == Limits(int(GIB * 0.6), 1)


def test_a_group_in_a_group_has_the_limits_of_both(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    inner = tmp_path / "sys/fs/cgroup/outer/inner"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text(f"{GIB // 2}\n")
    (inner / "cpu.max").write_text("max 100000\n")
    assert limits({}, tmp_path) == Limits(
        int(GIB / 2 * 0.6), limits({}, tmp_path / "nothing").threads
    )


def test_a_control_group_of_version_1_limits_them(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n")
    top = tmp_path / "sys/fs/cgroup"
    for name in ("memory", "cpu"):
        (top / name).mkdir(parents=True)
    (top / "memory/memory.limit_in_bytes").write_text(f"{GIB}\n")
    (top / "cpu/cpu.cfs_quota_us").write_text("100000\n")
    (top / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert limits({}, tmp_path) == Limits(int(GIB * 0.6), 1)


def test_no_limit_is_what_the_machine_has(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("1:memory:/\n2:cpu:/\n")
    for name in ("memory", "cpu"):
        (tmp_path / "sys/fs/cgroup" / name).mkdir(parents=True)
    top = tmp_path / "sys/fs/cgroup"
    (top / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (top / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (top / "cpu/cpu.cfs_period_us").write_text("100000\n")
    machine = limits({}, tmp_path / "nothing")
    assert limits({}, tmp_path) == machine
    assert machine.threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("text", ["", "much", "-1", "1e9", "²"])
def test_what_is_no_size_is_no_limit(text: str, tmp_path: Path) -> None:
    assert limits({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": text}, tmp_path) == limits({}, tmp_path)
