"""Temporary folders are held by one process each, and go with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path  # noqa: TC003  # pytest resolves it

import pytest

from webfoot.database.folders import HeldFolder

_TIMES = 250
# Each second one is left behind, as by a process that died.
_COMES_AND_GOES = f"""
import sys
from pathlib import Path
from webfoot.database.folders import HeldFolder
print("ready", flush=True)
sys.stdin.readline()
for number in range({_TIMES}):
    held = HeldFolder.temporary(Path(sys.argv[1]))
    (held.path / "file").touch()
    held.release() if number % 2 else held.remove()
"""


def test_a_folder_is_held_by_one_until_it_is_let_go(tmp_path: Path) -> None:
    held = HeldFolder(tmp_path / "folder")
    with pytest.raises(BlockingIOError):
        HeldFolder(tmp_path / "folder")
    held.release()
    held.release()
    again = HeldFolder(tmp_path / "folder")
    held.remove()  # It is no longer its.
    assert again.path.is_dir()
    (again.path / "sub").mkdir()
    (again.path / "sub" / "file").touch()
    (again.path / "link").symlink_to(tmp_path)
    again.clear()
    assert list(again.path.iterdir()) == []
    again.remove()
    assert tmp_path.is_dir()
    assert not again.path.exists()


def test_what_is_no_folder_cannot_be_held(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        HeldFolder(tmp_path / "file")


def test_processes_that_start_at_once_have_a_folder_each(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _COMES_AND_GOES, str(tmp_path)]
    processes = [
        subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    HeldFolder.temporary(tmp_path).remove()
    assert list(tmp_path.iterdir()) == []
