"""What people read tables with, against a real server: how many requests, and what they see."""

from __future__ import annotations

import io
import subprocess
import urllib.error
from typing import TYPE_CHECKING

import duckdb
import fsspec
import httpx
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from tests.server_process import COUNT, INLINE, Server, connect, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UDFS = """
    from datetime import date, datetime, UTC
    from decimal import Decimal
    from webfoot import udf
    from ._count import count

    @udf
    def small(n: int):
        count(f"small {n}")
        return [{"i": i, "name": f"é {i}"} for i in range(20)]

    @udf
    def large(n: int):
        count(f"large {n}")
        return f"SELECT i, i % 7 AS g, md5(i::VARCHAR) AS name FROM range({n}) r(i)"

    @udf
    def no_rows() -> list[dict[str, int]]:
        return "SELECT 1::INTEGER AS a, 'x' AS b WHERE false"

    @udf
    def typed():
        return '''SELECT 1::TINYINT AS small, 1.5::DECIMAL(9, 2) AS exact, DATE '2024-01-31' AS day,
            TIMESTAMPTZ '2024-01-31 12:00:00+00' AS at, [1, 2] AS list, {'a': 1} AS record,
            'x'::BLOB AS bytes, NULL::INTEGER AS missing'''

    @udf
    def fails(n: int):
        count(f"fails {n}")
        raise ValueError("this is why")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("clients"), _count=COUNT, tables=UDFS)
    with serve(folder, *INLINE) as running:
        yield running


def test_polars_reads_what_is_small_in_two_requests_of_which_the_first_is_a_suffix(
    server: Server,
) -> None:
    path = "small.parquet?n=1"
    assert pl.read_parquet(f"{server.url}/udfs/{path}").height == 20
    requests = server.requests(path)
    assert set(requests) == {("GET", 206)}
    assert len(requests) <= 2
    assert server.executions("small 1") == 1


def test_polars_reads_only_the_columns_it_is_asked_for(server: Server) -> None:
    path = "large.parquet?n=300000"
    address = f"{server.url}/udfs/{path}"
    total = pl.scan_parquet(address).filter(pl.col("i") == 5).select("g").collect()
    assert total.rows() == [(5,)]
    assert set(server.requests(path)) == {("GET", 206)}
    assert server.executions("large 300000") == 1


def test_pandas_reads_in_one_request_each_time(server: Server) -> None:
    path = "small.parquet?n=2"
    for times in (1, 2):
        frame = pd.read_parquet(f"{server.url}/udfs/{path}")
        assert frame["i"].tolist() == list(range(20))
        assert server.requests(path) == [("GET", 200)] * times
    csv = pd.read_csv(f"{server.url}/udfs/small.csv?n=2")
    assert csv["name"].tolist() == frame["name"].tolist()
    assert server.executions("small 2") == 1


def test_fsspec_reads_small_and_large(server: Server) -> None:
    for path, rows in (("small.parquet?n=3", 20), ("large.parquet?n=100003", 100_003)):
        for _ in range(2):
            with fsspec.open(f"{server.url}/udfs/{path}") as file:
                assert pq.read_table(file).num_rows == rows
    assert server.executions("small 3") == server.executions("large 100003") == 1
    assert ("GET", 206) in server.requests("large.parquet?n=100003")


def test_curl_sees_the_reason(server: Server) -> None:
    command = ["curl", "--silent", "--include", f"{server.url}/udfs/fails.parquet?n=4"]
    answer = subprocess.check_output(command).decode()
    assert answer.startswith("HTTP/1.1 500 ")
    assert '"detail": "ValueError: this is why"' in answer


def test_curl_resumes_a_download(server: Server, tmp_path: Path) -> None:
    address = f"{server.url}/udfs/large.parquet?n=100004"
    whole = httpx.get(address).content
    part = tmp_path / "part"
    part.write_bytes(whole[:1000])
    subprocess.check_call(["curl", "--silent", "--continue-at", "-", "--output", part, address])
    assert part.read_bytes() == whole


@pytest.mark.parametrize("name", ["no_rows", "typed"])
def test_every_client_sees_the_same_columns(server: Server, name: str) -> None:
    address = f"{server.url}/udfs/{name}.parquet"
    columns = pl.read_parquet(address).columns
    assert columns
    assert list(pd.read_parquet(address).columns) == columns
    with connect() as con:
        assert con.sql(f"FROM '{address}'").columns == columns
        rows = con.sql(f"SELECT count(*) FROM '{address}'").fetchall()
    assert rows == [(0 if name == "no_rows" else 1,)]
    for extension in ("csv", "json", "ndjson", "arrow", "html"):
        assert httpx.get(f"{server.url}/udfs/{name}.{extension}").status_code == 200


def test_duckdb_keeps_types(server: Server) -> None:
    with connect() as con:
        relation = con.sql(f"FROM '{server.url}/udfs/typed.parquet'")
        assert [str(kind) for kind in relation.types] == [
            *("TINYINT", "DECIMAL(9,2)", "DATE", "TIMESTAMP WITH TIME ZONE", "INTEGER[]"),
            *("STRUCT(a INTEGER)", "BLOB", "INTEGER"),
        ]


def test_duckdb_downloads_first_if_it_is_told_to(server: Server) -> None:
    with connect() as con:
        con.execute("SET force_download = true")
        path = "small.parquet?n=5"
        assert len(con.sql(f"FROM '{server.url}/udfs/{path}'").fetchall()) == 20
    assert server.requests(path) in ([("GET", 200)], [("HEAD", 200), ("GET", 200)])
    assert server.executions("small 5") == 1


def test_duckdb_reads_many_calls_in_one_query(server: Server) -> None:
    with connect() as con:
        urls = [f"{server.url}/udfs/small.parquet?n={n}" for n in range(100, 116)]
        query = (
            "SELECT filename, count(*) FROM read_parquet($1, filename = true) GROUP BY 1 ORDER BY 1"
        )
        rows = con.execute(query, [urls]).fetchall()
    assert rows == [(url, 20) for url in urls]
    assert [server.executions(f"small {n}") for n in range(100, 116)] == [1] * 16


def test_duckdb_with_metadata_caches_reads_the_same(server: Server) -> None:
    address = f"{server.url}/udfs/large.parquet?n=100006"
    with connect() as con:
        con.execute("SET enable_http_metadata_cache = true; SET parquet_metadata_cache = true")
        answers = {
            con.sql(f"SELECT sum(i), count(*) FROM '{address}'").fetchone() for _ in range(4)
        }
    assert answers == {(sum(range(100_006)), 100_006)}


def test_duckdb_of_one_query_reads_one_url_once(server: Server) -> None:
    source = f"'{server.url}/udfs/small.parquet?n=6'"
    with connect() as con:
        query = f"SELECT count(*) FROM {source} a JOIN {source} b USING (i)"
        assert con.sql(query).fetchall() == [(20,)]
    assert server.executions("small 6") == 1


@pytest.mark.slow
def test_polars_raises_what_the_udf_did(server: Server) -> None:
    with pytest.raises(OSError, match="500"):
        pl.read_parquet(f"{server.url}/udfs/fails.parquet?n=7")
    # It tries again for longer than a failure is remembered.
    assert server.executions("fails 7") <= 2


def test_pandas_raises_what_the_udf_did(server: Server) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        pd.read_parquet(f"{server.url}/udfs/fails.parquet?n=17")
    with raised.value as response:
        assert b"this is why" in response.read()
    assert server.executions("fails 17") == 1


def test_fsspec_raises_if_the_udf_did(server: Server) -> None:
    address = f"{server.url}/udfs/fails.parquet?n=27"
    with pytest.raises(FileNotFoundError), fsspec.open(address) as file:
        pq.read_table(file)
    assert server.executions("fails 27") == 1


def test_an_error_is_no_empty_table_for_duckdb(server: Server) -> None:
    address = f"{server.url}/udfs/fails.parquet?n=8"
    with connect() as con:
        for option in ("true", "false"):
            con.execute(f"SET enable_geoparquet_conversion = {option}")
            for query in ("FROM '{0}'", "SELECT count(*) FROM '{0}'", "FROM ['{0}', '{0}']"):
                with pytest.raises(duckdb.Error):
                    con.sql(query.format(address)).fetchall()
    assert server.executions("fails 8") == 1


def test_duckdb_reads_text_formats_in_one_pass(server: Server) -> None:
    with connect() as con:
        for path, reader in (("small.csv?n=9", "csv"), ("small.json?n=9", "json")):
            rows = con.sql(f"FROM read_{reader}('{server.url}/udfs/{path}')").fetchall()
            assert len(rows) == 20
            assert server.requests(path) == [("HEAD", 200), ("GET", 200)]
            assert rows == con.sql(f"FROM '{server.url}/udfs/{path}'").fetchall()


def test_arrow_streams_are_read_by_polars(server: Server) -> None:
    content = httpx.get(f"{server.url}/udfs/small.arrow?n=10").content
    assert pl.read_ipc_stream(io.BytesIO(content)).height == 20
