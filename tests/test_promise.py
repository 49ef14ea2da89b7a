"""The promise: the same call, the same answer, one execution, in whatever way it is called."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import fsspec
import httpx
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.server_process import COUNT, Server, connect, serve, write_udfs

from webfoot import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Rows = list[tuple[int, float, str | None]]
    Way = Callable[[Server, int], list[Rows]]

UDFS = """
    import time
    from typing import Annotated
    from pydantic import Field
    import webfoot
    from webfoot import udf
    from ._count import count

    def rows(n, factor, name):
        return [{"i": i, "x": i * factor, "name": name} for i in range(n)]

    @udf
    def table(n: int = 5, factor: float = 1.5, name: str | None = None):
        count(f"table {n}")
        return rows(n, factor, name)

    @udf
    def through_run(n: int):
        return webfoot.run("table", n=n)

    @udf
    def through_map(n: int):
        return webfoot.stitch(webfoot.map("table", [n], over="n"))

    @udf
    def slow(n: int = 5):
        count(f"slow {n}")
        time.sleep(1.3)
        return rows(n, 1.5, None)

    @udf
    def large(n: int):
        '''Above the size from which DuckDB and the others read ranges.'''
        count(f"large {n}")
        return f"SELECT i, i * 1.5::DOUBLE AS x, md5(i::VARCHAR) AS name FROM range({n}) r(i)"
