"""SQL over tables in memory and files of lines, and database files made by a script."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import duckdb

from webfoot.literals import sql_quoted, sql_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SMALLEST_BLOCK = 16_384


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


def write_database(
    path: Path, script: str, storage_version: str, block_bytes: int = SMALLEST_BLOCK
) -> None:
    """Write a DuckDB file, as small as it can be.

    Args:
        path: The file; it must not exist.
        script: The SQL that fills it.
        storage_version: The oldest DuckDB that shall read it, such as `v1.4.0`.
        block_bytes: The size of its blocks: a catalog of a few UDFs is 45 kB in the smallest, and
            half a megabyte in DuckDB's own.
    """
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        connection.execute(
            f"ATTACH {sql_text(str(path))} AS written"
            f" (STORAGE_VERSION {sql_text(storage_version)}, BLOCK_SIZE {block_bytes})"
        )
        connection.execute(f"USE written; BEGIN; {script} COMMIT; USE memory")
        # All of it in the one file: what a log beside it holds would not be served.
        connection.execute("CHECKPOINT written; DETACH written")


@contextlib.contextmanager
def opened() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own, whose instants are in UTC."""
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def read_lines(
    paths: Sequence[Path], columns: Mapping[str, str], connection: duckdb.DuckDBPyConnection
) -> duckdb.DuckDBPyRelation:
    """The rows of files of JSON lines, in the order of their first column.

    Args:
        paths: The files. Lines without the first column, such as torn ones, are passed over.
        columns: The columns and their DuckDB types; what else a line has is left out.
        connection: Reads them.
    """
    names = [sql_quoted(name) for name in columns]
    if paths:
        files = ", ".join(sql_text(str(path)) for path in paths)
        types = ", ".join(f"{sql_text(name)}: {sql_text(kind)}" for name, kind in columns.items())
        rows = (
            f"read_json([{files}], format = 'newline_delimited', columns = {{{types}}},"
            " ignore_errors = true)"
        )
    else:
        kinds = zip(columns.values(), names, strict=True)
        rows = f"(SELECT {', '.join(f'NULL::{kind} AS {name}' for kind, name in kinds)})"  # quoted
    return connection.sql(f"FROM {rows} WHERE {names[0]} IS NOT NULL ORDER BY {names[0]}")
