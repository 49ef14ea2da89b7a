"""Tables that several processes share, and what is left of them after a crash."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from webfoot.sqlite import SqliteFile

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = "CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY, text TEXT)"
INSERT = "INSERT INTO numbers (text) VALUES (?)"
COUNT = "SELECT count(*) FROM numbers"


def test_what_one_writes_another_reads_at_once(tmp_path: Path) -> None:
    one, two = (SqliteFile(tmp_path / "below" / "a.sqlite", SCHEMA) for _ in range(2))
    for number in range(10):
        one.run(INSERT, str(number))
        assert two.run(COUNT) == [(number + 1,)]
    one.close()
    two.close()


def test_a_file_is_made_when_it_is_first_used(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.sqlite"
    file = SqliteFile(path, SCHEMA)
    assert list(tmp_path.rglob("*")) == [path.parent]
    assert file.run(COUNT) == [(0,)]
    assert path.exists()
    file.close()


def test_many_may_open_a_new_file_at_once_and_write(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def write() -> None:
        try:
            file = SqliteFile(tmp_path / "a.sqlite", SCHEMA)
            for _ in range(20):
                file.run(INSERT, "x")
            file.close()
        except BaseException as error:  # noqa: BLE001  # shown below
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert SqliteFile(tmp_path / "a.sqlite", SCHEMA).run(COUNT) == [(400,)]


_WRITING = f"""
import sys
from pathlib import Path
from webfoot.sqlite import SqliteFile
file = SqliteFile(Path(sys.argv[1]), {SCHEMA!r})
while True:
    file.run({INSERT!r}, "x" * 3000)
    print(file.run({COUNT!r})[0][0], flush=True)
"""


def test_a_writer_that_is_killed_loses_nothing_that_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    for _ in range(3):
        command = [sys.executable, "-c", _WRITING, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            told = [writer.stdout.readline() for _ in range(20)]
            writer.kill()
            told += writer.stdout.readlines()
        assert SqliteFile(path, SCHEMA).run(COUNT)[0][0] >= int(told[-1])


@pytest.mark.parametrize("harm", ["no database", "other pages"])
def test_a_damaged_file_is_begun_anew(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.sqlite"
    file = SqliteFile(path, SCHEMA)
    for _ in range(500):
        file.run(INSERT, "x" * 1000)
    file.close()
    data = bytearray(path.read_bytes())
    if harm == "no database":
        data[:100] = b"x" * 100
    else:
        # As after a power cut: the first page is there, of the others some are another's.
        data[4096 * 3 : 4096 * 40] = os.urandom(4096 * 37)
    path.write_bytes(data)
    long_ago = psutil.boot_time() - 1000
    os.utime(path, (long_ago, long_ago))
    with caplog.at_level(logging.WARNING):
        file = SqliteFile(path, SCHEMA)
        assert file.run(COUNT) == [(0,)]
    assert "is damaged" in caplog.text
    file.close()


def test_what_is_deleted_is_given_back_to_the_disk(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "a.sqlite", SCHEMA)
    for _ in range(500):
        file.run(INSERT, "x" * 1000)
    full = file.size()
    file.run("DELETE FROM numbers")
    assert file.size() < full / 10
    file.shrink()
    file.close()
    assert (tmp_path / "a.sqlite").stat().st_size < full / 10


def test_what_goes_wrong_is_an_error_of_the_operating_system(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "a.sqlite", SCHEMA)
    file.run("PRAGMA max_page_count = 3")
    with pytest.raises(OSError, match="full") as caught:
        file.run(INSERT, "x" * 100_000)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="no such table") as caught:
        file.run("SELECT * FROM missing")
    assert caught.value.errno == errno.EIO
    file.close()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="unable to open"):
        SqliteFile(tmp_path / "folder", SCHEMA).run(COUNT)


def test_who_waits_for_another_writer_gives_up_after_its_own_time(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    patient, brief = SqliteFile(path, SCHEMA), SqliteFile(path, SCHEMA, 0.05)
    brief.run(COUNT)
    patient.run("BEGIN IMMEDIATE")
    with pytest.raises(OSError, match="locked") as caught:
        brief.run(INSERT, "x")
    assert caught.value.errno == errno.EIO
    patient.run("COMMIT")
    brief.run(INSERT, "x")
    waits_ms = [file.run("PRAGMA busy_timeout") for file in (brief, patient)]
    assert waits_ms == [[(50,)], [(30_000,)]]
    for file in (patient, brief):
        file.close()
