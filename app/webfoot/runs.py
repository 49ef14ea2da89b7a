"""Runs: each has an id, a log of what the UDF printed, and a record of how it went."""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from webfoot.access.principal import Principal
from webfoot.billing import billed_ms
from webfoot.sqlite import BRIEF_BUSY_S, SqliteFile

if TYPE_CHECKING:
    from pathlib import Path

    from webfoot.results import Usage

_KEPT = 2000
LOG_BYTES = 1_000_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY, id TEXT UNIQUE, record TEXT NOT NULL)
"""

Kind = Literal["call", "fan-out", "view", "query"]


@dataclass(frozen=True)
class Run:
    """How one run went.

    Args:
        id: Its id.
        udf: The UDF that ran, or whose result was written in another way; empty for SQL.
        arguments: Its canonical arguments; of SQL, the text and its parameters; of another kind of
            run, what it was about, in words.
        started: When it was asked for, in seconds since 1970.
        seconds: How long it took, with the time that it waited for its turn.
        kind: Whether it was a call, put the results of a fan-out together, wrote a view, or ran a
            query.
        rows: Rows of its result; None if it failed.
        bytes: The length of its result; None if it failed.
        billed_ms: Its own time, as Lambda bills it; 0 if nothing ran.
        memory_bytes: The memory that goes with it; None if it was killed before anybody looked.
        cpu_s: Its processor time, in seconds; None if it was killed.
        problem: Why it failed, with the author's traceback; None if it did not.
        trace: The id of all runs that one request has led to.
        parent: The run that has called this one; None if a request did.
        tenant: Whose it is; see `webfoot.access.principal`.
        principal: The one whose it is, if it is not all of the tenant's.
    """

    id: str
    udf: str
    arguments: str
    started: float
    seconds: float
    kind: Kind = "call"
    rows: int | None = None
    bytes: int | None = None
    billed_ms: int = 0
    memory_bytes: int | None = None
    cpu_s: float | None = None
    problem: dict[str, Any] | None = None
    trace: str = ""
    parent: str | None = None
    tenant: str = ""
    principal: str = ""

    @property
    def audience(self) -> Principal:
        """Who may know of it."""
        return Principal(self.principal, self.tenant)

    def took(self, usage: Usage) -> Run:
        """The same run, with what it took."""
        return replace(
            self,
            billed_ms=billed_ms(usage),
            memory_bytes=usage.memory_bytes,
            cpu_s=usage.cpu_s,
        )


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
        self._records = SqliteFile(folder / "records.sqlite", _SCHEMA, BRIEF_BUSY_S)
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
        with contextlib.suppress(OSError, ValueError):
            for (record,) in self._records.run("SELECT record FROM runs WHERE id = ?", run):
                return _read(record)
        return None

    def all(self) -> list[Run]:
        """The records that are kept, the oldest first."""
        with contextlib.suppress(OSError):
            rows = self._records.run("SELECT record FROM runs ORDER BY number")
            return [run for (record,) in rows if (run := _read(record)) is not None]
        return []

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


def _read(record: str) -> Run | None:
    # A TypeError: another version of Webfoot wrote it.
    with contextlib.suppress(ValueError, TypeError):
        return Run(**json.loads(record))
    return None
