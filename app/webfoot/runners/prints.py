"""What runs print becomes their logs.

A run that has its process for itself prints to that process' file; those that share a process are
told apart by their threads.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOG: ContextVar[Path] = ContextVar("webfoot_log")


def file_in(temp: Path) -> Path:
    """Where the process whose temporary folder is `temp` writes what its run prints."""
    return temp / "printed"


def keep(printed: str, log: str) -> None:
    """Make what was printed the log of the run, if there is anything."""
    with contextlib.suppress(OSError):
        if os.path.getsize(printed):  # noqa: PTH202  # half the price of a Path, on every run
            os.replace(printed, log)  # noqa: PTH105
            # To rename a file to another name of its own does nothing; see `show`.
            os.unlink(printed)  # noqa: PTH108


def show(printed: Path, log: Path) -> None:
    """Let the log be read while the run still prints, if it has printed anything."""
    with contextlib.suppress(OSError):
        if printed.stat().st_size:
            log.hardlink_to(printed)


class _PerRun(io.TextIOBase):
    """Writes to the log of the run that prints, and elsewhere if it is none's.

    Args:
        otherwise: Where the prints of threads go that belong to no run.
    """

    encoding = "utf-8"

    def __init__(self, otherwise: TextIO) -> None:
        self._otherwise = otherwise

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        log = _LOG.get(None)
        if log is None:
            return self._otherwise.write(text)
        # A full disk must not stop a run; prints are rare enough to open the file for each.
        with (
            contextlib.suppress(OSError),
            log.open("a", encoding=self.encoding, errors="backslashreplace") as file,
        ):
            file.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._otherwise.flush()


@contextlib.contextmanager
def to_log(log: Path) -> Iterator[None]:
    """Send what this thread prints to `log`."""
    if not isinstance(sys.stdout, _PerRun):
        sys.stdout, sys.stderr = _PerRun(sys.stdout), _PerRun(sys.stderr)
    token = _LOG.set(log)
    try:
        yield
    finally:
        _LOG.reset(token)
