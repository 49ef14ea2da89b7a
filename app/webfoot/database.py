"""DuckDB inside this process: one instance, a private connection for each call."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import duckdb

from webfoot.literals import sql_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DUCKDB_VERSION: str = duckdb.__version__
# What one call makes in DuckDB's catalogs, counted: its own catalog and the sweeper's. A call that
# makes more is looked into; a test holds the number.
_ENTRIES_A_CALL = 14
# What a call has left in the instance itself, where the next one would meet it.
_LEFTOVERS = """
    SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory'
    UNION ALL SELECT table_name FROM duckdb_tables() WHERE database_name = 'memory'
    UNION ALL SELECT view_name FROM duckdb_views() WHERE database_name = 'memory' AND NOT internal
    UNION ALL SELECT name FROM duckdb_secrets() WHERE NOT persistent
    UNION ALL SELECT function_name FROM duckdb_functions()
        WHERE function_oid > ? AND (function_type = 'scalar' OR database_name = 'memory')
"""


class Database:
    """An in-memory DuckDB instance, made when it is first used.

    Calls share the instance and nothing else: each has a connection of its own whose tables, views
    and variables live in a catalog of its own, which ends with the call. What a call puts elsewhere
    (a database that it attaches, a secret, a Python function) ends with the instance, which is then
    made anew as soon as no call uses it. Settings that DuckDB keeps per instance (`threads`,
    `memory_limit`) are the exception: they stay.

    Args:
        temp: Where DuckDB may spill what does not fit its memory.
        memory_bytes: DuckDB's share of the memory; None for its own default.
    """

    def __init__(self, temp: Path, memory_bytes: int | None = None) -> None:
        self._temp = temp
        self._memory_bytes = memory_bytes
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._has_httpfs = False
        # Of this instance: the calls that use it, those that did since it was last looked into, how
        # much had been made in it by then, and by whom.
        self._active = self._calls = self._entries = 0
        self._extensions: object = None

    @contextmanager
    def connection(self, *, httpfs: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A private connection, closed afterwards with all that was made on it.

        Args:
            httpfs: Whether `http://` and `s3://` paths can be read: loading it costs 45 ms, once.
        """
        with self._lock:
            instance = self._open()
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
            yield connection
        finally:
            connection.close()
            with self._lock:
                if instance is self._instance:
                    self._active -= 1
                    self._calls += 1
                    self._sweep(instance, catalog)

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._instance is None:
            config: dict[str, str | bool | int | float | list[str]] = {
                "temp_directory": str(self._temp),
                "autoinstall_known_extensions": "false",
                "allow_community_extensions": "false",
            }
            if self._memory_bytes is not None:
                config["memory_limit"] = f"{self._memory_bytes // 1_000_000}MB"
            self._instance = duckdb.connect(config=config)
            self._entries = _count_entries(self._instance)
            self._extensions = _list_extensions(self._instance)
        return self._instance

    def _sweep(self, instance: duckdb.DuckDBPyConnection, catalog: str) -> None:
        with instance.cursor() as sweeper:
            sweeper.execute(f"DETACH DATABASE IF EXISTS {catalog}")
            if self._active:
                return
            entries, left = _count_entries(sweeper), False
            if entries > self._entries + self._calls * _ENTRIES_A_CALL:
                left = self._has_leftovers(sweeper)
                entries = _count_entries(sweeper)  # Looking makes some, too.
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


def _count_entries(connection: duckdb.DuckDBPyConnection) -> int:
    """How many entries the instance's catalogs have ever had: DuckDB numbers them."""
    connection.execute("ATTACH ':memory:' AS sweep")
    found = connection.execute(
        "SELECT database_oid FROM duckdb_databases() WHERE database_name = 'sweep'"
    ).fetchone()
    connection.execute("DETACH sweep")
    return int(found[0]) if found else 0


def query_tables(query: str, tables: Mapping[str, object]) -> object:
    """Ask a DuckDB of its own about tables in memory.

    Args:
        query: A text of SQL.
        tables: Arrow tables by the names that they have in it.

    Returns:
        The answer as an Arrow table, its instants in UTC.

    Raises:
        ValueError: If the SQL makes no table.
    """
    # No name in the query may mean a variable of this function.
    with duckdb.connect(config={"python_enable_replacements": "false"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, table in tables.items():
            connection.register(name, table)
        relation = connection.sql(query)
        if relation is None:
            raise ValueError(f"the SQL makes no table, let it end with a SELECT: {query}")
        return relation.to_arrow_table()


def load_httpfs(connection: duckdb.DuckDBPyConnection) -> None:
    """Load DuckDB's httpfs from the locked package, never from a download.

    Raises:
        RuntimeError: If the package is missing or made for another DuckDB.
    """
    spec = importlib.util.find_spec("duckdb_extension_httpfs")
    places = list(spec.submodule_search_locations or ()) if spec else []
    files = [file for place in places for file in Path(place).rglob("httpfs.duckdb_extension")]
    version = duckdb.__version__
    cure = f"pip install duckdb-extension-httpfs=={version}"
    if not files:
        raise RuntimeError(f"DuckDB {version} has no httpfs here; {cure}")
    try:
        connection.execute(f"LOAD '{str(files[0]).replace(chr(39), chr(39) * 2)}'")
    except duckdb.Error as error:
        raise RuntimeError(f"httpfs does not load in DuckDB {version}: {error}; {cure}") from error


def write_database(path: Path, script: str, storage_version: str) -> None:
    """Write a DuckDB file, as small as it can be.

    Args:
        path: The file; it must not exist.
        script: The SQL that fills it.
        storage_version: The oldest DuckDB that shall read it, such as `v1.4.0`.
    """
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        # Small blocks: a catalog of a few UDFs is 45 kB and not half a megabyte.
        connection.execute(
            f"ATTACH {sql_text(str(path))} AS written"
            f" (STORAGE_VERSION {sql_text(storage_version)}, BLOCK_SIZE 16384)"
        )
        connection.execute(f"USE written; BEGIN; {script} COMMIT; USE memory")
        # All of it in the one file: what a log beside it holds would not be served.
        connection.execute("CHECKPOINT written; DETACH written")
