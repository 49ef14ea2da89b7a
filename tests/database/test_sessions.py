"""Cursors share an instance, sessions share nothing, and neither leaves anything behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import pytest
from tests.server_process import serve

import webfoot
from webfoot.database.attaching import AttachRefused
from webfoot.database.instances import Configuration, Instance, Instances
from webfoot.database.sessions import configuration, everywhere_in
from webfoot.database.steps import httpfs
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = "webfoot-duckdb-"
GLOBAL = pd.DataFrame({"n": [3]})


@pytest.fixture(autouse=True)
def temp(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "temp"
    with everywhere_in(folder):
        yield folder


def script(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environment},
    )


def paths_below(folder: Path) -> list[Path]:
    """All that is there, while others may be removing it (which stops `Path.rglob`)."""
    return [Path(at, name) for at, *names in os.walk(folder) for name in chain(*names)]


def test_a_cursor_is_closed_however_its_with_ends() -> None:
    with webfoot.cursor() as con:
        assert con.execute("SELECT 1").fetchall() == [(1,)]
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        con.execute("SELECT 1")
    kept = []

    def fail() -> None:
        with webfoot.cursor() as con:
            kept.extend([con, con.cursor()])
            con.execute("SELECT 1 +")

    with pytest.raises(duckdb.ParserException):
        fail()
    for closed in kept:
        with pytest.raises(duckdb.ConnectionException, match="closed"):
            closed.execute("SELECT 1")


def test_cursors_leave_no_connection_open() -> None:
    count = "SELECT duckdb_connection_count FROM duckdb_connection_count()"
    with webfoot.cursor() as con:
        before = con.execute(count).fetchone()
        for _ in range(50):
            with webfoot.cursor() as other:
                other.cursor().execute("SELECT 1")
        assert con.execute(count).fetchone() == before


def test_cursors_share_an_instance_and_no_temporary_table() -> None:
    with webfoot.cursor() as one, webfoot.cursor() as two:
        one.execute("CREATE TABLE shared AS SELECT 1 AS n; CREATE TEMP TABLE mine(n INT)")
        one.execute("SET VARIABLE v = 1")
        assert two.execute("SELECT n, getvariable('v') FROM shared").fetchall() == [(1, None)]
        with pytest.raises(duckdb.CatalogException):
            two.execute("FROM mine")
    with webfoot.cursor("another") as con, pytest.raises(duckdb.CatalogException):
        con.execute("FROM shared")


@pytest.mark.parametrize(
    ("make", "use"),
    [
        ("CREATE TABLE made(n INT)", "FROM made"),
        ("CREATE TEMP TABLE made(n INT)", "FROM made"),
        ("ATTACH ':memory:' AS made", "USE made"),
        ("CREATE SECRET made (TYPE http, BEARER_TOKEN 'x')", "DROP SECRET made"),
        ("CREATE MACRO made() AS 1", "SELECT made()"),
        (
            "LOAD httpfs",
            (
                "SELECT error('loaded') FROM duckdb_extensions() "
                "WHERE loaded AND extension_name = 'httpfs'"
            ),
        ),
        (
            "SET threads = 1; SET memory_limit = '77MB'",
            "SELECT error('the same') WHERE current_setting('memory_limit') = '73.4 MiB'",
        ),
    ],
)
def test_what_a_session_makes_is_seen_nowhere_else(make: str, use: str) -> None:
    def sees(con: duckdb.DuckDBPyConnection) -> bool:
        """Whether it is there: a query for what is no object fails if it is."""
        try:
            con.execute(use).fetchall()
        except duckdb.Error as error:
            return "loaded" in str(error) or "the same" in str(error)
        return "error(" not in use

    with webfoot.session() as con, webfoot.session() as other, webfoot.cursor() as shared:
        con.execute(make)
        assert (sees(other), sees(shared), sees(con)) == (False, False, True)
    with webfoot.session() as con:
        assert not sees(con)


def test_a_hundred_threads_that_ask_at_once_make_one_instance() -> None:
    made: list[object] = []

    def make(*arguments: object) -> Instance:
        made.append(arguments)
        return Instance(*arguments)  # type: ignore[arg-type]

    instances, together = Instances(make), threading.Barrier(100)

    def ask(number: int) -> Instance:
        together.wait()
        return instances.shared("a", configuration(), (httpfs,))

    with ThreadPoolExecutor(100) as pool:
        found = set(pool.map(ask, range(100)))
    assert (len(made), len(found)) == (1, 1)
    other = Configuration.from_settings(Settings(secrets=("environment",)), configuration().temp)
    assert instances.shared("b", configuration(), (httpfs,)) not in found
    assert instances.shared("a", configuration(), ()) not in found
    assert instances.shared("a", other, (httpfs,)) not in found
    assert instances.shared("a", configuration(), (httpfs,)) in found
    assert len(made) == 4
    instances.close()


def test_eight_threads_with_two_hundred_queries_each_get_their_own_rows() -> None:
    def work(number: int) -> list[object]:
        rows: list[object] = []
        for turn in range(200):
            with webfoot.cursor() as con:
                con.execute(f"CREATE TEMP TABLE mine AS SELECT {number} AS a, {turn} AS b")
                rows += con.execute(
                    "SELECT a, b, (SELECT count(*) FROM range(100)) FROM mine"
                ).fetchall()
        return rows

    with ThreadPoolExecutor(8) as pool:
        for number, rows in enumerate(pool.map(work, range(8))):
            assert rows == [(number, turn, 100) for turn in range(200)]


def test_a_cursor_is_used_by_the_thread_that_asked_for_it() -> None:
    with webfoot.cursor() as con, ThreadPoolExecutor(1) as pool:
        for use in (lambda: con.execute("SELECT 1"), lambda: con.fetchall()):  # noqa: PLW0108  # the attribute, too
            with pytest.raises(RuntimeError, match="ask for a cursor in each thread"):
                pool.submit(use).result()
        pool.submit(con.interrupt).result()


def test_variables_of_the_caller_are_tables_as_they_are_to_duckdb() -> None:
    local = pd.DataFrame({"n": [1]})
    with webfoot.cursor() as con:
        assert con.execute("FROM local").fetchall() == [(1,)]
        assert con.sql("FROM local JOIN GLOBAL g ON true").fetchall() == [(1, 3)]

        def inner() -> object:
            hidden = pd.DataFrame({"n": [2]})
            assert len(hidden) == 1
            return con.sql("FROM hidden").fetchall()

        assert inner() == [(2,)]
        for name in ("hidden", "frame", "arguments", "self", "call"):
            with pytest.raises(duckdb.CatalogException):
                con.sql(f"FROM {name}")
        assert len(local) == 1


def test_it_does_what_duckdb_s_connection_does(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    with webfoot.session() as con:
        assert con.execute("SELECT ? AS n", [1]) is con
        assert con.description is not None
        assert con.fetchone() == (1,)
        con.sql("SELECT 5 AS n").write_parquet(str(file))
        assert con.read_parquet(str(file)).fetchall() == [(5,)]
        assert con.begin() is con
        con.rollback()
        con.register("frame", pd.DataFrame({"n": [4]}))
        assert con.table("frame").df()["n"].tolist() == [4]
        assert con.execute("FROM frame").to_arrow_table().num_rows == 1
        assert duckdb.sql("FROM frame", connection=con.native).fetchall() == [(4,)]
        with pytest.raises(AttributeError):
            _ = con.nothing  # type: ignore[attr-defined]
        with pytest.raises(duckdb.Error):
            con.execute(1)  # type: ignore[arg-type]
        # Times with a zone are in UTC, as in the connections that calls are given.
        assert con.execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH '/etc/evals.duckdb'",
        "SELECT 1; ATTACH '{elsewhere}/x.db' AS x",
        "ATTACH '{temp}/../x.db' AS x",
        "ATTACH 'x.db' AS x (READ_ONLY)",
        "ATTACH 'duckdb:/etc/x.db' AS x",
        "ATTACH '/etc/x.db' AS x (TYPE sqlite)",
        "ATTACH '~/x.db' AS x",
        "ATTACH '{temp}/link/x.db' AS x",
    ],
)
def test_files_elsewhere_are_not_attached(
    statement: str, temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBFOOT_TEMP", str(temp))
    with webfoot.session() as con:
        (temp / "link").symlink_to("/etc")
        sql = statement.format(temp=temp, elsewhere=tmp_path)
        with pytest.raises(AttachRefused, match=r" is not below .*; put it there, or name its"):
            con.execute(sql)


def test_files_in_the_temporary_folder_are_attached(temp: Path) -> None:
    for _ in range(2):
        with webfoot.session() as con:
            con.execute(
                f"ATTACH '{temp}/evals.duckdb' AS evals; ATTACH ':memory:' AS m; ATTACH '' AS e"
            )
            con.execute("CREATE OR REPLACE TABLE evals.t AS SELECT 1 AS n")
            assert con.execute("FROM evals.t").fetchall() == [(1,)]


def test_an_instance_s_files_are_its_own_and_end_with_it(temp: Path) -> None:
    with webfoot.session() as con, webfoot.session() as other:
        query = "SELECT current_setting('temp_directory')"
        folders = [Path(str(c.execute(query).fetchall()[0][0])) for c in (con, other)]
        assert folders[0] != folders[1]
        assert all(folder.is_relative_to(temp) for folder in folders)
        con.execute("SET memory_limit = '60MB'; SET threads = 1")
        con.execute(
            "CREATE TABLE t AS SELECT n, hash(n)::VARCHAR || repeat('x', 50) AS text"
            " FROM range(1_000_000) t(n)"
        )
        assert any(folders[0].iterdir())
    assert not any(folder.parent.exists() for folder in folders)


def test_nothing_is_left_when_a_process_ends(temp: Path) -> None:
    code = """
        import webfoot
        kept = webfoot.cursor()
        con = kept.__enter__()
        con.execute("CREATE TABLE t AS SELECT 1")
        raise SystemExit("bye")
    """
    done = script(code, WEBFOOT_TEMP=str(temp))
    assert done.communicate()[1].strip() == "bye"
    assert list(temp.iterdir()) == []


def test_what_a_killed_process_has_left_is_removed_by_the_next(temp: Path) -> None:
    code = """
        import sys, webfoot
        kept = webfoot.cursor()
        con = kept.__enter__()
        print("ready", flush=True)
        sys.stdin.read()
        import signal; signal.pause()
    """
    killed, alive = script(code, WEBFOOT_TEMP=str(temp)), script(code, WEBFOOT_TEMP=str(temp))
    for process in (killed, alive):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    assert len(list(temp.glob(f"{PREFIX}*"))) == 2
    killed.kill()
    killed.communicate()
    with webfoot.session():
        # The one that lives, and this process's.
        assert len(list(temp.glob(f"{PREFIX}*"))) == 2
    alive.kill()
    alive.communicate()


def test_a_forked_child_has_instances_of_its_own() -> None:
    code = """
        import os, warnings, webfoot
        warnings.simplefilter("ignore", DeprecationWarning)
        with webfoot.cursor() as con:
            con.execute("CREATE TABLE t AS SELECT 1 AS n")
        child = os.fork()
        if child == 0:
            with webfoot.cursor() as con:
                found = con.execute("SELECT count(*) FROM duckdb_tables()").fetchone()
            os._exit(found[0])
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        with webfoot.cursor() as con:
            print(con.execute("FROM t").fetchall())
    """
    done = script(code)
    out, err = done.communicate()
    assert (out.split("\n")[:2], err) == (["0", "[(1,)]"], "")


_READ_ONLY = """
import os, sys
from pathlib import Path
import webfoot
try:
    Path("here").write_text("x")
    print("writable")
