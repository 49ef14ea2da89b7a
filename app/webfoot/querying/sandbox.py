"""A DuckDB for one statement of a stranger's: it ends with it, and so does all that it has made.

Locked, it reads the results of calls and the datasets that the statement names, and nothing else:
no file, no address, no extension, no setting that could be changed to have them.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import duckdb

from webfoot.catalog import MACROS_SCHEMA
from webfoot.database.limits import limits
from webfoot.literals import sql_text
from webfoot.querying import lake
from webfoot.querying.calls import BASE_URL
from webfoot.querying.naming import LAKE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from webfoot.datasets import Dataset
    from webfoot.querying.calls import CallFiles

# Of a query's memory, DuckDB gets so much: Python, its libraries and the result need the rest.
_SHARE = 0.6
# A statement that began just when it was interrupted goes on: it is interrupted again.
_AGAIN_S = 0.05


def open_instance(memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """An instance in memory, not locked yet.

    Args:
        memory_bytes: How much the query may use, of which DuckDB knows its share.
    """
    most = limits()
    megabytes = min(int(memory_bytes * _SHARE), most.memory_bytes) // 1_000_000
    return duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
            # No name in a query may mean a variable of ours.
            "python_enable_replacements": "false",
            # Nothing is spilled: a query must not fill the disk.
            "temp_directory": "",
            "memory_limit": f"{megabytes}MB",
            "threads": str(most.threads),
            # What a view has read is read again by the statement.
            "enable_http_metadata_cache": "true",
        }
    )


def lock(
    connection: duckdb.DuckDBPyConnection, files: CallFiles, datasets: Collection[Dataset]
) -> None:
    """Leave an instance nothing but calls and these datasets, for good.

    Args:
        connection: The instance.
        files: The calls.
        datasets: What else it may read.

    Raises:
        DatasetUnavailable: If what reads a dataset is missing, or its credentials.
    """
    connection.register_filesystem(files)
    lake.connect_to(connection, datasets)
    connection.execute(
        f"ATTACH ':memory:' AS {MACROS_SCHEMA}; ATTACH ':memory:' AS {LAKE_SCHEMA};"
        f" SET search_path = '{LAKE_SCHEMA}.main,{MACROS_SCHEMA}.main'; SET TimeZone = 'UTC'"
    )
    folders = [f"{BASE_URL}/udfs/", *lake.folders_of(datasets)]
    connection.execute(f"SET allowed_directories = [{', '.join(map(sql_text, folders))}]")
    paths = lake.files_of(datasets)
    connection.execute(f"SET allowed_paths = [{', '.join(map(sql_text, paths))}]")
    if all(dataset.is_remote for dataset in datasets):
        connection.execute("SET disabled_filesystems = 'LocalFileSystem'")
    # In this order: each of them forbids what stands above it.
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@contextlib.contextmanager
def interrupted_after(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupt whatever runs in the block when it has taken so long."""
    over = threading.Event()

    def watch() -> None:
        wait_s = seconds
        while not over.wait(wait_s):
            connection.interrupt()
            wait_s = _AGAIN_S

    watching = threading.Thread(target=watch, name="webfoot-query-limit", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
