"""DuckDB inside the process: shared by calls that see nothing of each other."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path  # noqa: TC003  # pytest resolves it

import duckdb
import pandas as pd
import pytest

from webfoot.database import load_httpfs
from webfoot.database.calls import CallDatabase

GB = 1_000_000_000

Connection = duckdb.DuckDBPyConnection
Step = Callable[[Connection], object]
# Where the package is run from its sources, and not installed.
PYTHONPATH = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[CallDatabase]:
    with CallDatabase(tmp_path / "spill") as database:
        yield database


def sql(*statements: str) -> Step:
    def run(con: Connection) -> object:
        for statement in statements:
            con.execute(statement)
        return con.fetchall()

    return run


def call(database: CallDatabase, step: Step, *, httpfs: bool = False) -> object:
    with database.connection(GB, httpfs=httpfs) as con:
        return step(con)


def double(number: int) -> int:
    return 2 * number


MADE: dict[str, tuple[Step, str]] = {
    "table": (sql("CREATE TABLE made AS SELECT 1"), "FROM made"),
    "temporary table": (sql("CREATE TEMP TABLE made AS SELECT 1"), "FROM made"),
    "view": (sql("CREATE VIEW made AS SELECT 1"), "FROM made"),
    "macro": (sql("CREATE MACRO made() AS 1"), "SELECT made()"),
    "table macro": (sql("CREATE MACRO made() AS TABLE SELECT 1"), "FROM made()"),
    "sequence": (sql("CREATE SEQUENCE made"), "SELECT nextval('made')"),
    "schema": (sql("CREATE SCHEMA made", "CREATE TABLE made.t(a INT)"), "FROM made.t"),
    "type": (sql("CREATE TYPE made AS ENUM ('a')"), "SELECT 'a'::made"),
    "prepared statement": (sql("PREPARE made AS SELECT 1"), "EXECUTE made"),
    "frame": (lambda con: con.register("made", pd.DataFrame({"a": [1]})), "FROM made"),
    "attached database": (
        sql("ATTACH ':memory:' AS made", "CREATE TABLE made.t(a INT)"),
        "FROM made.t",
    ),
    "secret": (
        sql("CREATE SECRET made (TYPE http, BEARER_TOKEN 'x')"),
        "SELECT error('no secret') WHERE NOT EXISTS (FROM duckdb_secrets() WHERE name = 'made')",
    ),
    "python function": (
        lambda con: con.create_function("made", double, ["INTEGER"], "INTEGER"),
        "SELECT made(1)",
    ),
    "table of the instance": (sql("USE memory", "CREATE TABLE made(a INT)"), "FROM memory.made"),
    "table of a cursor": (
        lambda con: con.cursor().execute("CREATE TABLE made(a INT)"),
        "FROM memory.made",
    ),
    "transaction": (sql("BEGIN", "CREATE TABLE made(a INT)"), "FROM made"),
}


def fails(con: Connection, query: str) -> bool:
    try:
        con.execute(query).fetchall()
    except duckdb.Error:
        return True
    return False


@pytest.mark.parametrize("httpfs", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_what_a_call_makes_ends_with_it(name: str, httpfs: bool, database: CallDatabase) -> None:
    make, use = MADE[name]
    for _ in range(3):  # It can be made again by every call, too.
        call(database, make, httpfs=httpfs)
        assert call(database, lambda con: fails(con, use), httpfs=httpfs)


@pytest.mark.parametrize("name", MADE)
def test_what_a_failing_call_makes_ends_with_it(name: str, database: CallDatabase) -> None:
    make, use = MADE[name]

    def fail(con: Connection) -> None:
        make(con)
        raise LookupError(name)

    for _ in range(2):
        with pytest.raises(LookupError, match=name):
            call(database, fail)
        assert call(database, lambda con: fails(con, use))


def test_variables_and_settings_of_a_session_end_with_it(database: CallDatabase) -> None:
    call(
        database, sql("SET VARIABLE made = 1", "SET TimeZone = 'Asia/Tokyo'", "SET schema = 'main'")
    )
    query = sql("SELECT getvariable('made'), current_setting('TimeZone')")
    assert call(database, query) == [(None, "UTC")]


@pytest.mark.parametrize(
    "statements",
    [
        ("SET threads = 1",),
        ("SET memory_limit = '77MB'",),
        ("SET default_order = 'DESC'",),
        ("SET enable_external_access = false",),
        ("SET threads = 1", "SET lock_configuration = true"),
    ],
)
def test_settings_of_the_instance_end_with_the_call(
    statements: tuple[str, ...], database: CallDatabase
) -> None:
    query = (
        "SELECT name, value FROM duckdb_settings() WHERE name NOT IN ('schema', 'search_path')"
        " ORDER BY name"
    )
    before = call(database, sql(query))
    for _ in range(2):
        call(database, sql(*statements))
        assert call(database, sql(query)) == before


@pytest.mark.parametrize(
    "statements",
    [
        ("BEGIN",),
        ("BEGIN", "CREATE TABLE t(a INT)", "INSERT INTO t VALUES (1)"),
        ("BEGIN", "CREATE TABLE t(a INT)", "SELECT error('x')"),
        ("CREATE TABLE t(a INT PRIMARY KEY)", "INSERT INTO t VALUES (1), (1)"),
        ("BEGIN", "SELECT nonsense"),
        ("SELECT 1 +",),
        ("USE memory", "DETACH call_0"),
        ("USE temp",),
    ],
)
def test_a_call_may_end_anyhow(statements: tuple[str, ...], database: CallDatabase) -> None:
    for _ in range(3):
        with contextlib.suppress(duckdb.Error):
            call(database, sql(*statements))
    assert call(database, sql("SELECT count(*) FROM duckdb_databases() WHERE NOT internal")) == [
        (2,)
    ]


def test_a_result_outlives_its_call(database: CallDatabase) -> None:
    """A stream that somebody still holds does not stop the catalog from ending."""
    with database.connection(GB) as con:
        con.execute("CREATE TABLE t AS FROM range(100_000) t(n)")
        stream = con.sql("FROM t").to_arrow_reader(1000)
        stream.read_next_batch()
    assert call(database, sql("SELECT 1")) == [(1,)]
    assert stream.read_all().num_rows == 99_000


def test_calls_that_leave_nothing_share_an_instance(database: CallDatabase) -> None:
    """Making one anew costs ten milliseconds and httpfs: only calls that leave something pay."""
    instance = object()
    clean = [
        sql("SELECT 1"),
        sql("CREATE TABLE t AS FROM range(10)"),
        sql("CREATE TEMP TABLE t AS FROM range(10)"),
        sql("CREATE MACRO m() AS 1", "SELECT m()"),
        sql("FROM duckdb_functions()"),
        sql("LOAD json"),
        lambda con: con.register("f", pd.DataFrame({"a": [1]})),
    ]
    call(database, sql("SELECT 1"), httpfs=True)
    instance = database._instance
    for step in clean:
        call(database, step, httpfs=True)
        assert database._instance is instance
    call(database, MADE["python function"][0])
    assert database._instance is not instance


def test_a_usual_call_is_not_looked_into(database: CallDatabase) -> None:
    """Looking for leftovers takes as long as all else: DuckDB has 3,000 functions to list."""
    looked: list[object] = []

    class Watched(CallDatabase):
        def _has_leftovers(self, sweeper: Connection) -> bool:
            looked.append(sweeper)
            return super()._has_leftovers(sweeper)

    with Watched(database._temp) as watched:
        for _ in range(5):
            call(watched, sql("SELECT 1"))
        assert not looked
        call(watched, sql("CREATE TABLE t(a INT)"))
        assert len(looked) == 1
        for _ in range(5):
            call(watched, sql("SELECT sum(n) FROM range(10) t(n)"))
        assert len(looked) == 1
        with watched.own_connection(GB) as con:
            for n in range(20):
                con.execute(f"CREATE TABLE t{n}(a INT)")
        call(watched, sql("SELECT 1"))
        assert len(looked) == 1


def test_calls_at_the_same_time_see_their_own(database: CallDatabase) -> None:
    def work(number: int) -> list[object]:
        seen: list[object] = []
        for turn in range(12):
            with database.connection(GB) as con:
                con.execute("CREATE TABLE mine AS SELECT ? AS n FROM range(1000)", [number])
                con.execute(f"SET VARIABLE mine = {number}")
                if turn == number:
                    con.execute("ATTACH ':memory:' AS other_" + str(number))
                    con.execute("BEGIN; SELECT 1")
                query = "SELECT min(n), max(n), count(*), getvariable('mine') FROM mine"
                seen.append(con.execute(query).fetchone())
        return seen

    with ThreadPoolExecutor(8) as pool:
        for number, seen in enumerate(pool.map(work, range(8))):
            assert seen == [(number, number, 1000, number)] * 12
    catalogs = "SELECT list(database_name) FROM duckdb_databases() WHERE NOT internal"
    found = call(database, sql(catalogs))
    assert isinstance(found, list)
    assert len(found[0][0]) == 2


def test_a_leftover_waits_for_the_calls_that_are_still_at_work(database: CallDatabase) -> None:
    with database.connection(GB) as slow:
        slow.execute("CREATE TABLE mine AS SELECT 7 AS n")
        call(database, MADE["attached database"][0])
        assert slow.execute("FROM mine").fetchall() == [(7,)]
    assert call(database, lambda con: fails(con, "FROM made.t"))


def test_a_leftover_waits_for_sql_of_webfoots_own_too(database: CallDatabase) -> None:
    with database.own_connection(GB) as own:
        call(database, MADE["attached database"][0])
        assert own.execute("SELECT 1").fetchall() == [(1,)]
    assert call(database, lambda con: fails(con, "FROM made.t"))


def test_closing_ends_the_calls_that_are_still_at_work(database: CallDatabase) -> None:
    with database.connection(GB) as con:
        database.close()
        with pytest.raises(duckdb.ConnectionException, match="already closed"):
            con.execute("SELECT 1")
    assert call(database, sql("SELECT 2")) == [(2,)]
    database.close()
    database.close()
    assert call(database, sql("SELECT 3")) == [(3,)]


def test_each_call_has_the_memory_of_its_run_and_no_setting_counts_as_left_behind(
    database: CallDatabase,
) -> None:
    before = []
    for memory in (10**9, 2 * 10**9, 2 * 10**9, 10**9):
        with database.connection(memory) as con:
            (limit,) = con.execute("SELECT current_setting('memory_limit')").fetchone() or ("",)
            before.append(limit)
    assert before == ["572.2 MiB", "1.1 GiB", "1.1 GiB", "572.2 MiB"]


def test_what_does_not_fit_is_spilled_into_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "spill"
    with CallDatabase(folder) as database, database.connection(100_000_000) as con:
        settings = con.execute(
            "SELECT current_setting('temp_directory'), current_setting('memory_limit')"
        ).fetchone()
        assert settings == (str(folder), "57.2 MiB")
        con.execute("SET threads = 1")
        con.execute(
            "CREATE TABLE t AS SELECT n, hash(n)::VARCHAR || repeat('x', 50) AS text"
            " FROM range(1_000_000) t(n)"
        )
        assert any(folder.iterdir())
        assert con.execute("SELECT count(DISTINCT text) FROM t").fetchone() == (1_000_000,)


@pytest.fixture
def address() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"a,b\r\n1,2\r\n")

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/x.csv"
    server.shutdown()
    thread.join()
    server.server_close()


def test_httpfs_is_there_when_it_is_asked_for(address: str, database: CallDatabase) -> None:
    for _ in range(2):
        assert call(database, sql(f"FROM '{address}'"), httpfs=True) == [(1, 2)]


def test_httpfs_is_there_again_after_the_instance_was_made_anew(
    address: str, database: CallDatabase
) -> None:
    for _ in range(2):
        call(database, MADE["attached database"][0], httpfs=True)
        assert call(database, sql(f"FROM '{address}'"), httpfs=True) == [(1, 2)]
        database.close()


def test_httpfs_comes_from_the_package_and_from_nowhere_else(address: str, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from webfoot.database.calls import CallDatabase
with CallDatabase(Path({str(tmp_path / "spill")!r})) as database:
    with database.connection(10**9, httpfs=True) as con:
        print(con.execute("FROM '{address}'").fetchall())
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**PYTHONPATH, "PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "[(1, 2)]"
    assert not list(home.rglob("*.duckdb_extension"))


def test_no_home_is_needed(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from webfoot.database.calls import CallDatabase
with CallDatabase(Path({str(tmp_path / "spill")!r})) as database:
    for _ in range(2):
        with database.connection(10**9, httpfs=True) as con:
            con.execute("CREATE TABLE t AS SELECT 1")
            con.execute("ATTACH ':memory:' AS x")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=PYTHONPATH
    )
    assert done.returncode == 0, done.stderr


def test_a_package_for_another_duckdb_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "duckdb_extension_httpfs"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    version = duckdb.__version__
    with duckdb.connect() as con:
        with pytest.raises(RuntimeError, match=f"has no httpfs here; pip install .*=={version}"):
            load_httpfs(con)
        (package / "httpfs.duckdb_extension").write_bytes(b"made for another version")
        with pytest.raises(
            RuntimeError, match=f"does not load in DuckDB {version}: .*; pip install"
        ):
            load_httpfs(con)


def test_nothing_is_installed_from_the_network(database: CallDatabase) -> None:
    with database.connection(GB) as con:
        settings = con.execute(
            "SELECT current_setting('autoinstall_known_extensions'),"
            " current_setting('allow_community_extensions')"
        ).fetchone()
    assert settings == (False, False)
