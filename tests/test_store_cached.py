"""Files that are kept to save fetching them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from webfoot.store import cached
from webfoot.store.cached import CachedFiles

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> CachedFiles:
    (tmp_path / "kept").mkdir()
    return CachedFiles(tmp_path / "kept", 1000)


def add(files: CachedFiles, tmp_path: Path, name: str, size: int = 400) -> None:
    (tmp_path / "draft").write_bytes(b"x" * size)
    assert files.add(name, tmp_path / "draft").stat().st_size == size


def test_the_least_used_goes_when_there_is_too_much(
    files: CachedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "_IN_USE_S", 0)
    add(files, tmp_path, "a")
    add(files, tmp_path, "b")
    assert files.find("a") == files.path("a")
    add(files, tmp_path, "c")
    assert files.find("b") is None
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["a", "c"]
    assert (files.size, files.removed) == (800, 1)


def test_what_was_just_used_stays_though_there_is_too_much(
    files: CachedFiles, tmp_path: Path
) -> None:
    for name in "abcd":
        add(files, tmp_path, name)
    assert [files.find(name) is not None for name in "abcd"] == [True] * 4
    files.shrink(0)
    assert files.size == 1600


def test_a_file_that_is_replaced_counts_once(files: CachedFiles, tmp_path: Path) -> None:
    for size in (400, 300, 500):
        add(files, tmp_path, "a", size)
    assert files.size == 500


def test_what_is_larger_than_all_is_kept_while_it_is_used(
    files: CachedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(files, tmp_path, "a", 5000)
    assert files.find("a") is not None
    monkeypatch.setattr(cached, "_IN_USE_S", 0)
    files.shrink(1000)
    assert files.size == 0
    assert files.find("a") is None
