"""DuckDB inside this process: one instance, a private connection for each call."""

from __future__ import annotations

import importlib.util
import itertools
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterator


class Database:
    """An in-memory DuckDB instance, made when it is first used.

    Calls share the instance and nothing else: each has a connection of its own whose tables, views
    and variables live in a catalog of its own, which ends with the call. Settings that DuckDB keeps
    per instance (`threads`, `memory_limit`) are the exception.

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
            connection = instance.cursor()
        catalog = f"call_{next(self._numbers)}"
        connection.execute(f"ATTACH ':memory:' AS {catalog}; USE {catalog}; SET TimeZone = 'UTC'")
        try:
            yield connection
        finally:
            connection.close()
            with self._lock, instance.cursor() as sweeper:
                sweeper.execute(f"DETACH {catalog}")

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
        return self._instance

    def close(self) -> None:
        """End the instance; it is made anew if it is used again."""
        with self._lock:
            if self._instance is not None:
                self._instance.close()
            self._instance, self._has_httpfs = None, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
