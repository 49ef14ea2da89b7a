"""Lines that nobody waits for: in order, bounded, and whole after a kill."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from tests.server_process import eventually

from webfoot import journal as journals
from webfoot.journal import Journal, Segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pytest


def written(folder: Path) -> list[str]:
    return [line for path in Segments(folder, 1).paths() for line in path.read_text().splitlines()]


def as_lines(numbers: Iterable[int]) -> str:
    return "".join([f"line {number}\n" for number in numbers])


def numbered(*sinks: Callable[[bytes], None]) -> Journal[int]:
    return Journal(as_lines, sinks)


def test_notes_become_lines_in_their_order(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "made", 10**6)
    journal = numbered(segments.append)
    for number in range(1000):
        journal.add(number)
    journal.flush()
    assert written(tmp_path / "made") == [f"line {number}" for number in range(1000)]
    journal.close()
    segments.close()


def test_they_are_written_without_being_asked_for(tmp_path: Path) -> None:
    others = set(threading.enumerate())
    segments = Segments(tmp_path, 10**6)
    journal = numbered(segments.append)
    for number in range(3):
        journal.add(number)
        patient_until = time.monotonic() + 20
        while len(written(tmp_path)) <= number:
            assert time.monotonic() < patient_until
            time.sleep(0.01)
    journal.close()
    own = set(threading.enumerate()) - others
    assert [thread for thread in own if thread.name == "webfoot-journal"] == []


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    journal = numbered(Segments(tmp_path, 10**6).append)
    journal.add(1)
    journal.close()
    assert written(tmp_path) == ["line 1"]


def test_every_sink_gets_every_line() -> None:
    one: list[bytes] = []
    two: list[bytes] = []
    journal = numbered(one.append, two.append)
    journal.add(1)
    journal.close()
    assert one == two == [b"line 1\n"]


def test_more_than_can_wait_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_MOST_WAITING", 5)
    monkeypatch.setattr(journals, "_EACH_S", 60.0)
    lines: list[bytes] = []
    journal = numbered(lines.append)
    for number in range(8):
        journal.add(number)
    journal.close()
    assert journal.dropped == 3
    assert lines == [b"line 0\nline 1\nline 2\nline 3\nline 4\n"]


def test_a_full_disk_loses_lines_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    lines: list[bytes] = []
    journal = numbered(refuse, lines.append)
    journal.add(1)
    journal.add(2)
    journal.close()
    assert journal.dropped == 2
    assert lines == [b"line 1\nline 2\n"]
    assert "no space left" in caplog.text


def test_a_folder_keeps_the_latest_that_fit(tmp_path: Path) -> None:
    segments = Segments(tmp_path, 8_000)
    for number in range(1000):
        segments.append(f"{number:099}\n".encode())
        assert segments.size() <= 8_000
    segments.close()
    lines = [int(line) for line in written(tmp_path)]
    assert lines == list(range(lines[0], 1000))
    assert len(lines) >= 60
    assert 2 < len(segments.paths()) <= 9


def test_processes_share_a_folder_and_its_bound(tmp_path: Path) -> None:
    one, two = Segments(tmp_path, 8_000), Segments(tmp_path, 8_000)
    for number in range(500):
        for segments in (one, two):
            segments.append(f"{number:099}\n".encode())
    # A segment of each may be open beyond what was there when it was begun.
    assert one.size() <= 9_000
    assert written(tmp_path)[-1] == f"{499:099}"


def test_a_segment_that_somebody_removes_is_begun_anew(tmp_path: Path) -> None:
    segments = Segments(tmp_path, 10**6)
    segments.append(b"gone\n")
    for path in segments.paths():
        path.unlink()
    segments.append(b"there\n")
    assert written(tmp_path) == ["there"]


def latest(segments: Segments, since: float, most_bytes: int) -> bytes:
    copy = io.BytesIO()
    segments.copy_latest(copy, since, most_bytes)
    return copy.getvalue()


def test_the_latest_is_copied_as_far_back_as_is_asked_for(tmp_path: Path) -> None:
    for number, text in enumerate((b"one\n", b"two\ntor", b"three\n"), 1):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(text)
        os.utime(path, (number, number))
    segments = Segments(tmp_path, 10**6)
    assert latest(segments, 0, 100) == b"three\n\ntwo\ntor\none\n\n"
    assert latest(segments, 2, 100) == b"three\n\ntwo\ntor\n"
    assert latest(segments, 0, 10) == b"three\n\n\ntor\n"
    assert latest(segments, 0, 6) == b"three\n\n"
    assert latest(segments, 4, 100) == b""
    assert latest(Segments(tmp_path / "nothing", 1), 0, 100) == b""


def test_what_is_written_survives_a_kill(tmp_path: Path) -> None:
    script = f"""
import itertools, sys
from pathlib import Path
from webfoot.journal import Journal, Segments
write = lambda notes: "".join("line %d\\n" % note for note in notes)
journal = Journal(write, [Segments(Path({str(tmp_path)!r}), 10**9).append])
print("ready", flush=True)
for number in itertools.count():
    journal.add(number)
    if number % 1000 == 0:
        journal.flush()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        eventually(lambda: len(written(tmp_path)) > 1000)
        os.kill(process.pid, signal.SIGKILL)
    lines = written(tmp_path)
    # The last may be half a line.
    assert lines[:-1] == [f"line {number}" for number in range(len(lines) - 1)]
