"""A number that changes with a store: whoever shares the file sees every change of it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from webfoot.store.revision import Revision

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_every_change_is_seen_by_all_and_is_another(tmp_path: Path) -> None:
    with closing(Revision(tmp_path / "r")) as one, closing(Revision(tmp_path / "r")) as other:
        seen = {one.now()}
        for changing in (one, other) * 50:
            changing.change()
            assert one.now() == other.now()
            seen.add(one.now())
        assert len(seen) == 101


def test_another_process_sees_it_and_is_seen(tmp_path: Path) -> None:
    with closing(Revision(tmp_path / "r")) as mine:
        before = mine.now()
        code = (
            "import sys; from pathlib import Path; from webfoot.store.revision import Revision\n"
            "print(Revision(Path(sys.argv[1])).now().hex())"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "r")]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        # To open it is a change, too: what was found out before may be from an older store.
        assert mine.now() == bytes.fromhex(said) != before


def test_its_place_on_the_disk_is_taken_before_it_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "r").touch()
    with closing(Revision(tmp_path / "r")):
        assert (tmp_path / "r").stat().st_size == 8


def test_a_disk_that_is_full_loses_no_more_than_the_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with closing(Revision(tmp_path / "r")) as revision:
        before = revision.now()
        monkeypatch.setattr(os, "pwrite", full)
        revision.change()
        assert revision.now() == before


def test_a_file_that_was_removed_is_still_read(tmp_path: Path) -> None:
    with closing(Revision(tmp_path / "r")) as revision:
        (tmp_path / "r").unlink()
        before = revision.now()
        revision.change()
        assert revision.now() != before
