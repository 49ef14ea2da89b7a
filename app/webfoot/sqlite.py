"""SQLite files that several processes share: for records that are many and small.

Nothing is synced to disk, as in the rest of a store: a process can be killed at any moment, and
after a power cut a file is checked before it is used, and begun anew if it is damaged.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

# How long a writer waits for another process' to end, which takes microseconds, unless the machine
# lets it stand still in the middle.
_BUSY_S = 30.0
# The same where what is not written is no error: the event loop waits, too.
BRIEF_BUSY_S = 5.0
_RETRY_S = 0.01
# The part of SQLite's error codes that says what is wrong; the rest says where.
_PRIMARY = 0xFF
_SETTINGS = (
    "PRAGMA auto_vacuum = incremental",
    "PRAGMA journal_mode = wal",
    "PRAGMA synchronous = off",
)
_log = logging.getLogger(__name__)


class SqliteFile:
    """A file with tables, which this and other processes read and change.

    It is opened, and made if it is missing, when it is first used, which few starts on Lambda wait
    for. What goes wrong with it is an OSError, as with any file: ENOSPC if the disk is full. One
    thread at a time may use it.

    Args:
        path: Where it is; the folder above it is made if it is missing.
        schema: The statement that makes its table, if that is missing.
        busy_s: How long to wait for another process that writes, in seconds.
    """

    def __init__(self, path: Path, schema: str, busy_s: float = _BUSY_S) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._schema = schema
        self._busy_s = busy_s
        self._opening = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement, which is a transaction of its own.

        Returns:
            Its rows.
        """
        with _AsOsErrors():
            return self._connection().execute(statement, values).fetchall()

    def size(self) -> int:
        """How many bytes of the file are in use."""
        [(pages, free, bytes_each)] = self.run(
            "SELECT page_count, freelist_count, page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return int((pages - free) * bytes_each)

    def shrink(self) -> None:
        """Give the disk back what is not in use."""
        with _AsOsErrors():
            # `execute` would end after the first page.
            self._connection().executescript("PRAGMA incremental_vacuum")

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()

    def _connection(self) -> sqlite3.Connection:
        with self._opening:
            if self._opened is None:
                self._opened = _open_or_renew(self._path, self._schema, self._busy_s)
            return self._opened


def _open_or_renew(path: Path, schema: str, busy_s: float) -> sqlite3.Connection:
    try:
        return _open(path, schema, busy_s)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        _log.warning("%s is damaged (%s); a new one takes its place", path, error)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        return _open(path, schema, busy_s)


def _open(path: Path, schema: str, busy_s: float) -> sqlite3.Connection:
    """Open the file; wait for others who do so.

    SQLite waits for them by itself, but not when the first of them changes how the file is written.
    """
    until = time.monotonic() + busy_s
    while True:
        try:
            return _connect(path, schema, busy_s)
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > until:
                raise
        time.sleep(_RETRY_S)


def _is_before_boot(moment: float) -> bool:
    import psutil  # noqa: PLC0415  # 7 ms, which a start on Lambda goes without

    return moment < psutil.boot_time()


def _connect(path: Path, schema: str, busy_s: float) -> sqlite3.Connection:
    before_boot = path.exists() and _is_before_boot(path.stat().st_mtime)
    connection = sqlite3.connect(
        path, timeout=busy_s, isolation_level=None, check_same_thread=False
    )
    try:
        for statement in (*_SETTINGS, schema):
            connection.execute(statement)
        if before_boot:
            _check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    [(found,)] = connection.execute("PRAGMA quick_check(1)")
    if found != "ok":
        raise sqlite3.DatabaseError(found)


class _AsOsErrors:
    """A context in which what SQLite raises is an OSError.

    No generator, which would take as long as a statement does.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, sqlite3.Error):
            is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            raise OSError(errno.ENOSPC if is_full else errno.EIO, str(error)) from error
