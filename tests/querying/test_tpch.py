"""TPC-H over HTTP: the answers are DuckDB's own, whose tables and queries these are."""

from __future__ import annotations

import os
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import httpx
import pytest
from tests.server_process import INLINE, Server, connect, serve, write_udfs

from webfoot.database.extensions import Extensions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]
# The examples of DuckDB's own shell in the browser, which is where `shell` is.
EXAMPLES = [
    "SELECT count(*) FROM '{shell}/lineitem.parquet';",
    "SELECT count(*) FROM '{shell}/customer.parquet';",
    "SELECT avg(c_acctbal) FROM '{shell}/customer.parquet';",
    "SELECT * FROM '{shell}/orders.parquet' LIMIT 10;",
    """SELECT n_name, count(*)
  FROM '{shell}/customer.parquet',
       '{shell}/nation.parquet'
  WHERE c_nationkey = n_nationkey GROUP BY n_name;""",
]


@pytest.fixture(scope="module")
def oracle() -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables, made by DuckDB's generator."""
    with duckdb.connect() as connection:
        Extensions.from_environment().load(connection, "tpch")
        connection.execute("CALL dbgen(sf = 0.01)")
        yield connection


@pytest.fixture(scope="module")
def files(oracle: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tpch")
    for table in TABLES:
        oracle.table(table).write_parquet(f"{folder}/{table}.parquet")
    return folder


@pytest.fixture(scope="module")
def shell(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the files are on the web: here, another server of ours has them."""
    head = "import pyarrow.parquet as pq\nfrom webfoot import udf\n"
    udfs = "".join(
        f"@udf\ndef {table}():\n    return pq.read_table('{files}/{table}.parquet')\n"
        for table in TABLES
    )
    with serve(
        write_udfs(tmp_path_factory.mktemp("shell"), tables=head + udfs), *INLINE
    ) as running:
        yield f"{running.url}/udfs"


@pytest.fixture(scope="module")
def server(files: Path, shell: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    here = [f"{table}={files}/{table}.parquet" for table in TABLES]
    there = [f"web_{table}={shell}/{table}.parquet" for table in TABLES]
    environment = {**os.environ, "WEBFOOT_LAKE": ", ".join(here + there)}
    with serve(write_udfs(tmp_path_factory.mktemp("sql")), environment=environment) as running:
        yield running


def as_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value


def alike(rows: list[tuple[Any, ...]], others: list[tuple[Any, ...]]) -> bool:
    """Means and sums of doubles depend on the order in which threads came to them."""
    return len(rows) == len(others) and all(
        ours == (pytest.approx(theirs) if isinstance(theirs, float) else theirs)
        for row, other in zip(rows, others, strict=True)
        for ours, theirs in zip(row, other, strict=True)
    )


@pytest.mark.parametrize("sql", EXAMPLES)
def test_the_five_examples_give_the_right_rows(
    sql: str, server: Server, shell: str, oracle: duckdb.DuckDBPyConnection
) -> None:
    local = sql.replace("'{shell}/", "").replace(".parquet'", "")
    answer = httpx.post(f"{server.url}/query", json={"query": sql.format(shell=shell)}, timeout=60)
    assert answer.status_code == 200, answer.text
    rows = [tuple(row.values()) for row in answer.json()["data"]]
    expected = [tuple(map(as_json, row)) for row in oracle.execute(local).fetchall()]
    assert alike(sorted(rows), sorted(expected))


def test_urls_beside_those_that_are_declared_are_refused(server: Server, shell: str) -> None:
    for url in (f"{shell}/customer.parquet?n=1", shell.replace("127.0.0.1", "localhost")):
        answer = httpx.post(
            f"{server.url}/query", json={"query": f"FROM '{url}/a.parquet'"}, timeout=60
        )
        assert answer.status_code == 403


@pytest.mark.parametrize("number", range(1, 23))
def test_every_query_of_tpch_gives_the_right_rows(
    number: int, server: Server, oracle: duckdb.DuckDBPyConnection
) -> None:
    found = oracle.execute("FROM tpch_queries() SELECT query WHERE query_nr = ?", [number])
    ((sql,),) = found.fetchall()
    url = httpx.URL(f"{server.url}/query.parquet", params={"sql": sql})
    with connect() as con:
        con.execute(f"SET VARIABLE url = '{url}'")
        rows = con.execute("FROM read_parquet(getvariable('url'))").fetchall()
    assert alike(rows, oracle.execute(sql).fetchall())
