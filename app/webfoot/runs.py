"""Runs: each has an id, a log of what the UDF printed, and a record of how it went."""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_KEPT = 1000
LOG_BYTES = 1_000_000


@dataclass(frozen=True)
class Run:
    """How one run went.

    Args:
        id: Its id.
        udf: The UDF that ran.
        arguments: Its canonical arguments.
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
    """The latest runs, in a folder.

    Args:
        folder: The folder; made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._since_sweep = 0

    def log_path(self, run: str) -> Path:
        """Where `run` writes what it prints."""
        return self._folder / f"{run}.log"

    def record(self, run: Run) -> None:
        """Keep the record of a run; on a full disk it is left out."""
        path = self._folder / f"{run.id}.json"
        try:
            # In one write: who reads it meanwhile finds it whole, or finds nothing yet.
            path.write_text(json.dumps(vars(run)))
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._since_sweep += 1
        if self._since_sweep >= _KEPT // 4:
            self._sweep()

    def find(self, run: str) -> Run | None:
        """The record of `run`, if it is still kept."""
        if not (run.isascii() and run.isalnum()):
            return None
        # A TypeError: another version of Webfoot wrote it.
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Run(**json.loads((self._folder / f"{run}.json").read_bytes()))
        return None

    def log(self, run: str) -> str:
        """What `run` printed, at most the first megabyte."""
        with contextlib.suppress(OSError), self.log_path(run).open("rb") as file:
            return file.read(LOG_BYTES).decode(errors="replace")
        return ""

    def _sweep(self) -> None:
        self._since_sweep = 0
        with contextlib.suppress(OSError):
            files = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
            for path in files[: -2 * _KEPT]:
                path.unlink(missing_ok=True)
