"""A real PostgreSQL as a catalog: read only, kept alive, and its password nowhere."""

from __future__ import annotations

import logging
import os
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import quote

import duckdb
import pytest
from tests.postgres_server import Postgres, postgres

import webfoot
from webfoot.database import steps
from webfoot.database.bootstrap import StepFailed
from webfoot.database.extensions import Extensions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
PASSWORD = "pa'ss wörd%:/@\\"


def writing(server: Postgres) -> duckdb.DuckDBPyConnection:
    """A DuckDB of nobody's, in which the database is `w`, to be written to."""
    con = duckdb.connect()
    Extensions.from_environment().load(con, "postgres")
    con.execute(
        "CREATE SECRET (TYPE postgres, HOST '127.0.0.1', PORT ?, USER ?, PASSWORD ?,"
        " DATABASE 'postgres')",
        [str(server.port), server.user, PASSWORD],
    )
    con.execute("ATTACH '' AS w (TYPE postgres)")
    return con


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres"), PASSWORD) as running:
        con = writing(running)
        con.execute(
            "CREATE TABLE w.stations AS SELECT n AS id, 'name ' || n AS name FROM range(1000) t(n)"
        )
        con.close()
        yield running


@pytest.fixture(params=["words", "url"])
def configured(
    request: pytest.FixtureRequest, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> Postgres:
    text = {
        "words": server.words.replace(PASSWORD, PASSWORD.replace("\\", "\\\\").replace("'", "\\'")),
        "url": server.url.replace(PASSWORD, quote(PASSWORD, safe="")),
    }
    monkeypatch.setenv("POSTGRES_DSN", text[request.param])
    return server


def test_its_tables_are_read_when_a_statement_names_it(configured: Postgres) -> None:
    with webfoot.session() as con:
        con.execute("SELECT 1")
        assert con.steps() == ()
        assert con.execute("SELECT name FROM pg.stations WHERE id = 77").fetchall() == [
            ("name 77",)
        ]
        assert [(run.name, run.skipped) for run in con.steps()] == [("postgres", None)]
        assert con.steps()[0].seconds > 0
        con.execute("SELECT count(*) FROM pg.stations")
        assert len(con.steps()) == 1


def test_it_cannot_be_written(configured: Postgres) -> None:
    with webfoot.session() as con:
        for statement in (
            "INSERT INTO pg.stations VALUES (1, 'x')",
            "CREATE TABLE pg.made(a INT)",
            "DROP TABLE pg.stations",
        ):
            with pytest.raises(duckdb.Error, match="read-only"):
                con.execute(statement)


def test_connections_are_kept_alive_and_say_whose_they_are(configured: Postgres) -> None:
    with webfoot.session() as con:
        con.require("postgres")
        query = "SELECT path FROM duckdb_databases() WHERE database_name = 'pg'"
        (path,) = con.execute(query).fetchall()[0]
        seen = con.execute(
            "SELECT * FROM postgres_query('pg', 'SELECT application_name FROM pg_stat_activity"
            " WHERE pid = pg_backend_pid()')"
        ).fetchall()
    assert "keepalives_idle='10'" in path
    assert seen == [("webfoot",)]


@pytest.mark.parametrize("logged", [False, True])
def test_the_password_shows_nowhere(
    logged: bool, configured: Postgres, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.DEBUG), webfoot.session() as con:
        if logged:
            con.execute(f"CALL enable_logging(['QueryLog']); SET log_query_path = '{tmp_path}/q'")
        con.require("postgres")
        shown = [
            con.execute(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {table}").fetchall()
            for table in (
                *("duckdb_databases()", "duckdb_secrets()", "duckdb_settings()", "duckdb_logs()"),
                "duckdb_variables()",
            )
        ]
        shown.append([(configured.log.read_text(),)])
        shown.append([(file.read_text(),) for file in tmp_path.iterdir() if file.is_file()])
        with pytest.raises(duckdb.Error) as caught:
            con.execute("FROM pg.nothing")
    told = f"{shown} {caught.value} {caplog.text}"
    for form in _forms(PASSWORD):
        assert form not in told
    assert "webfoot_pg" in told


@pytest.mark.parametrize("harm", ["wrong password", "no server", "no database"])
def test_the_password_is_in_no_error(
    harm: str, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = 1 if harm == "no server" else server.port
    database = "none" if harm == "no database" else "postgres"
    password = "hunter2hunter2" if harm == "wrong password" else "secret'word"
    monkeypatch.setenv(
        "POSTGRES_DSN", f"postgresql://reader:{password}@127.0.0.1:{port}/{database}"
    )
    with webfoot.session() as con, pytest.raises(StepFailed) as caught:
        con.execute("FROM pg.stations")
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "the bootstrap step postgres failed" in told
    for form in _forms(password):
        assert form not in told


def test_a_step_that_has_failed_runs_again_when_it_is_used_again(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "POSTGRES_DSN", f"postgresql://reader:wrong@127.0.0.1:{server.port}/postgres"
    )
    with webfoot.session() as con:
        with pytest.raises(StepFailed):
            con.execute("FROM pg.stations")
        monkeypatch.setenv("POSTGRES_DSN", server.url.replace(PASSWORD, quote(PASSWORD, safe="")))
        assert len(con.execute("FROM pg.stations").fetchall()) == 1000


def test_a_rotated_password_is_used_by_the_next_statement(
    configured: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    con = writing(configured)
    con.execute("CALL postgres_execute('w', 'DROP ROLE IF EXISTS rotated')")
    con.execute("CALL postgres_execute('w', 'CREATE ROLE rotated LOGIN PASSWORD ''new''')")
    con.execute("CALL postgres_execute('w', 'GRANT pg_read_all_data TO rotated')")
    con.close()
    user = "SELECT * FROM postgres_query('pg', 'SELECT current_user::text')"
    with webfoot.session() as session:
        assert session.execute("SELECT count(*) FROM pg.stations").fetchone() == (1000,)
        assert session.execute(user).fetchone() == ("reader",)
        monkeypatch.setenv(
            "POSTGRES_DSN", f"postgresql://rotated:new@127.0.0.1:{configured.port}/postgres"
        )
        assert session.execute("SELECT count(*) FROM pg.stations").fetchone() == (1000,)
        assert session.execute(user).fetchone() == ("rotated",)
        assert [run.name for run in session.steps()] == ["postgres"] * 2


def test_two_databases_have_a_catalog_each(
    configured: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALES_DSN", os.environ["POSTGRES_DSN"])
    sales = steps.postgres("sales", secret="SALES_DSN", name="sales")
    with webfoot.session(bootstrap=("postgres", sales)) as con:
        con.execute("SELECT count(*) FROM sales.stations")
        assert [run.name for run in con.steps()] == ["sales"]
        query = "SELECT count(*) FROM pg.stations JOIN sales.stations USING (id)"
        assert con.execute(query).fetchall() == [(1000,)]


def test_eight_threads_read_it_at_once_through_one_attachment(
    configured: Postgres, request: pytest.FixtureRequest
) -> None:
    instance = request.node.name

    def read(number: int) -> list[object]:
        answers: list[object] = []
        for turn in range(25):
            with webfoot.cursor(instance) as con:
                wanted = (number * 25 + turn) % 1000
                answers.append(
                    con.execute(f"SELECT name FROM pg.stations WHERE id = {wanted}").fetchone()
                )
        return answers

    with ThreadPoolExecutor(8) as pool:
        for number, answers in enumerate(pool.map(read, range(8))):
            assert answers == [(f"name {number * 25 + turn}",) for turn in range(25)]
    with webfoot.cursor(instance) as con:
        assert [run.name for run in con.steps()] == ["postgres"]


def _forms(password: str) -> list[str]:
    """A password as it is, and as SQL, Python and libpq write it."""
    return [
        *(password, password.replace("'", "''"), repr(password)[1:-1], "wörd"),
        password.replace("\\", "\\\\").replace("'", "\\'"),
    ]
