"""SQL over HTTP, on a real server: `/query`, `/query.{extension}`, and what no SQL gets there."""

from __future__ import annotations

import concurrent.futures
import json
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import duckdb
import httpx
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.attacks import ALLOWED, FAILS, REFUSED
from tests.scrapes import scrape
from tests.server_process import (
    COUNT,
    GATE,
    INLINE,
    Server,
    connect,
    eventually,
    serve,
    write_udfs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "planted-secret-0815"
UDFS = f"""
    import time
    from typing import Literal
    from webfoot import InvalidParameters, udf
    from ._count import count
    from ._gate import wait_at

    KEY = "{SECRET}"

    @udf
    def squares(rows: int = 3):
        '''Square numbers.'''
        count(f"squares {{rows}}")
        if rows > 1000:
            raise InvalidParameters(f"rows must be up to 1000, got {{rows}}")
        return [{{"number": n, "square": n * n}} for n in range(rows)]

    @udf(partitions=["region"])
    def sales(region: Literal["a", "b"]):
        count(f"sales {{region}}")
        return [{{"amount": len(region)}}]

    @udf
    def slow(seconds: float = 60):
        time.sleep(seconds)
        return [{{"a": 1}}]

    @udf
    def gated(gate: str):
        wait_at(gate)
        return [{{"a": 1}}]

    @udf
    def fails():
        raise ValueError("the moon is down")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("sql"), _count=COUNT, _gate=GATE, tables=UDFS)
    lake = folder.parent / "hidden-lake"
    lake.mkdir()
    pq.write_table(pa.table({"fare": range(100)}), lake / "taxi.parquet")
    (lake / "secret.csv").write_text(f"a\n{SECRET}\n")
    environment = {
        **os.environ,
        "WEBFOOT_LAKE": f"taxi={lake}/taxi.parquet, gone={lake}/gone/",
        "WEBFOOT_SQL_TIMEOUT": "10s",
        "WEBFOOT_SQL_ROWS": "200000",
        "POSTGRES_DSN": SECRET,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    with serve(folder, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def ask(http: httpx.Client, sql: str, **more: Any) -> httpx.Response:
    return http.post("/query", json={"query": sql, **more})


def data(http: httpx.Client, sql: str, **more: Any) -> list[dict[str, Any]]:
    response = ask(http, sql, **more)
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["data"]
    return rows


def url_of(server: Server, sql: str, extension: str = "parquet") -> str:
    return f"{server.url}/query.{extension}?sql={quote(sql)}"


# What is answered


def test_the_first_answer_is_cold_and_the_next_is_warm(tmp_path: Path) -> None:
    with serve(write_udfs(tmp_path)) as fresh, httpx.Client(base_url=fresh.url) as http:
        before_ms = time.time() * 1000
        first, second = (ask(http, "SELECT 1 AS one").json() for _ in range(2))
        third = http.get("/query.csv?sql=SELECT+1")
    assert set(first) == {"columns", "data", "rows", "limit", "truncated", "metadata"}
    assert first["columns"] == [{"name": "one", "type": "int32"}]
    assert first["data"] == [{"one": 1}]
    assert (first["rows"], first["limit"], first["truncated"]) == (1, 1000, False)
    told = first["metadata"]
    assert set(told) == {"timeMs", "epochMs", "eventId", "query", "warm"}
    assert told["query"] == "SELECT 1 AS one"
    assert 0 < told["timeMs"] < told["epochMs"] - before_ms + 1000
    assert told["eventId"] != second["metadata"]["eventId"]
    assert (told["warm"], second["metadata"]["warm"]) == (False, True)
    assert third.headers["x-webfoot-warm"] == "true"


def test_both_names_of_the_text_are_understood(http: httpx.Client) -> None:
    assert http.post("/query", json={"q": "SELECT 1 AS a", "limit": 3}).json()["data"] == [{"a": 1}]


@pytest.mark.parametrize("extension", ["parquet", "csv", "json", "ndjson", "arrow", "html"])
def test_every_format_of_results_is_one_of_queries(
    http: httpx.Client, server: Server, extension: str
) -> None:
    got = http.get(url_of(server, "FROM squares(rows := 2)", extension))
    table = http.get(f"/udfs/squares.{extension}?rows=2")
    assert got.headers["content-type"] == table.headers["content-type"]
    assert got.content == table.content
    media_type = got.headers["content-type"].split(";")[0]
    if extension != "json":
        posted = http.post(
            "/query", json={"query": "FROM squares(rows := 2)"}, headers={"accept": media_type}
        )
        assert posted.content == got.content


def test_duckdb_reads_a_query_in_one_run(server: Server) -> None:
    sql = "SELECT sum(square) AS s FROM squares(rows := 41)"
    with connect() as con:
        assert con.execute(f"FROM '{url_of(server, sql)}'").fetchall() == [(22140,)]
    assert server.requests(quote(sql)) == [("HEAD", 200), ("GET", 200)]
    assert server.executions("squares 41") == 1


def test_a_star_reaches_the_server_from_duckdb_if_it_is_quoted(server: Server) -> None:
    with connect() as con:
        sql = f"FROM '{server.url}/query.parquet?sql=SELECT count(%2A) FROM range(3)'"
        assert con.execute(sql).fetchall() == [(3,)]
        with pytest.raises(duckdb.Error, match="allow_asterisks_in_http_paths"):
            con.execute(sql.replace("%2A", "*"))


def test_readers_of_ranges_see_one_answer(http: httpx.Client, server: Server) -> None:
    url = url_of(server, "SELECT random() AS r, i FROM range(200_000) t(i)")
    frame = pl.read_parquet(url)
    assert frame.height == 200_000
    statuses = {status for method, status in server.requests("200_000") if method == "GET"}
    assert statuses == {206}
    again = http.get(url, headers={"range": "bytes=0-99"})
    assert again.headers["x-webfoot-executions"] == "1"


def test_head_runs_nothing_and_never_fails(http: httpx.Client, server: Server) -> None:
    for sql in ("FROM squares(rows := 43)", "DROP TABLE a", "nonsense"):
        head = http.head(url_of(server, sql))
        assert (head.status_code, head.content) == (200, b"")
        assert "content-length" not in head.headers
    assert server.executions("squares 43") == 0
    assert http.head("/query.unknown?sql=SELECT+1").status_code == 404


def test_who_asks_the_same_at_once_shares_the_run(http: httpx.Client, server: Server) -> None:
    sql = "SELECT uuid() AS id FROM gated(gate := 'shared')"
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(ask, http, sql) for _ in range(6)]
        # All six, and who looks.
        eventually(lambda: scrape(server.url).total("http_requests_in_progress") == 7)
        server.open("shared")
        told = [answer.result().json() for answer in asked]
    assert len({answer["metadata"]["eventId"] for answer in told}) == 1
    # But nobody who comes later.
    assert ask(http, sql).json()["data"] != told[0]["data"]


def test_an_answer_is_stored_by_nobody_on_the_way(http: httpx.Client, server: Server) -> None:
    assert ask(http, "SELECT 1").headers["cache-control"] == "no-store"
    assert http.get(url_of(server, "SELECT 1")).headers["cache-control"] == "no-store"


def test_udfs_are_run_once_however_often_sql_asks(http: httpx.Client, server: Server) -> None:
    for sql in ("SELECT count(*) AS n FROM squares(rows := 44)", "FROM squares(44)"):
        data(http, sql)
    http.get("/udfs/squares.csv?rows=44")
    assert server.executions("squares 44") == 1


def test_all_forms_of_macros_work(http: httpx.Client, server: Server) -> None:
    each = "FROM squares_each(rows := [1, 45]) SELECT rows, count(*) AS n GROUP BY 1 ORDER BY 1"
    assert data(http, each) == [{"rows": 1, "n": 1}, {"rows": 45, "n": 45}]
    assert server.executions("squares 45") == 1
    assert data(http, "FROM squares(rows := 45, _limit := 2) SELECT count(*) AS n") == [{"n": 2}]
    assert data(http, "FROM sales_partitioned() WHERE region = 'a'") == [
        {"amount": 1, "region": "a"}
    ]
    assert server.executions("sales b") == 0
    failed = ask(http, "FROM squares_each(rows := [1, 2000], _partial := true) SELECT rows, _error")
    assert "rows must be up to 1000, got 2000" in failed.json()["data"][-1]["_error"]


def test_datasets_are_tables(http: httpx.Client) -> None:
    assert data(http, "SELECT sum(fare)::INT AS s FROM taxi") == [{"s": 4950}]
    joined = "SELECT count(*) AS n FROM lake.taxi JOIN squares(rows := 5) ON fare = square"
    assert data(http, joined) == [{"n": 5}]
    assert data(http, "FROM datasets SELECT name") == [{"name": "taxi"}, {"name": "gone"}]


@pytest.mark.parametrize("sql", ALLOWED)
def test_harmless_sql_is_answered(http: httpx.Client, sql: str) -> None:
    assert ask(http, sql).status_code == 200


# Parameters and limits


def test_parameters_are_bound(http: httpx.Client) -> None:
    evil = "'; DROP TABLE a --"
    assert data(http, "SELECT ? AS a, ?::DATE AS d", parameters=[evil, "2024-02-29"]) == [
        {"a": evil, "d": "2024-02-29"}
    ]
    assert data(http, "SELECT $x + 1 AS a", parameters={"x": 41}) == [{"a": 42}]
    got = http.get(
        "/query.json", params={"sql": "SELECT $1 AS a", "parameters": json.dumps([evil])}
    )
    assert got.json() == [{"a": evil}]


def test_a_limit_cuts_and_says_so(http: httpx.Client) -> None:
    answer = ask(http, "SELECT * FROM range(1000000000)", limit=20).json()
    assert (answer["rows"], answer["limit"], answer["truncated"]) == (20, 20, True)
    whole = ask(http, "SELECT * FROM range(1000000000)")
    assert (whole.json()["rows"], whole.json()["truncated"]) == (1000, True)
    assert whole.headers["x-webfoot-truncated"] == "true"
    exact = ask(http, "FROM range(20)", limit=20)
    assert not exact.json()["truncated"]
    assert "x-webfoot-truncated" not in exact.headers


def test_what_is_read_as_a_file_is_whole_or_an_error(http: httpx.Client, server: Server) -> None:
    whole = http.get(url_of(server, "FROM range(200_000)", "csv"))
    assert whole.text.count("\r\n") == 200_001
    refused = http.get(url_of(server, "FROM range(200_001)", "csv"))
    assert (refused.status_code, refused.json()["code"]) == (413, "query-too-large")
    cut = http.get(url_of(server, "FROM range(200_001)", "csv") + "&limit=7")
    assert cut.text.count("\r\n") == 8
    assert cut.headers["x-webfoot-truncated"] == "true"
    with connect() as con, pytest.raises(duckdb.Error, match="more than 200,000 rows"):
        con.execute(f"FROM '{url_of(server, 'FROM range(200_001)')}'")
    preview = http.get(url_of(server, "FROM range(200_001)", "html"))
    assert preview.status_code == 200


def test_views_are_of_queries_too(http: httpx.Client, server: Server) -> None:
    url = url_of(server, "FROM squares(rows := 5)", "csv")
    assert (
        http.get(f"{url}&_columns=square&_order=-square&_limit=2").text == "square\r\n16\r\n9\r\n"
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"not json", "the body is not JSON"),
        (b"[]", "the body must be an object"),
        (b"{}", "query: must be a text of SQL"),
        (b'{"query": 1}', "query: must be a text of SQL"),
        (b'{"query": " "}', "the SQL is missing; ask like"),
        (b'{"query": "SELECT 1", "colour": 1}', "colour: is no part of a query"),
        (b'{"query": "SELECT 1", "limit": -1}', "limit: must be a whole number"),
        (b'{"query": "SELECT 1", "limit": true}', "limit: must be a whole number"),
        (b'{"query": "SELECT 1", "limit": 1000000}', "limit: must be at most 200000"),
        (b'{"query": "SELECT 1", "parameters": 7}', "parameters: must be a list or an object"),
        (b'{"query": "SELECT 1\\u0000; DROP"}', "such as a zero byte"),
        (b'{"query": "SELECT \\ud800"}', "characters that no text has"),
        (b'{"query": "SELECT ?", "parameters": ["\\ud800"]}', "characters that no text has"),
        (json.dumps({"query": "SELECT " + "1" * 100_000}).encode(), "at most 100000 are read"),
        (b'{"query": "' + b" " * 1_000_000 + b'"}', "more than 1000000 bytes"),
    ],
)
def test_a_body_that_makes_no_query_is_told(http: httpx.Client, body: bytes, told: str) -> None:
    response = http.post("/query", content=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-parameters")
    assert told in response.json()["detail"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "the SQL is missing; ask like"),
        ("sql=SELECT+1&colour=1", "colour: is no part of a query"),
        ("sql=SELECT+1&sql=SELECT+2", "sql: is given twice"),
        ("sql=SELECT+1&limit=many", "limit: must be a whole number"),
        ("sql=SELECT+1&parameters=1,2", "parameters: must be JSON"),
        ("sql=SELECT+1&parameters=7", "parameters: must be a list or an object"),
        ("sql=SELECT+1&_each=a", "_each: is no option"),
        ("sql=SELECT+1&_exact=1", "_exact: is for .json and .ndjson and .geojson only"),
    ],
)
def test_a_url_that_makes_no_query_is_told(http: httpx.Client, query: str, told: str) -> None:
    response = http.get(f"/query.csv?{query}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid-parameters")
    assert told in response.json()["detail"]


def test_numbers_that_javascript_would_change_are_texts_if_asked(
    http: httpx.Client, server: Server
) -> None:
    sql = (
        "SELECT 9007199254740991 AS a, 9007199254740993 AS b, -9007199254740993 AS c,"
        " 12345678901234567890::UBIGINT AS d, [9007199254740993] AS e, 'nan'::DOUBLE AS f,"
        " 1.50::DECIMAL(38, 18) AS g, 1234567890.1234567890::DECIMAL(38, 10) AS h,"
        " {'i': 9007199254740993, 'j': 'inf'::FLOAT} AS k, sum(2) AS l, NULL::BIGINT AS m,"
        " TIMESTAMPTZ '2024-02-29 12:00:00+02' AS n, DATE '2024-02-29' AS o"
    )
    (row,) = data(http, sql, exact=True)
    assert row == {
        "a": 9007199254740991,
        "b": "9007199254740993",
        "c": "-9007199254740993",
        "d": "12345678901234567890",
        "e": ["9007199254740993"],
        "f": None,
        "g": 1.5,
        "h": "1234567890.1234567890",
        "k": {"i": "9007199254740993", "j": None},
        "l": 2,
        "m": None,
        "n": "2024-02-29T10:00:00Z",
        "o": "2024-02-29",
    }
    assert http.get(url_of(server, sql, "json") + "&_exact=1").json() == [row]
    plain = ask(http, sql).text
    assert '"b":9007199254740993,' in plain
    assert '"h":1234567890.1234567890' in plain


# Errors


def test_a_udf_s_own_words_arrive(http: httpx.Client, server: Server) -> None:
    failed = ask(http, "SELECT count(*) FROM fails()")
    assert (failed.status_code, failed.json()["code"]) == (500, "udf-failed")
    assert failed.json()["detail"] == "fails: ValueError: the moon is down"
    refused = ask(http, "FROM squares(rows := 2000)")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-parameters")
    assert refused.json()["detail"] == "squares: rows must be up to 1000, got 2000"
    with connect() as con, pytest.raises(duckdb.Error, match="fails: ValueError: the moon is down"):
        con.execute(f"FROM '{url_of(server, 'FROM fails()')}'")


def test_a_run_of_sql_has_a_record(http: httpx.Client) -> None:
    run = ask(http, "SELECT 1 AS a -- noted").json()["metadata"]["eventId"]
    record = http.get(f"/runs/{run}").json()
    assert (record["udf"], record["rows"]) == ("", 1)
    assert json.loads(record["arguments"]) == {"sql": "SELECT 1 AS a -- noted", "parameters": []}
    page = http.get(f"/runs/{run}", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert "SELECT 1 AS a -- noted" in page.text
    assert '/udfs/"' not in page.text


# What no SQL gets


def leaks(response: httpx.Response, server: Server) -> list[str]:
    """What an answer has that only the operator may know."""
    told = response.text + str(response.headers)
    hidden = (SECRET, "hidden-lake", str(server.folder.parent), "root:x:", "/site-packages/")
    return [text for text in hidden if text in told]


@pytest.mark.parametrize("sql", REFUSED)
def test_an_attack_is_refused_and_nothing_leaks(
    http: httpx.Client, server: Server, sql: str
) -> None:
    before = sorted(server.folder.parent.rglob("stolen*"))
    response = ask(http, sql)
    assert response.status_code in (403, 422)
    assert response.json()["code"] in ("query-refused", "invalid-parameters")
    assert response.json()["detail"]
    assert leaks(response, server) == []
    assert sorted(server.folder.parent.rglob("stolen*")) == before


@pytest.mark.parametrize("sql", FAILS)
def test_what_fails_leaks_nothing(http: httpx.Client, server: Server, sql: str) -> None:
    response = ask(http, sql)
    assert (response.status_code, response.json()["code"]) == (422, "query-failed")
    assert leaks(response, server) == []


def test_the_lake_s_neighbours_are_not_read(http: httpx.Client, server: Server) -> None:
    lake = server.folder.parent / "hidden-lake"
    for sql in (
        f"FROM read_csv('{lake}/secret.csv')",
        f"FROM '{lake}/taxi.parquet'",
        'FROM lake."../secret.csv"',
        "FROM taxi, lake.secret",
    ):
        assert ask(http, sql).status_code in (403, 422)
    gone = ask(http, "FROM gone")
    assert (gone.status_code, gone.json()["code"]) == (502, "dataset-unavailable")
    for answer in (gone, ask(http, "EXPLAIN FROM taxi"), ask(http, "FROM datasets")):
        assert leaks(answer, server) == []


def test_nothing_stays_for_the_next_query(http: httpx.Client) -> None:
    for sql in ("CREATE TEMP TABLE kept AS SELECT 1", "ATTACH ':memory:' AS kept"):
        assert ask(http, sql).status_code == 403
    assert ask(http, "FROM kept").json()["code"] == "query-failed"


@pytest.mark.timeout(180)
def test_what_devours_memory_or_will_not_stop_is_ended_and_the_server_goes_on(
    tmp_path: Path,
) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, _gate=GATE, tables=UDFS)
    environment = {**os.environ, "WEBFOOT_SQL_MEMORY": "400MB"}
    hasty = {**environment, "WEBFOOT_SQL_TIMEOUT": "2s"}
    with (
        serve(folder, environment=hasty) as small,
        serve(folder, store=tmp_path / "patient", environment=environment) as patient,
        httpx.Client(timeout=60) as http,
    ):

        def told(sql: str, server: Server = small) -> tuple[int, str | None]:
            response = http.post(f"{server.url}/query", json={"query": sql})
            return response.status_code, response.json().get("code")

        told("SELECT 1")
        for bomb in (
            "SELECT len(range(2_000_000_000))",
            "SELECT len(repeat('x', 3_000_000_000))",
            "SELECT string_agg(md5(i::VARCHAR)) FROM range(100_000_000) t(i)",
            "SELECT count(*) FROM (SELECT unnest(range(500_000_000)))",
        ):
            assert told(bomb) in [(500, "query-memory-exceeded"), (504, "query-timeout")], bomb
        for endless in (
            "SELECT count(*) FROM range(1_000_000_000_000) t(i) WHERE i % 7 = 9",
            # In one value, where DuckDB looks at no interruption.
            "SELECT levenshtein(repeat('a', 90_000), repeat('b', 90_000))",
            "SELECT regexp_replace(repeat('a', 9_000_000), '(a*)*(b|c*)*d', 'x', 'g')",
        ):
            assert told(endless) in [(504, "query-timeout"), (200, None)], endless
        # DuckDB follows a type as deep as it is, and its stack has an end.
        deep = """SELECT json_transform('[]', repeat('[', 9999) || '"INT"' || repeat(']', 9999))"""
        assert told(deep, patient) in [(500, "query-crashed"), (422, "query-failed")]
        assert told("SELECT 1", patient)[0] == 200
        # What it has called ends with it.
        assert told("FROM slow(seconds := 59)") == (504, "query-timeout")
        # New workers may take longer to start than SQL may take there.
        eventually(lambda: told("SELECT 1")[0] == 200)
        assert http.get(f"{small.url}/udfs/squares.csv?rows=2").status_code == 200


def test_sql_can_be_switched_off(tmp_path: Path) -> None:
    environment = {**os.environ, "WEBFOOT_SQL": "off"}
    folder = write_udfs(tmp_path, _count=COUNT, _gate=GATE, tables=UDFS)
    with serve(folder, *INLINE, environment=environment) as server, httpx.Client() as http:
        for refused in (
            http.post(f"{server.url}/query", json={"query": "SELECT 1"}),
            http.get(url_of(server, "SELECT 1")),
        ):
            assert (refused.status_code, refused.json()["code"]) == (403, "query-refused")


def test_a_server_without_workers_is_as_closed(tmp_path: Path) -> None:
    """As on Lambda: nothing can be killed there, and yet nothing is read."""
    folder = write_udfs(tmp_path, _count=COUNT, _gate=GATE, tables=UDFS)
    environment = {**os.environ, "WEBFOOT_SQL_TIMEOUT": "4s"}
    with (
        serve(folder, *INLINE, environment=environment) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        # The first query imports what locks it in: seconds, where other tests run beside this one.
        ask(http, "SELECT 1")
        assert data(http, "FROM squares(rows := 2)")[-1] == {"number": 1, "square": 1}
        assert data(http, "FROM squares_each(rows := [1, 2]) SELECT count(*) AS n") == [{"n": 3}]
        for sql in (
            "FROM read_text('/etc/passwd')",
            "FROM 'http://169.254.169.254/a.csv'",
            "COPY (SELECT 1) TO '/tmp/stolen.csv'",
        ):
            assert ask(http, sql).status_code == 403
        late = "SELECT count(*) FROM range(1_000_000_000_000) t(i) WHERE i % 7 = 9"
        assert ask(http, late).json()["code"] == "query-timeout"
        assert ask(http, "FROM slow(seconds := 9)").json()["code"] == "query-timeout"
        assert data(http, "SELECT 1 AS a") == [{"a": 1}]
