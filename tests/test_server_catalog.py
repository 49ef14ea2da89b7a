"""`ATTACH '…/catalog.duckdb'`: every UDF is a table function in a stock DuckDB."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import duckdb
import httpx
import pytest
from tests.server_process import COUNT, EVERY_TYPE, INLINE, Server, connect, serve, write_udfs
from tests.test_unreadable import python_with

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[1] / "udfs"
# The example that asks another server.
ABROAD = "releases"
COUNTED = """
    import enum
    from datetime import UTC, datetime
    from typing import Annotated, Optional
    from pydantic import Field
    from webfoot import udf
    from ._counting import count

    class Place(enum.Enum):
        HERE = "a b"
        THERE = "ü/=&%"
        ELSEWHERE = "c"

    @udf(partitions=["place", "month"])
    def sales(
        place: Place, month: Annotated[int, Field(ge=1, le=2)] = 1, factor: int = 10
    ):
        count(f"sales {place.value} {month}")
        return [{"amount": factor * month}]

    @udf
    def since(at: datetime = datetime(2024, 1, 1, tzinfo=UTC)):
        count("since")
        return [{"at": str(at)}]

    @udf
    def echo(text: str = "default", other: Optional[str] = None, empty: str = ""):
        count("echo")
        return [{"text": text, "other": other, "empty": empty}]
