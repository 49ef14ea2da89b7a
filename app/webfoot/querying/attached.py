"""SQL over the catalog of a server: a DuckDB of its own, with the server's UDFs in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import duckdb

from webfoot.catalog import MACROS_SCHEMA
from webfoot.database import load_httpfs
from webfoot.errors import QueryFailed
from webfoot.literals import sql_text
from webfoot.querying.selection import as_written, select

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# How DuckDB's COPY writes each format.
FORMATS: Mapping[str, str] = {
    "csv": "FORMAT csv, HEADER",
    "json": "FORMAT json, ARRAY",
    "ndjson": "FORMAT json",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}
# A UDF may run for as long as its server allows, which DuckDB's own 30 seconds would cut short.
_HTTP_TIMEOUT_S = 3_600
# What DuckDB says around the message of a file that nobody can read; see `unreadable`.
_TOLD = re.compile(r"column '\n\n  (?P<message>.*?)\n\n' is not an object", re.DOTALL)
# Likewise, of a database; see `database.unattachable`.
_REFUSED = re.compile(r"name \"\n\n  (?P<message>.*?)\s*\" already exists", re.DOTALL)
_RUN = re.compile(r"\n  run (?P<run>\w+), details: .*$", re.DOTALL)


@dataclass(frozen=True)
class Rows:
    """Rows to be shown.

    Args:
        columns: Names and DuckDB types.
        rows: The values as DuckDB writes them; None for null.
        complete: Whether these are all there are.
    """

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str | None]]
    complete: bool


class Catalog:
    """A DuckDB with the catalog of a server, whose UDFs need no prefix.

    Args:
        base_url: The server's address, without a slash at its end.
        token: What the server is shown; None for nothing.

    Raises:
        QueryFailed: If there is no catalog, or none for who shows this token.
    """

    def __init__(self, base_url: str, token: str | None = None) -> None:
        self._connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
        load_httpfs(self._connection)
        address = f"{base_url}/catalog.duckdb"
        if token is not None:
            self._connection.execute(
                f"CREATE TEMPORARY SECRET (TYPE http, BEARER_TOKEN {sql_text(token)},"
                f" SCOPE {sql_text(f'{base_url}/')})"
            )
        try:
            self._connection.execute(f"ATTACH {sql_text(address)} AS {MACROS_SCHEMA}")
        except duckdb.Error as error:
            if (told := _REFUSED.search(str(error))) is not None:
                raise QueryFailed(f"{address}: {told['message']}") from error
            said = str(error).splitlines()[0]
            raise QueryFailed(f"there is no catalog at {address} ({said})") from error
        self._execute(
            f"SET http_timeout = {_HTTP_TIMEOUT_S};"
            f" SET search_path = 'memory.main,{MACROS_SCHEMA}.main'"
        )

    def rows(self, sql: str, limit: int | None = None) -> Rows:
        """The first `limit` rows of a query; without columns if it makes no table.

        Of several statements, the last one's.

        Raises:
            QueryFailed: If it fails.
        """
        sql = self._run_all_but_last(sql)
        selected = select(sql, None if limit is None else limit + 1)
        if not _parses(self._connection, selected):
            self._execute(sql)
            return Rows((), (), complete=True)
        # Kept, so that it is asked once: for its types, and for its values as DuckDB writes them.
        kept = f"CREATE OR REPLACE TEMP TABLE webfoot_shown AS {selected}"
        self._execute(kept, wrapped=True)
        described = self._execute(
            "SELECT column_name, column_type FROM (DESCRIBE temp.webfoot_shown)"
        )
        columns = [(str(name), str(kind)) for name, kind in described.fetchall()]
        rows = self._execute(
            "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM temp.webfoot_shown"
        ).fetchall()
        return Rows(columns, rows[:limit], limit is None or len(rows) <= limit)

    def write(self, sql: str, path: Path, extension: str, limit: int | None = None) -> int:
        """Write the rows of a query to a file, and count them; of several statements, see `rows`.

        Raises:
            QueryFailed: If it fails.
        """
        sql = self._run_all_but_last(sql)
        selected = select(sql, limit)
        if not _parses(self._connection, selected):
            self._execute(sql)
            raise QueryFailed("the SQL makes no table to write; let it end with a SELECT")
        copied = f"COPY ({selected}) TO {sql_text(str(path))} ({FORMATS[extension]})"
        answer = self._execute(copied, wrapped=True).fetchone()
        return int(answer[0]) if answer else 0

    def close(self) -> None:
        """Let go of the catalog."""
        self._connection.close()

    def _run_all_but_last(self, sql: str) -> str:
        """The last of several statements, when those before it have run."""
        try:
            *first, last = self._connection.extract_statements(sql)
        except (duckdb.ParserException, ValueError):
            return sql  # It is wrong, or nothing, and running it says so.
        for statement in first:
            self._execute(statement.query)
        return last.query if first else sql

    def _execute(self, sql: str, *, wrapped: bool = False) -> duckdb.DuckDBPyConnection:
        try:
            return self._connection.execute(sql)
        except duckdb.Error as error:
            said = str(error)
            raise _read_failure(as_written(said) if wrapped else said) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _parses(connection: duckdb.DuckDBPyConnection, sql: str) -> bool:
    try:
        return len(connection.extract_statements(sql)) == 1
    except duckdb.ParserException:
        return False


def _read_failure(said: str) -> QueryFailed:
    """What a UDF has said, without what DuckDB says around it."""
    told = _TOLD.search(said)
    if told is None:
        return QueryFailed(said.strip())
    message = told["message"]
    run = _RUN.search(message)
    return QueryFailed(_RUN.sub("", message).strip(), run=run["run"] if run else None)
