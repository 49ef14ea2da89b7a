"""One query of anybody's: read, furnished, locked in, run within its limits, and written."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb

from webfoot.catalog import partial_script
from webfoot.errors import (
    DatasetUnavailable,
    Error,
    InvalidResult,
    QueryFailed,
    QueryRefused,
    QueryTooLarge,
)
from webfoot.quantities import write_count
from webfoot.querying import lake
from webfoot.querying.calls import BASE_URL, CallFiles
from webfoot.querying.gate import read_statement
from webfoot.querying.naming import Names, find_needs
from webfoot.querying.sandbox import interrupted_after, lock, open_instance
from webfoot.querying.selection import as_written
from webfoot.runners.exceeded import memory_exceeded, time_exceeded
from webfoot.tables.capping import Capped
from webfoot.tables.conversion import Batches, read_duckdb
from webfoot.tables.parquet import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from webfoot.querying.gate import Statement
    from webfoot.querying.naming import Needs
    from webfoot.results import Draft
    from webfoot.runners.jobs import QueryJob

# One vector of DuckDB's: what is not wanted any more is not made.
_ROWS_A_BATCH = 2_048


def run_query(job: QueryJob, target: Path, find: Callable[[str, str, float], Path]) -> Draft:
    """Run a query here and now.

    Args:
        job: The query.
        target: Where its rows are written.
        find: Makes a call; see `CallFiles`.

    Raises:
        QueryRefused: If it may not run.
        QueryFailed: If DuckDB cannot run it.
        QueryTimeout: If it takes too long.
        QueryTooLarge: If it has too many rows.
        QueryMemoryExceeded: If DuckDB has no memory left for it.
        DatasetUnavailable: If a dataset cannot be read.
        Error: Why a call failed that it makes, with the UDF's name.
    """
    limits = job.limits
    files = CallFiles(find, time.monotonic() + limits.seconds)
    with (
        contextlib.closing(open_instance(limits.memory_bytes)) as connection,
        interrupted_after(connection, limits.seconds),
    ):
        try:
            statement, needs = _prepare(job, connection)
            _furnish(job, connection, files, needs)
            return _write(job, connection, statement, target)
        except InvalidResult as error:  # A column, say, of a type that no file keeps.
            raise QueryFailed(error.detail) from error
        except (duckdb.Error, OSError) as error:
            # Arrow tells as an OSError, without a number, what DuckDB says while it makes rows.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            if files.error is not None:
                raise _from_below(files.error) from error
            raise _read(str(error), job) from error


def _prepare(job: QueryJob, connection: duckdb.DuckDBPyConnection) -> tuple[Statement, Needs]:
    """Read the SQL, and find what it needs."""
    # One more tells whether there are more.
    statement = read_statement(connection, job.query.sql, _most_rows(job) + 1)
    names = Names.within(job.query.reach, job.registry, job.lake)
    return statement, find_needs(statement, names, connection)


def _furnish(
    job: QueryJob, connection: duckdb.DuckDBPyConnection, files: CallFiles, needs: Needs
) -> None:
    """Lock the instance, and make in it what the statement needs."""
    lock(connection, files, needs.views.values())
    script = partial_script(job.registry, BASE_URL, job.lifetimes, needs.catalog)
    if script:
        connection.execute(script)
    if needs.lists_datasets:
        reach = job.query.reach
        lake.make_listing(connection, (d for d in job.lake if reach.has_dataset(d.name)))
    for name, dataset in needs.views.items():
        lake.make_view(connection, name, dataset)


def _write(
    job: QueryJob, connection: duckdb.DuckDBPyConnection, statement: Statement, target: Path
) -> Draft:
    """Run the statement, and write its rows as they come."""
    parameters = json.loads(job.query.parameters)
    try:
        # Without any it is another call: with the first of these, DuckDB imports pandas.
        connection.execute(statement.sql, *([parameters] if parameters else []))
    except (OverflowError, TypeError, ValueError) as error:
        raise QueryFailed(f"a parameter is nothing that DuckDB knows: {error}") from error
    reader = read_duckdb(connection, _ROWS_A_BATCH)
    rows = Capped(iter(reader), _most_rows(job), job.limits.size)
    draft = write(Batches(reader.schema, rows), target)
    if rows.more and job.query.limit is None:
        raise QueryTooLarge(
            f"it has more than {write_count(_most_rows(job), 'row')}; ask for fewer, or for the"
            " first ones by limit="
        )
    return replace(draft, truncated=rows.more)


def _most_rows(job: QueryJob) -> int:
    return job.limits.rows if job.query.limit is None else job.query.limit


def _read(said: str, job: QueryJob) -> Error:
    """What DuckDB says, as an error of ours."""
    kind = said.partition(":")[0]
    if kind == "INTERRUPT Error":
        return time_exceeded(job)
    if kind == "Out of Memory Error":
        return memory_exceeded(job, "has no memory left")
    if kind in ("IO Error", "HTTP Error"):  # Calls have told their own by now.
        return DatasetUnavailable("a dataset of this query cannot be read now", traceback=said)
    told = lake.without_places(as_written(said).strip(), job.lake)
    return QueryRefused(told) if kind == "Permission Error" else QueryFailed(told)


def _from_below(error: Error) -> Error:
    """An error of a UDF that the query calls, as the query's: it must name both."""
    if error.udf is None:
        return error
    detail = f"{error.udf}: {error.detail}"
    told = Error.from_problem(error.problem() | {"detail": detail, "udf": None, "run": None})
    told.traceback = error.traceback
    return told
