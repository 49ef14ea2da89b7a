"""Calls share one DuckDB instance of their process: a private connection for each."""

from __future__ import annotations

import itertools
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import duckdb

from webfoot.database.extensions import load_httpfs
from webfoot.database.limits import own_limits, within
from webfoot.interruption import interruptible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What one call makes in DuckDB's catalogs, counted: its own catalog and the sweeper's. A call that
# makes more is looked into; a test holds the number.
_ENTRIES_A_CALL = 14
# Settings of the instance in whose changed value the next call would run. All of them, a hundred
# and more, would take as long to look at as the rest of a short call.
_WATCHED = (
    *("threads", "memory_limit", "max_temp_directory_size", "temp_directory"),
    *("enable_external_access", "lock_configuration", "preserve_insertion_order"),
    *("default_order", "default_null_order", "python_scan_all_frames"),
)
# What a call has left in the instance itself, where the next one would meet it.
_LEFTOVERS = """
    SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory'
    UNION ALL SELECT table_name FROM duckdb_tables() WHERE database_name = 'memory'
    UNION ALL SELECT view_name FROM duckdb_views() WHERE database_name = 'memory' AND NOT internal
    UNION ALL SELECT name FROM duckdb_secrets() WHERE NOT persistent
    UNION ALL SELECT function_name FROM duckdb_functions()
        WHERE function_oid > ? AND (function_type = 'scalar' OR database_name = 'memory')
"""


class CallDatabase:
    """An in-memory DuckDB instance, made when it is first used.

    Calls share the instance and nothing else: each has a connection of its own whose tables, views
    and variables live in a catalog of its own, which ends with the call. What a call puts elsewhere
    (a database that it attaches, a secret, a Python function) ends with the instance, which is then
    made anew as soon as no call uses it. So does a setting of the instance that would change what
    the next call may do, or its rows; others that DuckDB keeps per instance stay.

    Args:
        temp: Where DuckDB may spill what does not fit its memory.
    """

    def __init__(self, temp: Path) -> None:
        self._temp = temp
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._has_httpfs = False
        # Of this instance: the calls that use it, those that did since it was last looked into, how
        # much had been made in it by then, and by whom.
        self._active = self._calls = self._entries = 0
        self._memory_bytes = 0
        self._extensions: object = None
        self._settings: object = None

    @contextmanager
    def connection(
        self, memory_bytes: int, *, httpfs: bool = False
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A private connection for a call, closed afterwards with all that was made on it.

        Args:
            memory_bytes: How much the call may use; it spills before that.
            httpfs: Whether `http://` and `s3://` paths can be read: loading it costs 45 ms, once.
        """
        with self._lend(memory_bytes, httpfs, self._sweep) as connection:
            yield connection

    @contextmanager
    def own_connection(self, memory_bytes: int) -> Iterator[duckdb.DuckDBPyConnection]:
        """The same for SQL of Webfoot's own.

        That leaves nothing, and makes so many entries that to look for it would take 15 ms.
        """
        with self._lend(memory_bytes, False, self._tidy) as connection:
            yield connection

    @contextmanager
    def _lend(
        self,
        memory_bytes: int,
        httpfs: bool,
        afterwards: Callable[[duckdb.DuckDBPyConnection], None],
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._lock:
            instance = self._open()
            self._limit(instance, memory_bytes)
            if httpfs and not self._has_httpfs:
                load_httpfs(instance)
                self._has_httpfs = True
                self._extensions = _list_extensions(instance)
            connection = instance.cursor()
            self._active += 1
        catalog = f"call_{next(self._numbers)}"
        try:
            connection.execute(
                f"ATTACH ':memory:' AS {catalog}; USE {catalog}; SET TimeZone = 'UTC'"
            )
            with interruptible(connection):
                yield connection
        finally:
            connection.close()
            with self._lock:
                if instance is self._instance:
                    self._active -= 1
                    with instance.cursor() as sweeper:
                        sweeper.execute(f"DETACH DATABASE IF EXISTS {catalog}")
                        afterwards(sweeper)

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._instance is None:
            config: dict[str, str | bool | int | float | list[str]] = {
                "temp_directory": str(self._temp),
                "autoinstall_known_extensions": "false",
                "allow_community_extensions": "false",
            }
            self._instance, self._memory_bytes = duckdb.connect(config=config), 0
            self._entries, self._settings = _look(self._instance)
            self._extensions = _list_extensions(self._instance)
        return self._instance

    def _limit(self, instance: duckdb.DuckDBPyConnection, memory_bytes: int) -> None:
        # Those that share the instance at one time have the limit of the first.
        if memory_bytes == self._memory_bytes or self._active:
            return
        limit = within(memory_bytes, own_limits()).memory_bytes
        instance.execute(f"SET memory_limit = '{limit // 1_000_000}MB'")
        self._memory_bytes = memory_bytes
        self._entries, self._settings = _look(instance)

    def _tidy(self, sweeper: duckdb.DuckDBPyConnection) -> None:
        if self._calls:
            # Of calls that have ended meanwhile.
            self._look_for_leftovers(sweeper)
        elif not self._active:
            self._entries, _ = _look(sweeper)

    def _sweep(self, sweeper: duckdb.DuckDBPyConnection) -> None:
        self._calls += 1
        self._look_for_leftovers(sweeper)

    def _look_for_leftovers(self, sweeper: duckdb.DuckDBPyConnection) -> None:
        if self._active:
            return
        entries, settings = _look(sweeper)
        left = settings != self._settings
        if not left and entries > self._entries + self._calls * _ENTRIES_A_CALL:
            left = self._has_leftovers(sweeper)
            entries, _ = _look(sweeper)  # Looking makes some, too.
        self._entries, self._calls = entries, 0
        if left:
            self._close()

    def _has_leftovers(self, sweeper: duckdb.DuckDBPyConnection) -> bool:
        before, self._extensions = self._extensions, _list_extensions(sweeper)
        # The functions of an extension that a call has loaded harm nobody.
        newest = self._entries if self._extensions == before else sys.maxsize
        return sweeper.execute(_LEFTOVERS, [newest]).fetchone() is not None

    def _close(self) -> None:
        if self._instance is not None:
            self._instance.close()
        self._instance, self._has_httpfs = None, False
        self._active = self._calls = 0

    def close(self) -> None:
        """End the instance; it is made anew if it is used again."""
        with self._lock:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _list_extensions(connection: duckdb.DuckDBPyConnection) -> object:
    return connection.execute(
        "SELECT list(extension_name) FROM duckdb_extensions() WHERE loaded"
    ).fetchone()


def _look(connection: duckdb.DuckDBPyConnection) -> tuple[int, object]:
    """How many entries the instance's catalogs have ever had (DuckDB numbers them); settings."""
    settings = ", ".join(f"current_setting('{name}')" for name in _WATCHED)
    connection.execute("ATTACH ':memory:' AS sweep")
    found = connection.execute(
        f"SELECT database_oid, {settings} FROM duckdb_databases() WHERE database_name = 'sweep'"  # noqa: S608  # nosec B608  # ours
    ).fetchone()
    connection.execute("DETACH sweep")
    return (int(found[0]), found[1:]) if found else (0, ())
