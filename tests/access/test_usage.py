"""Requests are counted by name and day, and servers that share a folder count together."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import pytest

from webfoot.access.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path


DAY_S = 86_400


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every count is written at once."""
    monkeypatch.setattr("webfoot.access.usage._SHARE_S", -1.0)


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


def test_a_count_is_written_now_and_then_and_in_the_end(tmp_path: Path) -> None:
    usage = Usage(tmp_path)
    for _ in range(100):
        usage.note("key:a")
    assert usage.today("key:a") == 100
    assert Usage(tmp_path).today("key:a") == 0
    usage.close()
    assert Usage(tmp_path).today("key:a") == 100


def test_the_last_use_is_known_of_names_that_are_not_counted_too(tmp_path: Path) -> None:
    usage = Usage(tmp_path)
    before = time.time()
    usage.note("key:a")
    usage.saw("key:b")
    assert usage.today("key:b") == 0
    last = usage.last()
    usage.close()
    assert set(last) == {"key:a", "key:b"}
    assert before <= last["key:a"] <= last["key:b"] <= time.time()
    assert Usage(tmp_path / "none").last() == {}


@pytest.mark.usefixtures("at_once")
def test_a_new_day_begins_at_nothing_and_old_ones_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    usage = Usage(tmp_path)
    usage.note("key:a")
    monkeypatch.setattr("webfoot.access.usage.time.time", lambda: now + DAY_S)
    assert usage.today("key:a") == 0
    usage.note("key:a")
    assert usage.today("key:a") == 1
    monkeypatch.setattr("webfoot.access.usage.time.time", lambda: now + 40 * DAY_S)
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
    assert Usage(tmp_path).today("key:a") == 3