"""
HOSTILE = [
    "a&b=c",
    "a=b",
    "#fragment",
    "x*y",
    "a?b",
    "[a-c]",
    "{a,b}",
    "rows.csv",
    "/k=v/",
    "../../etc/passwd",
    "two words+plus",
    "100%41",
    "é 🦆 漢",
    "line\nbreak\r\ttab",
    'it\'s "quoted"; --',
    "\\back\\slash",
    "_limit=0",
    "null",
    " padded ",
    "https://host/x?y=z#w",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    parent = tmp_path_factory.mktemp("catalog")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(EXAMPLES, parent / "udfs", ignore=ignored)
    write_udfs(parent, every=EVERY_TYPE, counted=COUNTED, _counting=COUNT)
    with serve(parent / "udfs", *INLINE) as running:
        yield running


@pytest.fixture(scope="module")
def con(server: Server) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        connection.execute(f"ATTACH '{server.url}/catalog.duckdb' AS udfs")
        yield connection


def examples(con: duckdb.DuckDBPyConnection) -> list[str]:
    names = {path.stem for path in EXAMPLES.glob("[!_]*.py")} - {ABROAD}
    found = con.execute("SELECT macro FROM udfs.udfs WHERE list_contains(?, name)", [[*names]])
    return [name for (name,) in found.fetchall()]


def test_attaching_takes_five_requests_and_runs_nothing(server: Server) -> None:
    before, runs = server.requests("catalog.duckdb"), server.executions()
    with connect() as con:
        con.execute(f"ATTACH '{server.url}/catalog.duckdb' AS udfs")
        con.execute("FROM udfs.parameters").fetchall()
    made = server.requests("catalog.duckdb")[len(before) :]
    assert made == [("HEAD", 200), ("GET", 200), ("HEAD", 200), ("GET", 200), ("HEAD", 404)]
    assert server.executions() == runs


def test_every_example_can_be_called_in_every_form(con: duckdb.DuckDBPyConnection) -> None:
    called = examples(con)
    assert len(called) >= 5
    for name in called:
        rows = con.execute(f"FROM udfs.{name}()").fetchall()
        assert rows, name
        (parameter, kind, default) = con.execute(
            "SELECT argument, duckdb_type, default_value FROM udfs.parameters"
            " WHERE udf = ? ORDER BY default_value IS NULL, position LIMIT 1",
            [name],
        ).fetchone() or ("", "", "")
        value = "NULL" if default is None else f"CAST('{default}' AS {kind})"
        assert con.execute(f'FROM udfs.{name}("{parameter}" := {value})').fetchall() == rows
        prepared = f'FROM udfs.{name}("{parameter}" := CAST(? AS {kind}))'
        assert con.execute(prepared, [default]).fetchall() == rows
        con.execute(f"SET VARIABLE chosen = {value}")
        variable = f"FROM udfs.{name}(\"{parameter}\" := getvariable('chosen'))"
        assert con.execute(variable).fetchall() == rows
        listed = f'SELECT count(*) FROM udfs.{name}_each("{parameter}" := [{value}, {value}])'
        assert con.execute(listed).fetchall() == [(2 * len(rows),)], name


def test_a_required_parameter_goes_by_position_and_by_name(con: duckdb.DuckDBPyConnection) -> None:
    for call in ("7", "whole := 7", "$1"):
        given = [7] if "$" in call else None
        rows = con.execute(f"SELECT whole FROM udfs.numbers({call})", given).fetchall()
        assert rows == [("7",)]


def test_lists_make_one_request_and_are_columns(
    server: Server, con: duckdb.DuckDBPyConnection
) -> None:
    before = len(server.requests("/udfs/delays"))
    found = con.execute(
        "SELECT input_month, input_origin, sum(flights)"
        " FROM udfs.delays_each(month := range(1, 4), origin := ['JFK', 'LGA']) GROUP BY ALL"
        " ORDER BY ALL"
    ).fetchall()
    assert [row[:2] for row in found] == [(m, o) for m in (1, 2, 3) for o in ("JFK", "LGA")]
    assert server.requests("/udfs/delays")[before:] == [("HEAD", 200), ("GET", 200)]
    with pytest.raises(duckdb.InvalidInputException, match="the list of month is empty"):
        con.execute("FROM udfs.delays_each(month := [])")


@pytest.mark.parametrize(
    "call",
    [
        "contours('x')",
        "contours(min_elevation := 7.5)",
        "contours(true)",
        "contours(elevation := 7)",
        "days(since := 2013)",
        "delays(carriers := 'AA')",
        "delays(carriers := [1])",
        "numbers()",
        "contours_each(min_elevation := 700)",
    ],
)
def test_a_wrong_type_fails_with_the_signature_and_no_request(
    server: Server, con: duckdb.DuckDBPyConnection, call: str
) -> None:
    before = len(server.requests())
    with pytest.raises(duckdb.BinderException) as caught:
        con.execute(f"FROM udfs.{call}")
    assert f"\t{call.partition('(')[0]}(" in str(caught.value)
    assert "BIGINT" in str(caught.value) or "DATE" in str(caught.value)
    assert len(server.requests()) == before


@pytest.mark.parametrize("text", HOSTILE)
def test_no_value_changes_what_the_url_means(con: duckdb.DuckDBPyConnection, text: str) -> None:
    row = con.execute("FROM udfs.echo(text := $1, other := $1, empty := $1)", [text]).fetchall()
    assert row == [(text, text, text)]
    listed = con.execute(
        "SELECT input_text FROM udfs.echo_each(text := [$1, 'other'], empty := ['x', $1])", [text]
    ).fetchall()
    assert listed == [(text,), (text,), ("other",), ("other",)]
    lists = con.execute("SELECT words FROM udfs.lists(words := [$1, 'a,b', '', '['])", [text])
    assert lists.fetchall() == [(str([text, "a,b", "", "["]),)]


def test_null_means_the_default_and_an_empty_text_is_refused(
    con: duckdb.DuckDBPyConnection,
) -> None:
    assert con.execute("FROM udfs.echo(NULL, NULL, NULL)").fetchall() == [("default", None, "")]
    assert con.execute("FROM udfs.echo(empty := '')").fetchall() == [("default", None, "")]
    for call in ("echo(text := '')", "echo(other := '')", "echo_each(text := ['x', ''])"):
        with pytest.raises(duckdb.InvalidInputException, match="pass NULL for the default"):
            con.execute(f"FROM udfs.{call}")


TYPED = {
    "moments(day := DATE '2024-02-29')": ("day", "2024-02-29"),
    "moments(at := TIMESTAMP '2024-02-29 12:34:56.5')": ("at", "2024-02-29 12:34:56.500000"),
    "moments(clock := TIME '23:59:59')": ("clock", "23:59:59"),
    "moments(span := INTERVAL 90 MINUTE)": ("span", "1:30:00"),
    "moments(span := INTERVAL '-1 day -0.5 seconds')": ("span", "-2 days, 23:59:59.500000"),
    "numbers(1, exact := 3.20)": ("exact", "3.20"),
    "numbers(1, exact := '3.200')": ("exact", "3.200"),
    'numbers(1, "real" := 1e-7)': ("real", "1e-07"),
    "numbers(-9223372036854775807)": ("whole", "-9223372036854775807"),
    "numbers(1, yes := true)": ("yes", "True"),
    "texts(kind := '3')": ("kind", "3"),
    "texts(colour := 'deep blue')": ("colour", "Colour.BLUE"),
    "texts(id := UUID '12345678-1234-5678-1234-567812345678')": (
        "id",
        "12345678-1234-5678-1234-567812345678",
    ),
    "lists(numbers := [])": ("numbers", "[]"),
    "lists(numbers := [5])": ("numbers", "[5]"),
    "lists(days := [DATE '2024-01-01'])": ("days", "[datetime.date(2024, 1, 1)]"),
    "lists(colours := ['deep blue'])": ("colours", "[<Colour.BLUE: 'deep blue'>]"),
    "objects(free := MAP {'a': 1})": ("free", "{'a': 1}"),
    "objects(free := {'a': 1})": ("free", "{'a': 1}"),
    "objects(free := '{\"a\": 1}')": ("free", "{'a': 1}"),
    "objects(point := {'x': 2})": ("point", "Point(x=2.0, y=0.0)"),
}


@pytest.mark.parametrize("call", TYPED)
def test_a_value_of_every_type_arrives(con: duckdb.DuckDBPyConnection, call: str) -> None:
    column, value = TYPED[call]
    assert con.execute(f'SELECT "{column}" FROM udfs.{call}').fetchall() == [(value,)]


def test_defaults_that_are_sent_are_the_defaults(server: Server) -> None:
    # The same call, so the same result: what a macro sends is what the signature says.
    with connect() as con:
        con.execute(f"ATTACH '{server.url}/catalog.duckdb' AS udfs")
        for name in ("texts", "moments", "lists", "objects"):
            (row,) = con.execute(f"FROM udfs.{name}()").fetchall()
            bare = f"FROM '{server.url}/udfs/{name}.parquet'"
            assert con.execute(bare).fetchall() == [row], name
            answer = httpx.get(f"{server.url}/udfs/{name}.parquet")
            assert answer.headers["x-webfoot-executions"] == "1", name


def test_one_instant_is_one_call_in_every_time_zone(server: Server) -> None:
    with connect() as con:
        con.execute(f"ATTACH '{server.url}/catalog.duckdb' AS udfs")
        for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
            con.execute(f"SET TimeZone = '{zone}'")
            given = "TIMESTAMPTZ '2024-02-03 04:05:06+02'"
            rows = con.execute(f"FROM udfs.since(at := {given})").fetchall()
            assert rows == [("2024-02-03 02:05:06+00:00",)]
    assert server.executions("since") == 1


def test_a_udf_s_own_error_is_shown(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.InvalidInputException, match="min_elevation must be below 1077"):
        con.execute("FROM udfs.contours(2000)")


def test_a_limit_is_the_server_s(con: duckdb.DuckDBPyConnection) -> None:
    assert len(con.execute("FROM udfs.contours(_limit := 2)").fetchall()) == 2


# --- hive-shaped paths ---


def test_a_filter_decides_which_calls_run(server: Server, con: duckdb.DuckDBPyConnection) -> None:
    query = (
        "SELECT amount, place, month FROM udfs.sales_partitioned(factor := 100)"
        " WHERE place = 'ü/=&%' AND month = 2"
    )
    before = server.executions()
    assert con.execute(query).fetchall() == [(200, "ü/=&%", 2)]
    # The one that is asked for, and the first, whose columns are the table's.
    assert server.executions() == before + 2
    assert server.executions("sales ü/=&% 2") == 1
    described = con.execute("DESCRIBE FROM udfs.sales_partitioned(factor := 100)").fetchall()
    types = {"amount": "BIGINT", "place": "VARCHAR", "month": "BIGINT"}
    assert {name: kind for name, kind, *_ in described} == types


def test_a_path_with_folders_is_the_same_call(server: Server) -> None:
    base = f"{server.url}/udfs/sales"
    plain = httpx.get(f"{base}.parquet?place=a+b&month=2&factor=3")
    runs = server.executions()
    for path in (
        "place=a%20b/month=2/data.parquet?factor=3",
        "month=2/place=a%20b/any_name.parquet?factor=3",
        "place=a%20b/x.parquet?month=2&factor=3",
    ):
        same = httpx.get(f"{base}/{path}")
        assert (same.status_code, same.headers["etag"]) == (200, plain.headers["etag"]), path
        assert httpx.head(f"{base}/{path}").headers["etag"] == plain.headers["etag"]
    csv = httpx.get(f"{base}/place=%C3%BC%2F%3D%26%25/data.csv?_limit=1")
    assert csv.text.splitlines() == ["amount", "10"]
    assert server.executions() <= runs + 1


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("sales/factor=3/data.csv?place=c", 422, "factor: is no partition of sales; write ?factor"),
        ("echo/text=x/data.csv", 422, "declare @udf(partitions=['text'])"),
        ("sales/_limit=3/data.csv?place=c", 422, "_limit: is no partition"),
        ("sales/place=c/data.csv?place=c", 422, "is given 2 times"),
        ("sales/place=nowhere/data.csv", 422, "is none of a b"),
        ("nothing_there/place=c/data.csv", 404, "there is no UDF"),
        ("sales/place=c/data.xlsx", 404, "there is no format 'xlsx'"),
        ("sales/place=c/", 404, ""),
        ("sales/place/data.csv", 404, ""),
    ],
)
def test_folders_that_mean_nothing_are_refused(
    server: Server, path: str, status: int, said: str
) -> None:
    # Once as it was asked, and once more: what is remembered must not be more lenient.
    for _ in range(2):
        answer = httpx.get(f"{server.url}/udfs/{path}")
        assert answer.status_code == status
        assert said in answer.json()["detail"]


def test_the_whole_is_every_combination(con: duckdb.DuckDBPyConnection) -> None:
    found = con.execute("SELECT place, month, amount FROM udfs.sales_partitioned()").fetchall()
    assert sorted(found) == sorted((p, m, 10 * m) for p in ("a b", "ü/=&%", "c") for m in (1, 2))


# --- the file over HTTP ---


def test_the_file_honours_conditions_and_ranges(server: Server) -> None:
    url = f"{server.url}/catalog.duckdb"
    whole = httpx.get(url)
    assert whole.status_code == 200
    assert whole.content[8:12] == b"DUCK"
    etag = whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["access-control-allow-origin"] == "*"
    assert "User-Agent" in whole.headers["vary"]
    head = httpx.head(url)
    assert head.headers["etag"] == etag
    assert "content-length" not in head.headers
    part = httpx.get(url, headers={"range": "bytes=8-11"})
    assert (part.status_code, part.content) == (206, b"DUCK")
    assert part.headers["content-range"] == f"bytes 8-11/{len(whole.content)}"
    ranged = httpx.head(url, headers={"range": "bytes=0-"})
    assert ranged.status_code == 206
    assert ranged.headers["content-length"] == str(len(whole.content))
    assert httpx.get(url, headers={"if-none-match": etag}).status_code == 304
    assert httpx.get(url, headers={"range": "bytes=0-1", "if-range": '"x"'}).status_code == 200
    assert httpx.get(url, headers={"range": "bytes=99999999-"}).status_code == 416
    assert httpx.get(url, headers={"if-match": '"x"'}).status_code == 412
    assert httpx.head(f"{url}.wal").status_code == 404
    assert httpx.post(url).status_code == 405


def test_the_file_is_for_the_version_that_asks(server: Server) -> None:
    def etag(agent: str, name: str = "catalog.duckdb") -> str:
        answer = httpx.head(f"{server.url}/{name}", headers={"user-agent": agent})
        return str(answer.headers["etag"])

    typed, untyped = etag("anything"), etag("anything", "catalog-untyped.duckdb")
    assert typed != untyped
    assert etag("duckdb/v1.3.2(linux_amd64) python") == etag("duckdb/v1.1.3") == untyped
    # What DuckDB before 1.4 says when it attaches a file.
    assert etag("cpp-httplib/0.14.3") == untyped
    assert etag("duckdb/v1.4.0") == etag("duckdb/v1.10.0") == etag("duckdb/v2.0.0") == typed


def test_another_server_on_the_store_serves_the_same_bytes(server: Server) -> None:
    host = {"host": "example.org"}
    here = httpx.get(f"{server.url}/catalog.duckdb", headers=host)
    with serve(server.folder, *INLINE, store=server.store) as second:
        there = httpx.get(f"{second.url}/catalog.duckdb", headers=host)
    assert there.content == here.content
    assert there.headers["etag"] == here.headers["etag"]


def test_a_host_that_is_none_is_not_repeated(server: Server) -> None:
    for host in ("evil'); DROP TABLE x; --", "a b", "h/../x", "x" * 300, ""):
        sql = httpx.get(f"{server.url}/catalog.sql", headers={"host": host})
        assert sql.status_code in (200, 400)
        if host and sql.status_code == 200:
            assert f"http://{host}" not in sql.text
            assert f"{server.url}/udfs/" in sql.text


def test_the_script_makes_the_same_catalog(server: Server) -> None:
    sql = httpx.get(f"{server.url}/catalog.sql")
    assert sql.headers["content-type"].startswith("application/sql")
    for script in (sql.text, httpx.get(f"{server.url}/catalog-untyped.sql").text):
        with connect() as con:
            con.execute(script)
            con.execute(script)
            found = con.execute("SELECT count(*) FROM udfs.contours(min_elevation := 700)")
            assert found.fetchall()[0][0] > 0


def test_a_saved_udf_is_in_it_and_who_has_attached_it_goes_on(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, one="from webfoot import udf\n@udf\ndef one(): return [{'a': 1}]")
    with serve(folder, *INLINE, "--reload") as server, connect() as con:
        con.execute(f"ATTACH '{server.url}/catalog.duckdb' AS before")
        etag = httpx.head(f"{server.url}/catalog.duckdb").headers["etag"]
        write_udfs(tmp_path, two="from webfoot import udf\n@udf\ndef two(): return [{'a': 2}]")
        while httpx.get(f"{server.url}/udfs/two").status_code == 404:
            pass
        assert httpx.head(f"{server.url}/catalog.duckdb").headers["etag"] != etag
        con.execute(f"ATTACH '{server.url}/catalog.duckdb' AS after")
        assert con.execute("FROM after.two()").fetchall() == [(2,)]
        assert con.execute("SELECT name FROM before.udfs").fetchall() == [("one",)]
        assert con.execute("FROM before.one()").fetchall() == [(1,)]


# --- behind a proxy ---


@contextlib.contextmanager
def proxied(url: str, prefix: str, scheme: str) -> Iterator[str]:
    """A reverse proxy that serves `url` below a prefix, as nginx and Traefik do."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            headers |= {
                "X-Forwarded-Host": self.headers["Host"],
                "X-Forwarded-Proto": scheme,
                "X-Forwarded-Prefix": prefix,
                "X-Forwarded-For": "203.0.113.7",
            }
            target = url + self.path.removeprefix(prefix)
            answer = httpx.request(self.command, target, headers=headers)
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        do_HEAD = do_GET  # noqa: N815  # as the library calls it

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_can_be_attached_behind_a_proxy_with_a_prefix(server: Server) -> None:
    with proxied(server.url, "/tables", "http") as url, connect() as con:
        con.execute(f"ATTACH '{url}/catalog.duckdb' AS udfs")
        assert con.execute("SELECT url FROM udfs.udfs WHERE name = 'days'").fetchall() == [
            (f"{url}/udfs/days.parquet",)
        ]
        assert len(con.execute("FROM udfs.days()").fetchall()) == 365
        assert len(con.execute("FROM udfs.sales_partitioned()").fetchall()) == 6
        with pytest.raises(duckdb.Error, match=f"details: {url}/runs/"):
            con.execute("FROM udfs.contours(2000)")
    assert "203.0.113.7" in server.printed()


