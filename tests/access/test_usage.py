"""Requests are counted by name and day, and servers that share a folder count together."""

from __future__ import annotations

import errno
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from webfoot.access.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path


DAY_S = 86_400


@dataclass
class Clock:
    """Stands still, where the module `time` goes on, until a test sets it."""

    now: float = 1_700_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("webfoot.access.usage.time", clock)
    return clock


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every count is written at once."""
    monkeypatch.setattr("webfoot.access.usage._SHARE_S", -1.0)


def written(folder: Path) -> int:
    """What another server knows that looks now."""
    with closing(Usage(folder)) as other:
        return other.today("key:a")


@pytest.mark.usefixtures("at_once")
def test_servers_that_share_a_folder_count_together(tmp_path: Path) -> None:
    one, other = Usage(tmp_path), Usage(tmp_path)
    for _ in range(3):
        one.note("key:a")
    assert other.today("key:a") == 3
    other.note("key:a")
    one.note("key:a")
    assert one.today("key:a") == 5
    assert one.today("key:b") == 0
    one.close()
    other.close()


def test_a_count_is_written_now_and_then_and_in_the_end(tmp_path: Path, clock: Clock) -> None:
    with closing(Usage(tmp_path)) as usage:
        for _ in range(100):
            usage.note("key:a")
        assert usage.today("key:a") == 100
        assert written(tmp_path) == 0
        clock.now += 1.1
        usage.note("key:a")
        assert written(tmp_path) == 101
        usage.note("key:a")
        assert written(tmp_path) == 101
    assert written(tmp_path) == 102


def test_the_last_use_is_known_of_names_that_are_not_counted_too(
    tmp_path: Path, clock: Clock
) -> None:
    first = clock.now
    with closing(Usage(tmp_path)) as usage:
        usage.note("key:a")
        clock.now += 5
        usage.saw("key:b")
        assert usage.today("key:b") == 0
        assert usage.last() == {"key:a": first, "key:b": first + 5}
    assert Usage(tmp_path / "none").last() == {}


@pytest.mark.usefixtures("at_once")
def test_a_new_day_begins_at_nothing_and_old_ones_are_forgotten(
    tmp_path: Path, clock: Clock
) -> None:
    usage = Usage(tmp_path)
    usage.note("key:a")
    clock.now += DAY_S
    assert usage.today("key:a") == 0
    usage.note("key:a")
    assert usage.today("key:a") == 1
    clock.now += 40 * DAY_S
    usage.note("key:b")
    assert usage._file is not None
    assert usage._file.run("SELECT name FROM usage") == [("key:b",)]
    usage.close()


def test_without_a_folder_this_process_counts_alone() -> None:
    usage = Usage(None)
    for _ in range(3):
        usage.note("key:a")
    assert usage.today("key:a") == 3
    assert usage.last() == {}
    usage.close()


@pytest.mark.usefixtures("at_once")
def test_on_a_full_disk_nothing_is_lost_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = Usage(tmp_path)
    usage.note("key:a")
    file = usage._file
    assert file is not None

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(file, "run", full)
        usage.note("key:a")
        assert usage.today("key:a") == 2
    usage.note("key:a")
    usage.close()
    assert written(tmp_path) == 3
