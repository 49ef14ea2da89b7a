"""A database in the temporary folder: what belongs to it ends with it, and nobody shares it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path  # noqa: TC003  # pytest resolves it
from typing import TYPE_CHECKING

import duckdb
import pytest

import webfoot
from webfoot.database.files import DatabaseInUse
from webfoot.database.sessions import everywhere_in

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def temp(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "temp"
    with everywhere_in(folder):
        yield folder


def files(temp: Path) -> list[Path]:
    return [path for path in temp.rglob("*") if path.is_file()]


def test_it_ends_with_its_with_and_all_that_belongs_to_it(temp: Path) -> None:
    with webfoot.Database("evals") as database:
        with database.cursor() as con:
            con.execute("CREATE TABLE t AS SELECT 1 AS n")
        with database.cursor() as con:
            assert con.execute("FROM t").fetchall() == [(1,)]
        assert database.path.exists()
        assert database.path.with_suffix(".duckdb.wal").exists()
    assert files(temp) == []
    assert not database.path.parent.exists()


def test_it_ends_when_its_with_fails(temp: Path) -> None:
    with pytest.raises(LookupError), webfoot.Database("evals"):
        raise LookupError
    assert files(temp) == []


def test_to_destroy_it_twice_does_no_harm() -> None:
    database = webfoot.Database("evals")
    database.destroy()
    database.destroy()
    database.close()
    with webfoot.Database("evals"):
        pass
    database.destroy()


def test_it_is_kept_until_it_is_opened_clean() -> None:
    for clean, found in ((True, [(0,)]), (False, [(1,)]), (False, [(1,)]), (True, [(0,)])):
        database = webfoot.Database("evals", clean_on_start=clean)
        with database.cursor() as con:
            assert con.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == found
            con.execute("CREATE TABLE IF NOT EXISTS t(n INT)")
        database.close()
    database.destroy()


def test_it_is_open_once(temp: Path) -> None:
    with webfoot.Database("evals") as database:
        for clean in (True, False):
            with pytest.raises(DatabaseInUse, match=f"{temp}.*evals is open already; close it"):
                webfoot.Database("evals", clean_on_start=clean)
        with webfoot.Database("others"), database.cursor() as con:
            con.execute("SELECT 1")
    assert files(temp) == []


def test_what_a_killed_process_has_left_is_cleaned_and_what_a_living_one_has_is_not(
    temp: Path,
) -> None:
    code = """
        import sys, webfoot
        database = webfoot.Database("evals")
        with database.cursor() as con:
            con.execute("CREATE TABLE t AS SELECT 1 AS n")
        print("ready", flush=True)
        sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "WEBFOOT_TEMP": str(temp)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(DatabaseInUse):
        webfoot.Database("evals")
    process.kill()
    process.communicate()
    assert files(temp)
    with webfoot.Database("evals") as database, database.cursor() as con:
        assert con.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]
    assert files(temp) == []


def test_its_file_is_attached_once_it_is_closed() -> None:
    database = webfoot.Database("evals")
    with database.cursor() as con:
        con.execute("CREATE TABLE t AS SELECT 7 AS n")
    database.close()
    with webfoot.session() as con:
        con.execute(f"ATTACH '{database.path}' AS evals (READ_ONLY)")
        assert con.execute("FROM evals.t").fetchall() == [(7,)]
    database.destroy()
    with pytest.raises(duckdb.ConnectionException), database.cursor() as con:
        con.execute("SELECT 1")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".x", "-x", "x" * 65, "é"])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="a database's name is letters, digits, '_' and '-', got"):
        webfoot.Database(name)