except OSError as error:
    print(error.strerror)
assert "HOME" not in os.environ
with webfoot.cursor() as con:
    con.execute("SET memory_limit = '60MB'; SET threads = 1")
    con.execute("CREATE TABLE t AS SELECT n, hash(n)::VARCHAR || repeat('x', 50) AS text"
                " FROM range(1_000_000) t(n)")
    print(con.execute("SELECT count(DISTINCT text) FROM t").fetchone())
    con.require("httpfs", "s3")
    con.execute("CREATE SECRET (TYPE http, BEARER_TOKEN 'x')")
    con.execute("CREATE PERSISTENT SECRET kept (TYPE http, BEARER_TOKEN 'x')")
    con.execute("COPY (SELECT 1) TO '~/x.csv'")
with webfoot.Database("evals") as database, database.cursor() as con:
    con.execute("CREATE TABLE t AS SELECT 1")
print(sorted(path.name for path in Path(os.environ["WEBFOOT_TEMP"]).iterdir()))
"""


def test_it_works_on_a_read_only_file_system_without_a_home(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts = f'mount -t tmpfs -o size=300m none {disk} && mount -o remount,bind,ro / && exec "$@"'
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    done = subprocess.run(
        [*unshare, "sh", "-c", mounts, "sh", sys.executable, "-c", _READ_ONLY],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "WEBFOOT_TEMP": str(disk),
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        },
    )
    hint = "\nthis test mounts a tmpfs: as root, or where user namespaces are allowed"
    assert done.returncode == 0, done.stderr + hint
    lines = done.stdout.splitlines()
    assert lines[:2] == ["Read-only file system", "(1000000,)"]
    # Of the database nothing is left; this process's own folder goes at its end.
    assert [name.startswith(PREFIX) for name in eval(lines[2])] == [True]


UDFS = """
import os
from pathlib import Path
import duckdb
import webfoot

