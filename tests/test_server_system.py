"""The server's own records, as tables that anything can read; but not anybody."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import duckdb
import httpx
import polars as pl
import pyarrow.parquet as pq
import pytest
from tests.access.granting import bearer, give_key
from tests.server_process import COUNT, INLINE, Server, connect, serve, write_udfs
from tests.test_calling import UDFS

from webfoot.server.records import COLUMNS
from webfoot.server.system import is_from_here
from webfoot.views import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("system"), _count=COUNT, calling=UDFS)
    with serve(folder) as running:
        for path in ("leaf.csv?n=1", "leaf.csv?n=1", "leaf.csv?n=2&fail=true", "one.csv?n=3"):
            httpx.get(f"{running.url}/udfs/{path}")
        yield running


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def test_duckdb_asks_a_request_log_what_it_asks_any(
    server: Server, con: duckdb.DuckDBPyConnection
) -> None:
    con.execute(f"CREATE VIEW query_log AS FROM '{server.url}/_system/requests.parquet'")
    asked = con.execute("""
        SELECT
            COUNT(*) AS total_queries,
            AVG(execution_time_ms) AS avg_execution_time,
            MAX(memory_used_mb) AS max_memory
        FROM query_log
        WHERE timestamp > NOW() - INTERVAL '1 hour'
    """).fetchone()
    assert asked is not None
    assert asked[0] >= 4
    assert asked[1] > 0
    assert asked[2] > 10
    failed = con.execute("""
        SELECT udf, principal, SUM(CASE WHEN status = 'error' THEN 1 ELSE 0 END) * 100.0 / COUNT(*)
        FROM query_log WHERE timestamp >= CURRENT_TIMESTAMP - INTERVAL 5 MINUTE AND udf IS NOT NULL
        GROUP BY ALL ORDER BY ALL
    """).fetchall()
    assert failed == [("leaf", "anonymous", pytest.approx(100 / 3)), ("one", "anonymous", 0)]


def test_requests_and_runs_are_joined_by_their_trace(
    server: Server, con: duckdb.DuckDBPyConnection
) -> None:
    rows = con.execute(f"""
        SELECT requests.udf, list(runs.udf ORDER BY runs.udf), any_value(requests.billed_ms),
            sum(runs.billed_ms)
        FROM '{server.url}/_system/requests.parquet' requests
        JOIN '{server.url}/_system/runs.parquet' runs USING (trace)
        WHERE requests.udf = 'one' GROUP BY requests.request_id, requests.udf
    """).fetchall()
    [(udf, udfs, billed, summed)] = rows
    assert (udf, udfs) == ("one", ["leaf", "one", "one"])
    assert billed == summed


def test_columns_have_their_types_even_if_there_is_nothing(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, calling=UDFS)
    with serve(folder, *INLINE, "--request-log", "0") as running:
        for table in ("requests", "runs"):
            answer = httpx.get(f"{running.url}/_system/{table}.parquet")
            schema = pq.read_schema(io.BytesIO(answer.content))
            assert str(schema.field("timestamp").type) == "timestamp[us, tz=UTC]"
            assert str(schema.field("memory_used_mb").type) == "double"
        assert len(COLUMNS) == len(
            pq.read_schema(io.BytesIO(httpx.get(f"{running.url}/_system/requests.parquet").content))
        )


@pytest.mark.parametrize("extension", [name for name in MEDIA_TYPES if name != "geojson"])
@pytest.mark.parametrize("table", ["requests", "runs"])
def test_they_come_in_every_format(server: Server, table: str, extension: str) -> None:
    url = f"{server.url}/_system/{table}.{extension}?_limit=2&_columns=timestamp,udf"
    answer = httpx.get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == MEDIA_TYPES[extension]
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.content) > 20


def test_ranges_are_of_one_snapshot(server: Server) -> None:
    url = f"{server.url}/_system/requests.parquet"
    first = httpx.get(url, headers={"Range": "bytes=0-99"})
    httpx.get(f"{server.url}/udfs/leaf.csv?n=1")
    second = httpx.get(url, headers={"Range": "bytes=100-"})
    assert first.headers["etag"] == second.headers["etag"]
    table = pq.read_table(io.BytesIO(first.content + second.content))
    assert table.num_rows >= 4
    assert httpx.get(url, headers={"Range": "bytes=9999999-"}).status_code == 416
    assert httpx.head(url).status_code == 200


def test_polars_reads_them(server: Server) -> None:
    assert pl.read_parquet(f"{server.url}/_system/runs.parquet").height >= 3


def test_a_new_reader_sees_what_has_happened_since(server: Server) -> None:
    url = f"{server.url}/_system/requests.json?_columns=request_id"
    known: list[dict[str, str]] = []
    until = time.monotonic() + 20
    while {"request_id": "looks"} not in known:
        assert time.monotonic() < until
        time.sleep(0.05)
        known = httpx.get(url, headers={"x-request-id": "looks"}).json()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/_system/nothing.parquet", 404),
        ("/_system/requests.xml", 404),
        ("/_system/requests.csv?n=1", 422),
        ("/_system/requests.csv?_columns=nothing", 422),
        ("/_system/requests.geojson", 422),
        ("/_system/requests", 404),
    ],
)
def test_what_there_is_not_is_an_error(server: Server, path: str, status: int) -> None:
    assert httpx.get(f"{server.url}{path}").status_code == status


def test_duckdb_says_what_is_wrong(server: Server, con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error, match="n: requests has no parameters"):
        con.execute(f"FROM '{server.url}/_system/requests.parquet?n=1'")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"host": "rebound.example:8000"},
        {"x-forwarded-for": "203.0.113.5"},
        {"x-forwarded-host": "public.example"},
    ],
)
def test_who_is_not_on_this_machine_is_told_nothing(
    server: Server, headers: dict[str, str]
) -> None:
    for table in ("requests.json", "runs.csv", "nothing.csv"):
        answer = httpx.get(f"{server.url}/_system/{table}", headers=headers)
        assert answer.status_code == 403
        assert "leaf" not in answer.text


@pytest.mark.parametrize(
    ("client", "host", "allowed"),
    [
        (("127.0.0.1", 1), b"localhost:8000", True),
        (("127.0.0.1", 1), b"127.0.0.1", True),
        (("::1", 1), b"[::1]:80", True),
        (("10.0.0.1", 1), b"localhost", False),
        (("127.0.0.1", 1), b"10.0.0.1", False),
        (None, b"localhost", False),
        (("testclient", 1), b"localhost", False),
    ],
)
def test_here_is_this_machine(client: Any, host: bytes, allowed: bool) -> None:
    scope = {"scheme": "http", "headers": [(b"host", host)], "client": client}
    assert is_from_here(scope) is allowed
    own = [(b"host", host), (b"origin", b"http://" + host)]
    assert is_from_here({**scope, "headers": own}) is allowed


# Where keys are asked for.


def test_with_keys_they_are_for_admins_and_each_tenants_are_its_own(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, calling=UDFS)
    place = tmp_path / "store/access"
    keys = {
        "operator": give_key(place, "admin"),
        "viewer": give_key(place, "viewer"),
        "red": give_key(place, "admin", tenant="red"),
        "blue": give_key(place, "viewer", tenant="blue"),
    }
    with serve(folder, *INLINE) as server, httpx.Client(base_url=server.url) as http:
        for who in ("red", "blue"):
            for _ in range(2):
                http.get(f"/udfs/leaf.csv?n=1&tag={who}", headers=bearer(keys[who]))
        told = {
            who: {
                table: http.get(f"/_system/{table}.json", headers=bearer(key))
                for table in ("requests", "runs")
            }
            for who, key in keys.items()
        }
        nobody = http.get("/_system/requests.json")
    assert nobody.status_code == 401
    for who in ("viewer", "blue"):
        assert {answer.status_code for answer in told[who].values()} == {403}
    for table, least in (("requests", 4), ("runs", 4)):
        everything = told["operator"][table].json()
        assert {row["tenant"] for row in everything} >= {"red", "blue"}
        assert len(everything) >= least
        own = told["red"][table].json()
        assert {row["tenant"] for row in own} == {"red"}
        assert "blue" not in told["red"][table].text
    asked = [row for row in told["operator"]["requests"].json() if row["udf"] == "leaf"]
    assert len({row["principal"] for row in asked}) == 2
    assert all(row["principal"].startswith("key:") for row in asked)


def test_what_the_gate_refuses_is_recorded_too(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, calling=UDFS)
    admin = bearer(give_key(tmp_path / "store/access", "admin"))
    viewer = bearer(give_key(tmp_path / "store/access", "viewer"))
    with serve(folder, *INLINE) as server, httpx.Client(base_url=server.url) as http:
        http.get("/udfs/leaf.csv?n=1")
        http.post("/jobs", json={"udf": "leaf"}, headers=viewer)
        rows = http.get("/_system/requests.json", headers=admin).json()
    told = [(row["code"], row["http_status"], row["principal"] is None) for row in rows[:2]]
    assert told == [("unauthorized", 401, True), ("forbidden", 403, False)]
