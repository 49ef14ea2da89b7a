"""The second wall: a locked instance gives nothing away, even to SQL that nobody has looked at."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.attacks import ADDRESSES, FILES

from webfoot.datasets import Dataset
from webfoot.errors import QueryRefused, UdfFailed
from webfoot.querying.calls import CallFiles
from webfoot.querying.sandbox import interrupted_after, lock, open_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "planted-secret"
CALL = "webfoot://udfs/squares.parquet?n=1"


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "result.parquet"
    pq.write_table(pa.table({"n": [1, 2]}), path)
    return path


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    path = tmp_path / "planted.csv"
    path.write_text(f"a\n{SECRET}\n")
    return path


@contextlib.contextmanager
def locked(
    find: Callable[[str, str, float], Path], *datasets: Dataset
) -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(open_instance(10**9)) as connection:
        lock(connection, CallFiles(find, time.monotonic() + 20), datasets)
        yield connection


@pytest.fixture
def con(result: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with locked(lambda *_: result) as connection:
        yield connection


# The others are tables of the statement's own, or results.
READS = [
    sql
    for sql in [*FILES, *ADDRESSES]
    if "webfoot://" not in sql and 'AS (SELECT 1) FROM "x' not in sql
]


@pytest.mark.parametrize("sql", READS)
def test_no_file_and_no_address_is_read(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(duckdb.Error) as caught:
        con.execute(sql).fetchall()
    assert "root:" not in str(caught.value)


def test_planted_files_are_not_read_by_any_name(
    con: duckdb.DuckDBPyConnection, planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(planted.parent)
    link = planted.parent / "link.csv"
    link.symlink_to(planted)
    for name in (planted, "planted.csv", "./planted.csv", f"file://{planted}", link, "*.csv"):
        for sql in (f"FROM read_text('{name}')", f"FROM '{name}'", f"FROM glob('{name}')"):
            with pytest.raises(duckdb.Error) as caught:
                con.execute(sql).fetchall()
            assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{folder}/stolen.csv'",
        "COPY (SELECT 1) TO 'webfoot://udfs/stolen.parquet'",
        "EXPORT DATABASE '{folder}/stolen'",
        "IMPORT DATABASE '{folder}'",
        "ATTACH '{folder}/stolen.duckdb'",
        "ATTACH 'webfoot://udfs/stolen.duckdb'",
        "INSTALL httpfs",
        "LOAD '{folder}/planted.csv'",
        "LOAD httpfs",
        "SET lock_configuration = false",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET allowed_paths = ['/etc/passwd']",
        "SET memory_limit = '100GB'",
        "SET threads = 64",
        "SET temp_directory = '{folder}'",
        "RESET memory_limit",
        "PRAGMA memory_limit = '100GB'",
        "PRAGMA log_query_path = '{folder}/stolen'",
    ],
)
def test_nothing_is_written_attached_loaded_or_set(
    con: duckdb.DuckDBPyConnection, planted: Path, sql: str
) -> None:
    before = sorted(planted.parent.iterdir())
    with pytest.raises(duckdb.Error):
        con.execute(sql.format(folder=planted.parent))
    assert sorted(planted.parent.iterdir()) == before


def test_there_is_no_secret_to_tell_of(con: duckdb.DuckDBPyConnection) -> None:
    assert con.execute("FROM duckdb_secrets()").fetchall() == []


def test_variables_of_python_s_are_not_tables() -> None:
    frame = pa.table({"secret": [SECRET]})
    assert frame.num_rows
    # Not even before it is locked.
    with (
        contextlib.closing(open_instance(10**9)) as con,
        pytest.raises(duckdb.CatalogException),
    ):
        con.execute("FROM frame")


def test_a_call_is_made_once_however_often_it_is_opened(result: Path) -> None:
    calls: list[tuple[str, str]] = []

    def find(name: str, query: str, seconds: float) -> Path:
        assert 0 < seconds < 20
        calls.append((name, query))
        return result

    with locked(find) as con:
        rows = con.execute(f"FROM '{CALL}' a JOIN '{CALL}' b USING (n) ORDER BY n").fetchall()
        con.execute("FROM 'webfoot://udfs/gr%C3%B6%C3%9Fe/a=b/c=d%2Fe/data.parquet?f=%20*?['")
    assert rows == [(1,), (2,)]
    assert calls == [("squares", "n=1"), ("größe", "a=b&c=d%2Fe&f=%20*?[")]


def test_what_is_no_address_of_a_result_is_refused(result: Path) -> None:
    for path in ("webfoot://udfs/", "webfoot://udfs/a/b.parquet", "webfoot://udfs/a.csv"):
        files = CallFiles(lambda *_: result, time.monotonic() + 20)
        with pytest.raises(QueryRefused):
            files.open(path)
    with pytest.raises(QueryRefused):
        files.open(CALL, "wb")


def test_the_error_of_a_call_is_kept_for_who_asked(result: Path) -> None:
    def find(*_: object) -> Path:
        raise UdfFailed("the moon is down")

    files = CallFiles(find, time.monotonic() + 20)
    with contextlib.closing(open_instance(10**9)) as con:
        lock(con, files, [])
        with pytest.raises(duckdb.Error):
            con.execute(f"FROM '{CALL}'")
    assert files.error is not None
    assert files.error.detail == "the moon is down"


def test_calls_of_one_statement_do_not_wait_for_each_other(result: Path) -> None:
    both = threading.Barrier(2, timeout=20)

    def find(*_: object) -> Path:
        both.wait()
        return result

    files = CallFiles(find, time.monotonic() + 20)
    paths = [f"webfoot://udfs/squares.parquet?n={n}" for n in range(2)]
    threads = [threading.Thread(target=files.info, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both.broken


def test_a_dataset_on_this_machine_is_read_and_nothing_beside_it(
    tmp_path: Path, planted: Path, result: Path
) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    pq.write_table(pa.table({"n": [7]}), folder / "a.parquet")
    (folder / "out.csv").symlink_to(planted)
    for dataset in (Dataset("a", f"{folder}/"), Dataset("b", f"{folder}/a.parquet")):
        with locked(lambda *_: result, dataset) as con:
            assert con.execute(f"FROM '{folder}/a.parquet'").fetchall() == [(7,)]
            for sql in (
                f"FROM '{planted}'",
                f"FROM '{folder}/../planted.csv'",
                f"FROM '{folder}/out.csv'",
                f"FROM read_text('{folder}x')",
            ):
                with pytest.raises(duckdb.Error) as caught:
                    con.execute(sql)
                assert SECRET not in str(caught.value)


def test_an_interruption_ends_what_runs_and_what_runs_next(con: duckdb.DuckDBPyConnection) -> None:
    endless = "SELECT count(*) FROM range(1_000_000_000_000) t(i) WHERE i % 7 = 9"
    with interrupted_after(con, 0.01):
        time.sleep(0.05)  # It was interrupted while nothing ran.
        for _ in range(2):
            with pytest.raises(duckdb.InterruptException):
                con.execute(endless).fetchall()
    assert con.execute("SELECT 1").fetchall() == [(1,)]