@udf(cache="0")
def where(step: int = 0) -> list[dict[str, str]]:
    with webfoot.cursor() as con:
        con.execute("CREATE TEMP TABLE t AS SELECT 1")
        (folder,), = con.execute("SELECT current_setting('temp_directory')").fetchall()
    return [{"folder": folder, "pid": str(os.getpid())}]

@udf(cache="0")
def attached(folder: Path) -> list[dict[str, int]]:
    with webfoot.session() as con:
        con.execute(f"ATTACH '{folder}/x.db' AS x; CREATE TABLE x.t AS SELECT 7 AS n")
        return [{"n": con.execute("FROM x.t").fetchone()[0]}]

@udf(cache="0", timeout="2s")
def hangs() -> list[dict[str, int]]:
    with webfoot.Database("hangs") as database, database.cursor() as con:
        con.execute("CREATE TABLE t AS SELECT 1 AS n")
        con.execute("SELECT count(*) FROM range(10_000_000_000) a(n) WHERE hash(n) = 1").fetchall()
    return []

@udf(cache="0")
def dies() -> list[dict[str, int]]:
    with webfoot.Database("dies") as database, database.cursor() as con:
        con.execute("CREATE TABLE t AS SELECT 1 AS n")
        os.kill(os.getpid(), 9)

