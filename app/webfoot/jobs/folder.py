"""Jobs in a folder: one SQLite file, and a locked file for each server that runs some."""

from __future__ import annotations

import contextlib
import math
import os
import time
import uuid
from typing import TYPE_CHECKING

from webfoot.jobs import read_job, write_job
from webfoot.jobs.records import Wish
from webfoot.sqlite import SqliteFile
from webfoot.store.locks import try_lock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from webfoot.jobs import Job

# Jobs that ended are forgotten after a week, or when there are more than this many.
_KEPT_S = 7 * 86_400
_KEPT = 10_000
_SWEEP_EACH = 100
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY,
    id TEXT UNIQUE NOT NULL,
    owner TEXT NOT NULL,
    once TEXT UNIQUE,
    cancel INTEGER NOT NULL DEFAULT 0,
    until REAL,
    ended REAL,
    record TEXT NOT NULL
)
"""


class FolderRecords:
    """Jobs in a folder of this machine; see `webfoot.jobs.records.JobRecords`.

    Args:
        folder: The folder; made if it is missing.
    """

    look_s = 1.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Named for its tables: another version's file is left alone.
        self._file = SqliteFile(folder / "jobs-2.sqlite", _SCHEMA)
        self._owner = uuid.uuid4().hex
        self._alive: int | None = None
        self._since_sweep = 0

    async def add(self, job: Job, once: str | None) -> Job:
        """Insert the job, unless there is one under the key."""
        self._since_sweep += 1
        if self._since_sweep >= _SWEEP_EACH:
            self._sweep()
        self._live()
        statement = (
            "INSERT INTO jobs (id, owner, once, record) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (once) DO NOTHING RETURNING id"
        )
        if self._file.run(statement, job.id, self._owner, once, write_job(job)):
            return job
        [(record,)] = self._file.run("SELECT record FROM jobs WHERE once = ?", once)
        return read_job(record)

    async def free(self, once: str, job: Job) -> None:
        """Take the key off the job."""
        self._file.run("UPDATE jobs SET once = NULL WHERE id = ? AND once = ?", job.id, once)

    async def find(self, id: str) -> Job | None:  # noqa: A002  # it is one
        """Look it up; one that cannot be read counts as none."""
        with contextlib.suppress(ValueError):
            for (record,) in self._file.run("SELECT record FROM jobs WHERE id = ?", id):
                return read_job(record)
        return None

    async def keep(self, job: Job) -> None:
        """Update its row."""
        self._file.run(
            "UPDATE jobs SET ended = ?, record = ? WHERE id = ?", job.ended, write_job(job), job.id
        )

    async def cancel(self, job: Job) -> None:
        """Mark its row."""
        self._file.run("UPDATE jobs SET cancel = 1 WHERE id = ? AND ended IS NULL", job.id)

    async def wait_for(self, job: Job, seconds: float) -> None:
        """Mark its row with until when."""
        self._file.run(
            "UPDATE jobs SET until = max(coalesce(until, 0), ?) WHERE id = ? AND ended IS NULL",
            *(time.time() + seconds, job.id),
        )

    async def wishes(self) -> Mapping[str, Wish]:
        """Look for marks."""
        rows = self._file.run(
            "SELECT id, cancel, until FROM jobs"
            " WHERE owner = ? AND ended IS NULL AND (cancel OR until IS NOT NULL)",
            self._owner,
        )
        now = time.time()
        return {
            id: Wish(bool(cancel), -math.inf if until is None else until - now)
            for id, cancel, until in rows  # noqa: A001  # it is one
        }

    async def unfinished(self) -> list[Job]:
        """Select them."""
        rows = self._file.run("SELECT record FROM jobs WHERE ended IS NULL")
        return [read_job(record) for (record,) in rows]

    async def take_over(self, job: Job) -> bool:
        """Take its row, if its server's file is not locked."""
        rows = self._file.run("SELECT owner FROM jobs WHERE id = ? AND ended IS NULL", job.id)
        for (owner,) in rows:
            if owner == self._owner or self._lives(owner):
                continue
            self._live()
            # Another server may be faster.
            statement = "UPDATE jobs SET owner = ? WHERE id = ? AND owner = ? RETURNING id"
            return bool(self._file.run(statement, self._owner, job.id, owner))
        return False

    async def close(self) -> None:
        """Remove the server's own file."""
        if self._alive is not None:
            (self._folder / f"{self._owner}.alive").unlink(missing_ok=True)
            os.close(self._alive)
        self._file.close()

    def _live(self) -> None:
        if self._alive is None:
            self._alive = try_lock(self._folder / f"{self._owner}.alive")

    def _lives(self, owner: str) -> bool:
        path = self._folder / f"{owner}.alive"
        if not path.exists():
            return False
        descriptor = try_lock(path)
        if descriptor is None:
            return True
        path.unlink(missing_ok=True)
        os.close(descriptor)
        return False

    def _sweep(self) -> None:
        self._since_sweep = 0
        self._file.run("DELETE FROM jobs WHERE ended < ?", time.time() - _KEPT_S)
        self._file.run(
            "DELETE FROM jobs WHERE ended IS NOT NULL"
            " AND number <= (SELECT max(number) FROM jobs) - ?",
            _KEPT,
        )
