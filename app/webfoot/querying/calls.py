"""Calls as files: what the catalog's macros read in the sandbox, `webfoot://udfs/NAME.parquet?…`.

DuckDB opens them through this file system, and to open one is to make its call. So a query has the
macros of the catalog as every DuckDB has them, and no request leaves the process for it.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import re
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from fsspec import AbstractFileSystem

from webfoot.errors import Error, QueryRefused, ServerBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROTOCOL = "webfoot"
# What stands before `/udfs/…` in the macros.
BASE_URL = f"{PROTOCOL}:/"
_ADDRESS = re.compile(rf"{BASE_URL}/udfs/([^/.?]+)(?:((?:/[^/?]+)+)/data)?\.parquet(?:\?(.*))?")
# Nothing changes while a query runs.
_MODIFIED = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)


class _File(io.FileIO):
    """A file that DuckDB opens, and lets go of without closing it."""

    def __del__(self) -> None:
        self.close()


class CallFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The results of calls as files that can only be read.

    Args:
        find: Makes a call: of a UDF, with a query string, in so many seconds at most. It gives the
            Parquet file of the result.
        ends_at: When the query has to end, in the time of `time.monotonic`.
    """

    protocol = PROTOCOL
    cachable = False

    def __init__(self, find: Callable[[str, str, float], Path], ends_at: float) -> None:
        super().__init__()
        self._find = find
        self._ends_at = ends_at
        self._lock = threading.Lock()
        # A file for each path; whoever has the path's lock makes the call.
        self._locks: dict[str, threading.Lock] = {}
        self._found: dict[str, Path] = {}
        # Why a call failed: DuckDB would only tell its text, among frames of ours.
        self.error: Error | None = None

    def glob(self, path: str, **_: Any) -> list[str]:
        """The file of that very name: a query string may have every letter of a pattern."""
        return [path]

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.FileIO:
        """Open the result of a call, which is made when it is first opened."""
        if mode != "rb":
            raise QueryRefused("results cannot be written")
        with self._told():
            return _File(self._path(path))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """How large a result is."""
        with self._told():
            return {"name": path, "size": self._path(path).stat().st_size, "type": "file"}

    def modified(self, path: str) -> datetime.datetime:  # noqa: ARG002  # all the same
        """When a result was made."""
        return _MODIFIED

    def _path(self, path: str) -> Path:
        with self._lock:
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            if path not in self._found:
                self._found[path] = self._call(path)
            return self._found[path]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Keep what goes wrong, as what a stranger may read."""
        try:
            yield
        except Error as error:
            self.error = self.error or error
            raise
        except OSError as error:
            busy = ServerBusy("a result was evicted before it was read; make the store larger")
            self.error = self.error or busy
            raise busy from error

    def _call(self, path: str) -> Path:
        address = _ADDRESS.fullmatch(path)
        if address is None:
            raise QueryRefused(f"{path} is no result of a UDF")
        name, folders, query = address.groups()
        # What is a folder to DuckDB is a parameter like others to the UDF.
        given = [*(folders or "").split("/"), query]
        left = self._ends_at - time.monotonic()
        return self._find(unquote(name), "&".join(filter(None, given)), left)
