"""What a statement may name; everything else is refused, or is not there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb
import pytest
from tests.attacks import ADDRESSES, FILES, INDIRECT, TELLTALES

from webfoot.datasets import Dataset
from webfoot.errors import QueryFailed, QueryRefused
from webfoot.querying.gate import read_statement
from webfoot.querying.naming import _INTERNAL, _TELLTALES, Names, Needs, find_needs

if TYPE_CHECKING:
    from collections.abc import Iterator

TAXI = Dataset("taxi", "s3://bucket/taxi/")
RATES = Dataset("Rates", "https://host/rates.csv")
FILE = Dataset("file", "/data/file.parquet")
NAMES = Names(["squares", "Contours_each"], [TAXI, RATES, FILE])


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def needs(con: duckdb.DuckDBPyConnection, sql: str, names: Names = NAMES) -> Needs:
    return find_needs(read_statement(con, sql, 10), names, con)


@pytest.mark.parametrize("sql", [*FILES, *ADDRESSES, *TELLTALES, *INDIRECT])
def test_files_addresses_settings_and_hidden_sql_are_refused(
    con: duckdb.DuckDBPyConnection, sql: str
) -> None:
    with pytest.raises(QueryRefused):
        needs(con, sql)


def test_so_much_is_needed_as_is_named(con: duckdb.DuckDBPyConnection) -> None:
    found = needs(con, "FROM SQUARES(), udfs.contours_each(), lake.rates, Taxi, udfs.parameters")
    assert found.catalog == {"squares", "contours_each", "parameters"}
    assert found.views == {"taxi": TAXI, "rates": RATES}
    assert not found.lists_datasets
    assert needs(con, "FROM datasets, udfs").lists_datasets
    assert needs(con, "SELECT 1") == Needs(frozenset(), {}, lists_datasets=False)


def test_a_url_that_is_declared_is_its_dataset(con: duckdb.DuckDBPyConnection) -> None:
    assert needs(con, "FROM 'https://host/rates.csv'").views == {RATES.location: RATES}
    for sql in (
        "FROM 'https://host/RATES.csv'",
        "FROM 'https://host/rates.csv?a=b'",
        "FROM 'https://host/../host/rates.csv'",
        'FROM lake."https://host/rates.csv"',
        "FROM 's3://bucket/taxi/a.parquet'",
        # Where it is on this machine is nobody's business.
        "FROM '/data/file.parquet'",
        "FROM read_csv('https://host/rates.csv')",
    ):
        with pytest.raises(QueryRefused):
            needs(con, sql)


def test_what_a_statement_defines_itself_needs_nothing(con: duckdb.DuckDBPyConnection) -> None:
    assert needs(con, "WITH a AS (SELECT 1), Tables AS (FROM A) FROM tables").views == {}
    # But it may mean both.
    assert needs(con, "WITH taxi AS (FROM taxi) FROM taxi").views == {"taxi": TAXI}


def test_what_is_not_there_is_told_with_the_nearest(con: duckdb.DuckDBPyConnection) -> None:
    for sql, told in {
        "FROM taxis": "there is no table taxis; did you mean taxi",
        "FROM nothing": "FROM datasets lists",
        "FROM lake.nothing": "there is no table lake.nothing",
        "FROM udfs.Squares": "it is a function: FROM udfs.Squares()",
        "FROM udfs.taxi": "there is no table udfs.taxi",
        "FROM square()": "there is no table function square; did you mean squares",
        "FROM nothing()": "FROM udfs lists",
        "FROM other.squares()": "there is no table function other.squares",
    }.items():
        with pytest.raises(QueryFailed, match=re.escape(told)):
            needs(con, sql)


def test_what_is_out_of_reach_is_not_there(con: duckdb.DuckDBPyConnection) -> None:
    for sql in ("FROM squares()", "FROM taxi", "FROM contours_each()"):
        with pytest.raises(QueryFailed) as caught:
            needs(con, sql, Names([], []))
        assert "did you mean" not in caught.value.detail


def test_every_function_whose_name_sounds_of_the_instance_was_looked_at(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """Another DuckDB has others: those of this one were tried, and tell nothing, or are refused."""
    sounds = "setting|env|secret|log|file|path|pragma|query|exec|serial|checkpoint|variable|view"
    sounds += "|config|plan|internal|extension|read|write|load|scan|memory|sleep|connection"
    rows = con.execute(
        "SELECT DISTINCT lower(function_name) FROM duckdb_functions()"
        " WHERE function_type IN ('scalar', 'macro', 'aggregate')"
    ).fetchall()
    heard = {name for (name,) in rows if re.search(sounds, name)}
    harmless = {
        *("current_connection_id", "current_query", "current_query_id"),  # its own
        *("getvariable", "in_search_path", "json_deserialize_sql", "json_serialize_sql"),
        *("log", "log10", "log2", "parse_duckdb_log_message", "pg_conf_load_time"),
        *("parse_dirpath", "parse_filename", "parse_path"),  # of a text
        *("current_catalog", "formatreadabledecimalsize", "formatreadablesize"),
        "pg_ts_config_is_visible",
        *("json_extract_path", "json_extract_path_text"),
        *("pg_sleep", "sleep_ms"),  # they end at the limit
    }
    refused = {name for name in heard if name in _TELLTALES or name.startswith(_INTERNAL)}
    assert heard - refused == harmless
