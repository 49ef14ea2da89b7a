"""Lines that are written as they come, without anybody waiting: a queue, a thread, a folder.

    20261121T182822.123456-4711.jsonl …    segments, the oldest first; each is one process' own

Nothing is synced to disk. A process that is killed loses what it had noted in the last fifth of a
second, and may leave half a line at the end of its last segment, which readers pass over.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import IO

_Note = TypeVar("_Note")

# Written together: to write each by itself would cost more than all else that is done for it.
_EACH_S = 0.2
# No more than this at once: memory for more of them would come from the system each time.
_TOGETHER = 200
# Notes that wait to be written; more come only faster than a disk takes them.
_MOST_WAITING = 20_000
# How many segments a folder has when it is full: the oldest goes as a whole.
_SEGMENTS = 8

_log = logging.getLogger(__name__)


class Journal(Generic[_Note]):
    """Writes notes as lines, on a thread that starts with the first of them.

    A note is kept until then: it should be small, and lead to nothing that is large.

    Args:
        write: Gives the lines of some notes, each with its end.
        sinks: Where lines go.

    Attributes:
        dropped: How many notes were lost, as they came too fast or could not be written.
    """

    def __init__(
        self,
        write: Callable[[Sequence[_Note]], str],
        sinks: Sequence[Callable[[bytes], None]],
    ) -> None:
        self._write = write
        self._sinks = sinks
        self._waiting: deque[_Note] = deque()
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def add(self, note: _Note) -> None:
        """Have a note written."""
        if len(self._waiting) >= _MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(note)
        if not self._woken.is_set():
            self._wake()

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            lost = 0
            error: OSError | None = None
            for left in range(len(self._waiting), 0, -_TOGETHER):
                notes = [self._waiting.popleft() for _ in range(min(left, _TOGETHER))]
                failed = self._write_out(self._write(notes).encode())
                if failed is not None:
                    lost, error = lost + len(notes), failed
            if lost:
                self.dropped += lost
                _log.warning("%d records of requests are lost: %s", lost, error)

    def close(self) -> None:
        """Write what waits, and stop."""
        self._closing.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _write_out(self, lines: bytes) -> OSError | None:
        """Give lines to all sinks; the last error, if one cannot take them."""
        failed = None
        for sink in self._sinks:
            try:
                sink(lines)
            except OSError as error:
                failed = error
        return failed

    def _wake(self) -> None:
        if self._thread is None:
            # A daemon: it must not keep a process that ends without closing anything.
            self._thread = threading.Thread(target=self._work, name="webfoot-journal", daemon=True)
            self._thread.start()
        self._woken.set()

    def _work(self) -> None:
        while not self._closing.is_set():
            self._woken.wait()
            self._closing.wait(_EACH_S)
            # Before what waits is taken: a note that comes meanwhile wakes this thread again.
            self._woken.clear()
            self.flush()


class Segments:
    """A folder of lines, which processes may share: the latest that fit.

    Args:
        folder: The folder; made with the first lines.
        most_bytes: How much it may hold, of all processes together.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._descriptor: int | None = None
        self._size = 0

    def append(self, lines: bytes) -> None:
        """Write whole lines.

        Raises:
            OSError: If the disk is full.
        """
        if self._descriptor is None or self._is_over():
            self._begin()
        assert self._descriptor is not None, "it was just opened"
        self._size += os.write(self._descriptor, lines)

    def paths(self) -> list[Path]:
        """The segments, the oldest first."""
        return sorted(self._folder.glob("*.jsonl"))

    def size(self) -> int:
        """How much there is, in bytes."""
        return sum(state.st_size for _, state in self._states())

    def copy_latest(self, target: IO[bytes], since: float, most_bytes: int) -> None:
        """Copy the segments that were written to since some time, the latest first.

        Args:
            target: Gets their lines, older ones among them; what is torn has a line of its own.
            since: The time, in seconds since 1970.
            most_bytes: How much to copy; of the segment that does not fit, the end.
        """
        left = most_bytes
        times = ((state.st_mtime, path) for path, state in self._states())
        for written, path in sorted(times, reverse=True):
            if written < since or left <= 0:
                return
            # Some process may have removed it meanwhile.
            with contextlib.suppress(FileNotFoundError), path.open("rb") as source:
                start = max(source.seek(0, os.SEEK_END) - left, 0)
                source.seek(start)
                shutil.copyfileobj(source, target)
                left -= source.tell() - start
                target.write(b"\n")

    def close(self) -> None:
        """Let go of the last segment."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_over(self) -> bool:
        """Whether the segment is full, or somebody has removed it."""
        assert self._descriptor is not None, "it is asked of one that is open"
        is_gone = os.fstat(self._descriptor).st_nlink == 0
        return is_gone or self._size >= self._most_bytes // _SEGMENTS

    def _begin(self) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_room()
        began = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        path = self._folder / f"{began}-{os.getpid()}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor, self._size = os.open(path, flags, 0o600), 0

    def _make_room(self) -> None:
        """Remove the oldest segments, so that a new one fits."""
        sizes = [(path, state.st_size) for path, state in self._states()]
        over = sum(size for _, size in sizes) - self._most_bytes * (_SEGMENTS - 1) // _SEGMENTS
        for path, size in sizes:
            if over <= 0:
                return
            path.unlink(missing_ok=True)
            over -= size

    def _states(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.paths():
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()
