"""Clients as they are read a function as they read a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import pytest
from tests.aws.gateway import Gateway, reachable
from tests.aws.runtime_api import Environment, environment
from tests.server_process import COUNT, connect, write_udfs

import webfoot

if TYPE_CHECKING:
    from collections.abc import Iterator

UDFS = '''
    from webfoot import udf
    from ._count import count

    @udf
    def squares(rows: int = 3, slow: float = 0) -> list[dict[str, int]]:
        """Squares."""
        count(f"squares {rows}")
        return [{"n": n, "square": n * n} for n in range(rows)]

    @udf
    def broken() -> list[dict[str, int]]:
        raise ValueError("the tide is out")
'''


@pytest.fixture(scope="module", params=["function_url", "load_balancer"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def function(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    parent = tmp_path_factory.mktemp(kind)
    udfs = write_udfs(parent, some=UDFS, _count=COUNT)
    with environment(parent, udfs) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(function: Environment, kind: str) -> Iterator[Gateway]:
    with reachable(function, kind) as running:
        yield running


def executions(function: Environment, what: str) -> int:
    notes = function.output.parent / "counts.txt"
    return notes.read_text().splitlines().count(what)


@pytest.mark.parametrize("rows", [10, 60_000])
def test_one_query_of_duckdb_is_one_run(function: Environment, gateway: Gateway, rows: int) -> None:
    with connect() as con:
        sql = f"SELECT sum(square) FROM '{gateway.url}/udfs/squares.parquet?rows={rows}'"
        assert con.execute(sql).fetchall() == [(sum(n * n for n in range(rows)),)]
        assert con.execute(sql).fetchall() == [(sum(n * n for n in range(rows)),)]
    assert executions(function, f"squares {rows}") == 1


def test_a_first_read_of_duckdb_is_two_requests(gateway: Gateway) -> None:
    before = len(gateway.requests)
    with connect() as con:
        con.execute(f"FROM '{gateway.url}/udfs/squares.parquet?rows=11'").fetchall()
    assert gateway.requests[before:] == [("HEAD", 200), ("GET", 200)]


def test_the_catalog_can_be_attached(gateway: Gateway) -> None:
    with connect() as con:
        con.execute(f"ATTACH '{gateway.url}/catalog.duckdb' AS udfs")
        assert con.execute("FROM udfs.squares(rows := 2)").fetchall() == [(0, 0), (1, 1)]


def test_duckdb_prints_the_message_of_a_udf(gateway: Gateway) -> None:
    with connect() as con, pytest.raises(duckdb.Error, match="ValueError: the tide is out"):
        con.execute(f"FROM '{gateway.url}/udfs/broken.parquet'")


def test_pandas_and_the_sdk_read_the_same(function: Environment, gateway: Gateway) -> None:
    read = pd.read_csv(f"{gateway.url}/udfs/squares.csv?rows=12")
    with webfoot.Client(gateway.url) as client:
        table = client.run("squares", rows=12).df()
        several = client.map("squares", [{"rows": 1}, {"rows": 2}]).df()
    assert read["square"].tolist() == table["square"].tolist()
    assert len(several) == 3
    assert executions(function, "squares 12") == 1