@udf(cache="0", memory="1GB")
def limits(con: duckdb.DuckDBPyConnection) -> list[dict[str, str]]:
    sql = "SELECT current_setting('memory_limit') AS limit"
    with webfoot.cursor() as shared, webfoot.session() as own:
        return [dict(c.sql(sql).to_arrow_table().to_pylist()[0]) for c in (con, shared, own)]

@udf(cache="0")
def raises() -> list[dict[str, int]]:
    with webfoot.session() as con:
        con.execute("ATTACH ':memory:' AS left_behind")
        raise LookupError("on purpose")
"""


def test_a_udf_s_sessions_write_where_its_worker_does(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    folder = write_files(tmp_path / "udfs", all=UDFS)
    with serve(folder) as server, webfoot.Client(server.url) as client:
        rows = [client.run("where", step=n).arrow().to_pylist()[0] for n in range(2)]
        assert all(Path(row["folder"]).is_relative_to(server.store) for row in rows)
        # One instance for the runs of a process: its folder has the process's name.
        assert len({row["folder"] for row in rows}) == len({row["pid"] for row in rows})
        assert client.run("attached").arrow().to_pylist() == [{"n": 7}]
        # They spill before their run is ended for its memory.
        assert set(client.run("limits").df()["limit"]) == {"572.2 MiB"}
        with pytest.raises(webfoot.Error, match="on purpose"):
            client.run("raises")
    assert not [path for path in server.store.rglob("*") if PREFIX in path.name]


def test_inline_they_write_there_too_and_end_with_the_runner(
    tmp_path: Path, write_files: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    monkeypatch.setenv("WEBFOOT_STORE", str(store))
    folder = write_files(tmp_path / "udfs", all=UDFS)
    with webfoot.Client(folder) as client:
        (row,) = client.run("where").arrow().to_pylist()
        assert Path(row["folder"]).is_relative_to(store)
        assert client.run("attached").arrow().to_pylist() == [{"n": 7}]
    assert not [path for path in store.rglob("*") if PREFIX in path.name]


@pytest.mark.slow
def test_a_timeout_and_a_kill_leave_nothing(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    folder = write_files(tmp_path / "udfs", all=UDFS)
    with serve(folder) as server, webfoot.Client(server.url) as client:
        for name, kind in (("hangs", "udf-timeout"), ("dies", "udf-crashed")):
            with pytest.raises(webfoot.Error) as caught:
                client.run(name)
            assert caught.value.code == kind
            assert client.run("where").arrow().num_rows == 1
            # The worker's folder goes with it, while another worker may already run the next.
            until = time.monotonic() + 10
            while left := [path for path in paths_below(server.store) if name in path.name]:
                assert time.monotonic() < until, left
                time.sleep(0.05)
    assert not [p for p in paths_below(server.store) if PREFIX in p.name or "duckdb" in p.suffix]
