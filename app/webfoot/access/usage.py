"""How often each name has asked on each day, and when it last did: counted now, written later."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.sqlite import BRIEF_BUSY_S, SqliteFile

if TYPE_CHECKING:
    from pathlib import Path

_DAY_S = 86_400
# What servers that share a folder count, they tell each other this often; and this often that a
# name is in use.
_SHARE_S = 1.0
_LAST_USE_S = 30.0
_KEPT_DAYS = 31
_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    name TEXT NOT NULL,
    day INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    last REAL NOT NULL,
    PRIMARY KEY (name, day)
) WITHOUT ROWID
"""


@dataclass
class _Count:
    """What is known of a name on one day.

    Args:
        day: The day of UTC, counted from 1970.
        shared: How many requests are in the file, ours and others'.
        own: How many of ours are not in it yet.
        written: When that was last changed, on the monotonic clock.
    """

    day: int
    shared: int = 0
    own: int = 0
    written: float = 0.0


class Usage:
    """Counts requests by name and day; servers that share a folder count together.

    Args:
        folder: Where the counts are kept, once it is there; None to keep them in this process.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: SqliteFile | None = None
        self._counts: dict[str, _Count] = {}
        self._swept_on = 0

    def note(self, name: str) -> None:
        """Count a request."""
        count = self._count(name)
        count.own += 1
        if time.monotonic() - count.written > _SHARE_S:
            self._write(name, count)

    def saw(self, name: str) -> None:
        """Note that a name is in use, whether its requests are counted or not."""
        count = self._count(name)
        if time.monotonic() - count.written > _LAST_USE_S:
            self._write(name, count)

    def today(self, name: str) -> int:
        """How many requests there have been on this day of UTC."""
        count = self._count(name)
        return count.shared + count.own

    def last(self) -> dict[str, float]:
        """When each name last asked, in seconds since 1970."""
        file = self._open()
        if file is None:
            return {}
        return dict(file.run("SELECT name, max(last) FROM usage GROUP BY name"))

    def close(self) -> None:
        """Write what is not written yet."""
        for name, count in self._counts.items():
            if count.own:
                self._write(name, count)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _count(self, name: str) -> _Count:
        today = int(time.time() // _DAY_S)
        count = self._counts.get(name)
        if count is None or count.day != today:
            if count is not None and count.own:
                self._write(name, count)
            count = self._counts[name] = _Count(today)
            # Counted or not, what others have counted is known from here on.
            self._write(name, count)
        return count

    def _write(self, name: str, count: _Count) -> None:
        """Add our count to the file's; while the disk is full, it is kept here."""
        count.written = time.monotonic()
        with contextlib.suppress(OSError):
            file = self._open()
            if file is None:
                return
            [(shared,)] = file.run(
                "INSERT INTO usage VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE"
                " SET requests = requests + ?3, last = max(last, ?4) RETURNING requests",
                *(name, count.day, count.own, time.time()),
            )
            count.shared, count.own = shared, 0
            if self._swept_on != count.day:
                self._swept_on = count.day
                file.run("DELETE FROM usage WHERE day < ?", count.day - _KEPT_DAYS)
                counts = self._counts.items()
                self._counts = {n: c for n, c in counts if c.day == count.day or c.own}

    def _open(self) -> SqliteFile | None:
        if self._file is None and self._folder is not None and self._folder.is_dir():
            self._file = SqliteFile(self._folder / "usage.sqlite", _SCHEMA, BRIEF_BUSY_S)
        return self._file
