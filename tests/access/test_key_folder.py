"""The folder of keys and links: shared, private, and once it is there nobody is let in without."""

from __future__ import annotations

import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from webfoot.access.key_folder import KeyFolder
from webfoot.access.keys import Key, new_id, new_key, rotated
from webfoot.access.shares import Share, read_share
from webfoot.sqlite import SqliteFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHARE = Share("0123456789ab", "delays", time.time() + 100_000, {"month": ("1",)}, ("origin",))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[KeyFolder]:
    opened = KeyFolder(tmp_path / "access")
    yield opened
    opened.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KeyFolder]:
    """Another server's."""
    opened = KeyFolder(tmp_path / "access")
    yield opened
    opened.close()


def key(**given: str) -> Key:
    return new_key(Key(new_id(), "", ("viewer",), **given))[0]  # type: ignore[arg-type]  # a text each


def test_nothing_is_made_before_something_is_given(folder: KeyFolder, tmp_path: Path) -> None:
    assert not folder.exist()
    assert folder.find("0123456789ab") is None
    assert not folder.shared(SHARE.id)
    assert folder.share_secret() is None
    assert folder.all_keys() == []
    assert folder.all_shares() == []
    assert not folder.revoke("key", "0123456789ab")
    assert list(tmp_path.iterdir()) == []


def test_what_one_server_gives_the_other_knows(folder: KeyFolder, other: KeyFolder) -> None:
    assert not other.exist()
    ann, bob = key(name="Ann"), key(name="Bob")
    folder.add_key(ann)
    folder.add_key(bob)
    assert other.exist()
    assert other.find(ann.id) == ann
    assert [found.name for found in other.all_keys()] == ["Ann", "Bob"]
    assert other.find(new_id()) is None
    before = time.time()
    assert other.revoke("key", ann.id)
    gone = folder.find(ann.id)
    assert gone is not None
    assert gone.revoked is not None
    assert before <= gone.revoked <= time.time()
    assert folder.find(bob.id) == bob


def test_what_is_revoked_stays_so(folder: KeyFolder) -> None:
    ann = key()
    folder.add_key(ann)
    assert folder.revoke("key", ann.id)
    first = folder.find(ann.id)
    assert folder.revoke("key", ann.id)
    folder.replace_key(rotated(replace(ann), 100)[0])
    again = folder.find(ann.id)
    assert first is not None
    assert again is not None
    assert again.revoked == first.revoked
    # An id is of one kind.
    assert not folder.revoke("share", ann.id)


def test_a_link_is_good_until_it_is_revoked(folder: KeyFolder, other: KeyFolder) -> None:
    folder.add_key(key())
    token = folder.give(SHARE)
    secret = other.share_secret()
    assert secret is not None
    assert secret == folder.share_secret()
    assert read_share(token, secret) == SHARE
    assert other.shared(SHARE.id)
    assert not other.shared(new_id())
    (given,) = other.all_shares()
    assert (given.share, given.revoked) == (SHARE, None)
    assert other.revoke("share", SHARE.id)
    assert not folder.shared(SHARE.id)
    assert folder.all_shares()[0].revoked is not None


def test_nobody_else_on_the_machine_reads_it(folder: KeyFolder, tmp_path: Path) -> None:
    folder.add_key(key())
    folder.give(SHARE)
    place = tmp_path / "access"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    files = list(place.iterdir())
    assert {path.name for path in files} >= {"given.sqlite", "share-secret"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_servers_that_need_a_secret_at_once_have_one(tmp_path: Path) -> None:
    folders = [KeyFolder(tmp_path / "access") for _ in range(8)]
    folders[0].add_key(key())

    def give(number: int) -> str:
        return folders[number].give(replace(SHARE, id=f"{number:012x}"))

    with ThreadPoolExecutor(8) as threads:
        tokens = list(threads.map(give, range(8)))
    secret = folders[0].share_secret()
    assert secret is not None
    assert len(secret) == 32
    assert [getattr(read_share(token, secret), "id", "") for token in tokens] == [
        f"{number:012x}" for number in range(8)
    ]
    assert not list((tmp_path / "access").glob(".share-secret*"))
    for folder in folders:
        folder.close()


def test_a_folder_that_may_not_be_looked_into_is_there(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.add_key(key())
    folder.close()

    def refuse(_: Path) -> bool:
        raise PermissionError("not for you")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.is_dir", refuse)
        assert folder.exist()
        with pytest.raises(PermissionError):
            folder.find("0123456789ab")
    assert len(folder.all_keys()) == 1


def test_threads_use_its_file_one_after_the_other(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, free = SqliteFile.run, threading.Lock()

    def run_alone(file: SqliteFile, statement: str, *values: Any) -> list[Any]:
        assert free.acquire(blocking=False), "another thread uses it"
        try:
            time.sleep(0.002)
            return run(file, statement, *values)
        finally:
            free.release()

    def ask(number: int) -> bool:
        folder.give(replace(SHARE, id=f"{number:012x}"))
        return folder.shared(f"{number:012x}")

    monkeypatch.setattr(SqliteFile, "run", run_alone)
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(40)))
    assert len(folder.all_shares()) == 40


def test_a_damaged_file_lets_nobody_in(folder: KeyFolder, tmp_path: Path) -> None:
    ann = key()
    folder.add_key(ann)
    folder.close()
    for path in (tmp_path / "access").glob("given.sqlite*"):
        path.write_bytes(b"no database" * 1000)
    again = KeyFolder(tmp_path / "access")
    assert again.exist()
    assert again.find(ann.id) is None
    again.close()