"""


# This many rows are more than a megabyte, from where HEAD tells the length.
LARGE = 100_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("promise"), _count=COUNT, tables=UDFS)
    with serve(folder) as running:
        yield running


def expected(n: int, factor: float = 1.5, name: str | None = None) -> Rows:
    return [(i, i * factor, name) for i in range(n)]


def url(server: Server, n: int, extension: str = "parquet", udf: str = "table") -> str:
    udf = "large" if n >= LARGE else udf
    return f"{server.url}/udfs/{udf}.{extension}?n={n}"


def by_duckdb(server: Server, n: int) -> list[Rows]:
    """In one session, twice, and in another."""
    with connect() as first, connect() as second:
        query = f"FROM '{url(server, n)}'"
        return [con.sql(query).fetchall() for con in (first, first, second)]


def by_eight_duckdbs(server: Server, n: int) -> list[Rows]:
    def read(_: int) -> Rows:
        with connect() as con:
            rows: Rows = con.sql(f"FROM '{url(server, n)}'").fetchall()
        return rows

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(read, range(8)))


def by_impatient_duckdb(server: Server, n: int) -> list[Rows]:
    """The client gives up after a second and tries again, which joins the run."""
    with connect() as con:
        con.execute("SET http_timeout = 1; SET http_retries = 20; SET http_retry_backoff = 1")
        rows: Rows = con.sql(f"FROM '{url(server, n, udf='slow')}'").fetchall()
    return [rows]


def by_duckdb_aggregates(server: Server, n: int) -> list[Rows]:
    with connect() as con:
        source = f"'{url(server, n)}'"
        con.execute(f"CREATE VIEW v AS FROM {source}")
        assert con.sql(f"SELECT count(*) FROM {source}").fetchall() == [(n,)]
        assert len(con.sql(f"DESCRIBE FROM {source}").fetchall()) == 3
        return [con.sql("FROM v").fetchall()]


def by_duckdb_as_text(server: Server, n: int) -> list[Rows]:
    with connect() as con:
        readers = {"csv": "read_csv", "json": "read_json", "ndjson": "read_json"}
        return [
            con.sql(f"SELECT i, x, name::VARCHAR FROM {reader}('{url(server, n, ext)}')").fetchall()
            for ext, reader in readers.items()
        ]


def by_polars(server: Server, n: int) -> list[Rows]:
    address = url(server, n)
    return [pl.read_parquet(address).rows(), pl.scan_parquet(address).collect().rows()]


def by_pandas(server: Server, n: int) -> list[Rows]:
    return [_of_arrow(pa.Table.from_pandas(pd.read_parquet(url(server, n)))) for _ in range(2)]


def by_fsspec(server: Server, n: int) -> list[Rows]:
    def read() -> Rows:
        with fsspec.open(url(server, n)) as file:
            return _of_arrow(pq.read_table(file))

    return [read(), read()]


def by_curl(server: Server, n: int) -> list[Rows]:
    command = ["curl", "--silent", "--show-error", "--fail", url(server, n, "json")]
    return [_of_json(json.loads(subprocess.check_output(command))) for _ in range(2)]


def by_every_format(server: Server, n: int) -> list[Rows]:
    def get(extension: str) -> bytes:
        return httpx.get(url(server, n, extension)).raise_for_status().content

    csv = pd.read_csv(io.BytesIO(get("csv"))).astype({"name": object})
    assert f"{n} rows" in get("html").decode()
    assert httpx.get(url(server, n, "geojson")).status_code == 422  # It has no geometry.
    return [
        _of_arrow(pq.read_table(io.BytesIO(get("parquet")))),
        _of_arrow(pa.ipc.open_stream(get("arrow")).read_all()),
        _of_json(json.loads(get("json"))),
        _of_json([json.loads(line) for line in get("ndjson").splitlines()]),
        [(i, x, None) for i, x in zip(csv["i"], csv["x"], strict=True)],
    ]


def by_equivalent_spellings(server: Server, n: int) -> list[Rows]:
    spellings = [
        *(f"n={n}", f"n=%2B{n}", f"n=0{n}", f"n=+{n}", f"n={n}.0", f"n={n}&factor=1.50"),
        *(f"factor=15e-1&n={n}", f"n={n}&factor=", f"n={n}&name=&factor=", f"&&n={n}&"),
        *(f"%6E={n}", f"n={n}&_cb=1", f"_ts=17&n={n}", f"n={n}&_=x&_nocache=", f"n={n}&_limit="),
    ]
    address = f"{server.url}/udfs/table.json?"
    return [_of_json(httpx.get(address + query).raise_for_status().json()) for query in spellings]


def by_eight_formats_and_clients_at_once(server: Server, n: int) -> list[Rows]:
    ways = [by_duckdb, by_curl, by_polars, by_pandas, by_fsspec, by_every_format] * 2
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(way, server, n) for way in ways]
        return [rows for answer in answers for rows in answer.result()]


def by_head_get_and_ranges(server: Server, n: int) -> list[Rows]:
    address = url(server, n)
    with httpx.Client() as client:
        heads = [client.head(address) for _ in range(3)]
        whole = client.get(address)
        suffix = client.get(address, headers={"Range": "bytes=-8"})
        rest = client.get(address, headers={"Range": f"bytes=0-{len(whole.content) - 9}"})
    assert [head.status_code for head in heads] == [200] * 3
    joined = rest.content + suffix.content
    return [_of_arrow(pq.read_table(io.BytesIO(data))) for data in (whole.content, joined)]


def by_a_range_first(server: Server, n: int) -> list[Rows]:
    """Polars' first request is a suffix range: it runs the UDF, and is answered with the range."""
    first = httpx.get(url(server, n), headers={"Range": "bytes=-262144"})
    assert first.status_code == 206
    return [_of_arrow(pq.read_table(io.BytesIO(first.content)))]


def by_the_command_line(server: Server, n: int) -> list[Rows]:
    """It shares the server's store: what ran there, does not run here."""
    before = httpx.get(url(server, n, "json")).json()
    command = [sys.executable, "-m", "webfoot", "run", "table", f"n={n}", "--format", "json"]
    places = ["--folder", str(server.folder), "--store", str(server.store)]
    return [_of_json(before), _of_json(json.loads(subprocess.check_output([*command, *places])))]


def by_another_server(server: Server, n: int) -> list[Rows]:
    with serve(server.folder, store=server.store) as other:
        both = [url(server, n, "json"), url(other, n, "json")]
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(httpx.get, both * 4))
    return [_of_json(answer.raise_for_status().json()) for answer in answers]


def by_after_a_restart(server: Server, n: int) -> list[Rows]:
    answers = []
    for _ in range(2):
        with serve(server.folder, store=server.folder.parent / "second store") as other:
            answers.append(_of_json(httpx.get(url(other, n, "json")).json()))
    return answers


