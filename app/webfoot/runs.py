"""Runs: each has an id, a log of what the UDF printed, and a record of how it went."""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webfoot.sqlite import SqliteFile

if TYPE_CHECKING:
    from pathlib import Path

_KEPT = 1000
LOG_BYTES = 1_000_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY, id TEXT UNIQUE, record TEXT NOT NULL)
"""


@dataclass(frozen=True)
class Run:
    """How one run went.

    Args:
        id: Its id.
        udf: The UDF that ran; empty for SQL.
        arguments: Its canonical arguments; of SQL, the text and its parameters.
        started: In seconds since 1970.
        seconds: How long it took.
        rows: Rows of its result; None if it failed.
        problem: Why it failed, with the author's traceback; None if it did not.
        trace: The id of all runs that one request has led to.
        parent: The run that has called this one; None if a request did.
    """

    id: str
    udf: str
    arguments: str
    started: float
    seconds: float
    rows: int | None = None
    problem: dict[str, Any] | None = None
    trace: str = ""
    parent: str | None = None


def new_id() -> str:
    """An id that nobody can guess."""
    return secrets.token_hex(8)


class Runs:
    """The latest runs, in a folder: a record of each, and a log of those that printed.

    Args:
        folder: The folder; made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = SqliteFile(folder / "records.sqlite", _SCHEMA)
        self._since_sweep = 0

    def log_path(self, run: str) -> Path:
        """Where `run` writes what it prints."""
        return self._folder / f"{run}.log"

    def record(self, run: Run) -> None:
        """Keep the record of a run; on a full disk it is left out."""
        with contextlib.suppress(OSError):
            statement = "INSERT OR REPLACE INTO runs (id, record) VALUES (?, ?)"
            self._records.run(statement, run.id, json.dumps(vars(run)))
        self._since_sweep += 1
        if self._since_sweep >= _KEPT // 4:
            self._sweep()

    def find(self, run: str) -> Run | None:
        """The record of `run`, if it is still kept."""
        # A TypeError: another version of Webfoot wrote it.
        with contextlib.suppress(OSError, ValueError, TypeError):
            for (record,) in self._records.run("SELECT record FROM runs WHERE id = ?", run):
                return Run(**json.loads(record))
        return None

    def log(self, run: str) -> str:
        """What `run` printed, at most the first megabyte."""
        with contextlib.suppress(OSError), self.log_path(run).open("rb") as file:
            return file.read(LOG_BYTES).decode(errors="replace")
        return ""

    def close(self) -> None:
        """Let go of the folder."""
        self._records.close()

    def _sweep(self) -> None:
        self._since_sweep = 0
        with contextlib.suppress(OSError):
            self._records.run(
                "DELETE FROM runs WHERE number <= (SELECT max(number) FROM runs) - ?", _KEPT
            )
            logs = sorted(self._folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
            for path in logs[:-_KEPT]:
                path.unlink(missing_ok=True)