def test_every_page_says_the_address_behind_the_proxy(server: Server) -> None:
    with proxied(server.url, "/tables", "https") as url:
        public = url.replace("http://", "https://")
        described = httpx.get(f"{url}/udfs/days").json()
        assert described["urls"]["parquet"] == f"{public}/udfs/days.parquet"
        assert httpx.get(f"{url}/openapi.json").json()["servers"] == [{"url": public}]
        assert f"'{public}/udfs/days.parquet'" in httpx.get(f"{url}/catalog.sql").text


def test_nobody_else_may_say_where_the_server_is(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, one="from webfoot import udf\n@udf\ndef one(): return [{'a': 1}]")
    told = {"x-forwarded-host": "evil.example", "x-forwarded-prefix": "/evil"}
    with serve(folder, *INLINE, "--trusted-proxies", "10.0.0.1") as server:
        assert "evil" not in httpx.get(f"{server.url}/catalog.sql", headers=told).text
    with serve(folder, *INLINE, "--base-url", "https://example.org/tables") as server:
        sql = httpx.get(f"{server.url}/catalog.sql", headers=told).text
        assert "'https://example.org/tables/udfs/one.parquet'" in sql
        assert "evil" not in sql


# --- other versions ---

READ_ALL = """
import json, sys
from pathlib import Path
import duckdb, duckdb_extension_httpfs
con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
places = duckdb_extension_httpfs.__path__
(file,) = [f for p in places for f in Path(p).rglob("httpfs.duckdb_extension")]
con.execute(f"LOAD '{file}'")
con.execute(f"ATTACH '{sys.argv[1]}/catalog.duckdb' AS udfs")
# 1.1 finds a macro of another database only by its whole name.
calls = {
    "defaults": ("FROM udfs.main.contours()", None),
    "named": ("FROM udfs.main.contours(min_elevation := 700)", None),
    "prepared": ("FROM udfs.main.contours(min_elevation := ?)", [700]),
    "required": ("FROM udfs.main.numbers(whole := 7)", None),
    "texts": ("FROM udfs.main.echo(text := ?)", ["a&b=c#d*é"]),
    "dates": ("FROM udfs.main.days(since := DATE '2013-12-30')", None),
    "lists": ("FROM udfs.main.lists(words := ['a,b'])", None),
    "objects": ("FROM udfs.main.objects(free := {'a': 1})", None),
    "moments": ("FROM udfs.main.moments()", None),
    "each": ("SELECT DISTINCT input_month FROM udfs.main.delays_each(month := range(1, 4))", None),
    "partitioned": ("FROM udfs.main.sales_partitioned() WHERE place = 'c'", None),
    "tables": ("FROM udfs.main.parameters", None),
    "comments": (
        "FROM duckdb_functions() WHERE function_name = 'echo_each' AND comment != ''", None
    ),
}
print(json.dumps({name: len(con.execute(*call).fetchall()) for name, call in calls.items()}))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["1.1.3", "1.2.2", "1.3.2", "1.4.4", "1.5.5"])
def test_other_duckdbs_attach_it(version: str, server: Server) -> None:
    python = python_with(f"duckdb=={version}", f"duckdb-extension-httpfs=={version}")
    output = subprocess.run(
        [python, "-c", dedent(READ_ALL), server.url], capture_output=True, text=True, check=False
    )
    assert output.returncode == 0, output.stderr
    rows = json.loads(output.stdout)
    assert rows["defaults"] > rows["named"] == rows["prepared"] > 0
    assert (rows["dates"], rows["each"], rows["partitioned"]) == (2, 3, 2)
    assert all(rows.values()), rows