def by_each(server: Server, n: int) -> list[Rows]:
    """As one of several inputs of a fan-out, in a URL."""
    address = f"{server.url}/udfs/table.parquet?_each=n&n={n}&n=1"
    with connect() as con:
        return [
            con.sql(f"SELECT i, x, name FROM '{address}' WHERE n = {n} ORDER BY i").fetchall()
            for _ in range(2)
        ]


def by_map(server: Server, n: int) -> list[Rows]:
    """As inputs of a fan-out that are the same call."""
    inputs = [{"n": n}, {"n": n, "factor": 1.5}, {"n": f"{n}"}]
    address = f"{server.url}/udfs/table/map?_columns=i,x,name"
    answer = httpx.post(address, json=inputs).raise_for_status()
    rows = _of_arrow(pq.read_table(io.BytesIO(answer.content)))
    return [rows[start : start + n] for start in range(0, 3 * n, n)]


def by_other_udfs(server: Server, n: int) -> list[Rows]:
    """By UDFs that call it."""
    return [
        _of_json(httpx.get(url(server, n, "json", name)).raise_for_status().json())
        for name in ("through_run", "through_map", "table")
    ]


def by_the_sdk(server: Server, n: int) -> list[Rows]:
    with Client(server.url) as client:
        first, again = client.run("table", n=n), client.run("table", n=n, factor=1.5)
        results = client.map("table", [{"n": n}, {"n": n}])
        joined = results.sql("SELECT i, x, name FROM self").arrow()
        job = client.submit("table", n=n).result()
    tables = [table.arrow() for table in (first, again, *results, job)]
    return [*map(_of_arrow, tables), _of_arrow(joined[:n]), _of_arrow(joined[n:])]


def by_the_catalog(server: Server, n: int) -> list[Rows]:
    with connect() as con:
        con.execute(f"ATTACH '{server.url}/catalog.duckdb' AS udfs")
        each = f"SELECT i, x, name FROM udfs.table_each(n := [{n}]) ORDER BY i"
        return [
            con.sql(query).fetchall()
            for query in (f'FROM udfs."table"(n := {n})', f'FROM udfs."table"({n})', each)
        ]


WAYS: list[Way] = [
    by_duckdb,
    by_eight_duckdbs,
    by_impatient_duckdb,
    by_duckdb_aggregates,
    by_duckdb_as_text,
    by_polars,
    by_pandas,
    by_fsspec,
    by_curl,
    by_every_format,
    by_equivalent_spellings,
    by_eight_formats_and_clients_at_once,
    by_head_get_and_ranges,
    by_a_range_first,
    by_the_command_line,
    by_another_server,
    by_after_a_restart,
    by_each,
    by_map,
    by_other_udfs,
    by_the_sdk,
    by_the_catalog,
]


def _of_arrow(table: pa.Table) -> Rows:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _of_json(rows: list[dict[str, Any]]) -> Rows:
    return [(row["i"], row["x"], row["name"]) for row in rows]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_same_call_is_the_same_answer_and_one_execution(server: Server, way: Way) -> None:
    n = 10 + WAYS.index(way)
    answers = way(server, n)
    assert answers
    for answer in answers:
        assert answer == expected(n)
    executions = server.executions(f"table {n}") + server.executions(f"slow {n}")
    assert executions == 1


@pytest.mark.parametrize("way", [by_duckdb, by_polars, by_fsspec], ids=lambda way: way.__name__)
def test_a_large_result_read_by_ranges_is_one_execution(server: Server, way: Way) -> None:
    n = LARGE + WAYS.index(way)
    answers = way(server, n)
    assert all(len(answer) == n and answer[-1][:2] == (n - 1, (n - 1) * 1.5) for answer in answers)
    assert all(answer == answers[0] for answer in answers)
    assert server.executions(f"large {n}") == 1
    assert ("GET", 206) in server.requests(f"n={n}")


def test_different_calls_are_different_executions(server: Server) -> None:
    queries = ["n=3", "n=3&factor=2", "n=3&name=a", "n=3&name=A", "n=3&name=%20"]
    for query in queries * 2:
        httpx.get(f"{server.url}/udfs/table.parquet?{query}").raise_for_status()
    assert server.executions("table 3") == len(queries)
