"""What is one SELECT, as DuckDB parses it, and what it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest
from tests.attacks import ALLOWED, STATEMENTS

from webfoot.errors import QueryFailed, QueryRefused
from webfoot.querying.gate import Name, Statement, read_statement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def read(con: duckdb.DuckDBPyConnection, sql: str, limit: int | None = 10) -> Statement:
    return read_statement(con, sql, limit)


@pytest.mark.parametrize("sql", STATEMENTS)
def test_anything_but_one_select_is_refused(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(QueryRefused):
        read(con, sql)


@pytest.mark.parametrize("sql", ALLOWED)
def test_every_form_of_a_select_is_read(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    statement = read(con, sql)
    assert len(con.extract_statements(statement.sql)) == 1


def test_refusals_say_what_the_text_is(con: duckdb.DuckDBPyConnection) -> None:
    told = {
        "INSERT INTO a VALUES (1)": "this is INSERT",
        "PRAGMA version": "this is PRAGMA",
        "SELECT 1; SELECT 2; SELECT 3": "has 3 statements",
        "-- nothing": "has no statement",
        "EXPLAIN ANALYZE SELECT 1": "without options",
        "PIVOT (SELECT 1 AS a) ON a USING count(*)": r"ON name IN \('a', 'b'\)",
    }
    for sql, part in told.items():
        with pytest.raises(QueryRefused, match=part):
            read(con, sql)


def test_to_refuse_an_import_reads_nothing_of_it(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    (tmp_path / "schema.sql").write_text("SELECT 'planted';")
    (tmp_path / "load.sql").write_text("")
    there, missing = tmp_path, tmp_path / "missing"
    told = []
    for folder in (there, missing):
        with pytest.raises(QueryRefused) as caught:
            read(con, f"IMPORT DATABASE '{folder}'")
        told.append(caught.value.detail)
    assert told[0] == told[1]
    assert "planted" not in told[0]


def test_what_is_no_sql_is_shown_where_it_is_wrong(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryFailed) as caught:
        read(con, "SELECT 1,\n  FRM a b c")
    assert "LINE 2:   FRM a b c" in caught.value.detail


def test_the_text_cannot_end_the_selection_around_it(con: duckdb.DuckDBPyConnection) -> None:
    for sql in ("SELECT 1) FROM (SELECT 2", "SELECT 1) LIMIT 5 --", "SELECT 1 /*", "SELECT 'a"):
        with pytest.raises(QueryFailed):
            read(con, sql)


def test_the_limit_is_around_the_statement(con: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT i FROM range(1000) t(i) ORDER BY i DESC LIMIT 4 -- the last;"
    assert con.execute(read(con, sql, 2).sql).fetchall() == [(999,), (998,)]
    assert len(con.execute(read(con, sql, None).sql).fetchall()) == 4


def test_an_explanation_runs_nothing_and_keeps_its_lines(con: duckdb.DuckDBPyConnection) -> None:
    statement = read(con, "/* why */ explain select error('it ran')")
    assert con.execute(statement.sql).fetchall()[0][0] == "physical_plan"
    assert statement.sql == "EXPLAIN\nselect error('it ran')"


def test_names_are_found_wherever_they_are(con: duckdb.DuckDBPyConnection) -> None:
    statement = read(
        con,
        """
        WITH "Own" AS (SELECT Lower(a) FROM lake.main.taxi WHERE b IN (FROM c.d))
        SELECT (SELECT max(x) FROM udfs.f(y := 1)), count(*) OVER (), ('a').upper(),
               list_transform([1], lambda z: inside(z))
        FROM own, g(), LATERAL (FROM "h i") ORDER BY sort_me(1) LIMIT 3
        """,
    )
    assert statement.tables == {
        Name("taxi", ("lake", "main")),
        Name("d", ("c",)),
        Name("own"),
        Name("h i"),
    }
    assert statement.table_functions == {Name("f", ("udfs",)), Name("g")}
    assert {"lower", "max", "upper", "inside", "sort_me"} <= statement.functions
    assert statement.defined == {"own"}


def test_a_name_is_a_table_s_function_or_another_s(con: duckdb.DuckDBPyConnection) -> None:
    statement = read(con, "SELECT * FROM current_setting('a')")
    assert "current_setting" not in statement.functions


def test_what_is_too_deep_is_refused_and_not_a_crash(con: duckdb.DuckDBPyConnection) -> None:
    for deep in ("-" * 50_000 + "1", "(" * 50_000, "[" * 5000 + "]" * 5000, "not " * 5000 + "true"):
        with pytest.raises((QueryRefused, QueryFailed)):
            read(con, f"SELECT {deep}")
    with pytest.raises(QueryRefused, match="nested deeper"):
        read(con, "SELECT " + " + ".join(["1"] * 900))
    # A long list is not deep.
    read(con, "SELECT 1 WHERE 1 IN (" + ", ".join(map(str, range(3000))) + ")")
    read(con, "SELECT 1 WHERE " + " OR ".join(f"1 = {n}" for n in range(3000)))


def test_comments_in_comments_are_read_to_a_depth(con: duckdb.DuckDBPyConnection) -> None:
    assert read_statement(con, "/*" * 90 + "*/" * 90 + "SELECT 1" + " /* a */" * 900, None)
    for sql in ("/*" * 50_000, "/*" * 25_000 + "*/" * 25_000 + "SELECT 1"):
        with pytest.raises(QueryRefused, match="more than 100 comments in each other"):
            read_statement(con, sql, None)
