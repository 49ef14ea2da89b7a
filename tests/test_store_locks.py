"""Claims: as locks on bytes, and as locks on files where a system has none on bytes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING, TypeAlias

import pytest

from webfoot.results import digest
from webfoot.store.locks import ByteClaims, FileClaims, open_claims, try_lock

if TYPE_CHECKING:
    from pathlib import Path

Kind: TypeAlias = type[ByteClaims] | type[FileClaims]

KEY, OTHER = digest("one"), digest("two")


@pytest.fixture(params=[ByteClaims, FileClaims])
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


def test_a_key_is_held_once_in_one_process_and_in_two_stores_of_it(
    kind: Kind, tmp_path: Path
) -> None:
    one, two = kind(tmp_path), kind(tmp_path)
    assert one.take(KEY)
    assert not one.take(KEY)
    assert not two.take(KEY)
    assert two.take(OTHER)
    one.release(KEY)
    assert two.take(KEY)
    two.close()
    assert one.take(KEY)
    one.close()


def test_a_key_that_another_process_holds_is_free_when_that_is_killed(
    kind: Kind, tmp_path: Path
) -> None:
    script = f"""
import sys, time
from pathlib import Path
from webfoot.store.locks import {kind.__name__}
claims = {kind.__name__}(Path(sys.argv[1]))
print(claims.take(sys.argv[2]), flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", script, str(tmp_path), KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        claims = kind(tmp_path)
        assert not claims.take(KEY)
        assert claims.take(OTHER)
        holder.kill()
        holder.wait()
        assert claims.take(KEY)
        claims.close()


def test_files_of_claims_that_died_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    living = FileClaims(tmp_path)
    assert living.take(KEY)
    (tmp_path / OTHER).touch()
    FileClaims(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [KEY]
    living.close()
    assert list(tmp_path.iterdir()) == []


def test_claims_are_bytes_where_the_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_claims(tmp_path), ByteClaims)
    monkeypatch.delattr(fcntl, "F_OFD_SETLK")
    assert isinstance(open_claims(tmp_path), FileClaims)


def test_a_lock_on_a_file_that_was_unlinked_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock = tmp_path / "lock", fcntl.flock

    def late(descriptor: int, how: int) -> None:
        path.unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert try_lock(path) is None


def test_a_lock_in_a_folder_that_is_gone_is_an_error(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        kind(tmp_path / "gone").take(KEY)
    assert not os.path.exists(tmp_path / "gone")  # noqa: PTH110  # on purpose
