"""Generated SQL, of attacks cut up and put together anew: none of it reads what is planted."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.attacks import ALLOWED, FAILS, REFUSED

from webfoot import registry, sources
from webfoot.datasets import Dataset
from webfoot.errors import Error, QueryFailed, QueryRefused
from webfoot.querying.running import run_query
from webfoot.results import Query, Reach
from webfoot.runners.jobs import QueryJob, QueryLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLANTED = "planted-secret-0815"
SETTINGS = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LIMITS = QueryLimits(rows=1_000, size=10**7, seconds=3, memory_bytes=10**9)
# `{file}` and `{folder}` are where what is planted is.
SOURCES = [
    *(
        "'{file}'",
        '"{file}"',
        "$${file}$$",
        "E'{file}'",
        "'{folder}/*'",
        "'file://{file}'",
        "'{file}'::VARCHAR",
    ),
    *("['{file}', '{file}']", "'{folder}/../' || 'secret.csv'", "getenv('PLANTED')", "$1", "t.f"),
]
READERS = [
    *("read_text", "read_blob", "read_csv", "read_csv_auto", "read_json", "read_json_auto"),
    *("read_json_objects", "read_ndjson_objects", "read_parquet", "parquet_scan", "glob"),
    *("parquet_metadata", "parquet_schema", "sniff_csv", "read_duckdb", "query", "query_table"),
    *("json_execute_serialized_sql", "duckdb_settings", "duckdb_secrets", "which_secret", "getenv"),
    *("current_setting", "squares", "range", "unnest", "udfs.squares", "system.main.read_text"),
    *('"read_text"', "READ_TEXT", "lake.main.read_csv", "memory.read_text", "read_text /**/"),
]
WHOLE = [
    *("{a}", "({a})", "FROM ({a})", "SELECT * FROM ({a}) t", "WITH c AS ({a}) FROM c"),
    *("WITH c AS MATERIALIZED ({a}), d AS ({b}) FROM c, d", "{a} UNION ALL BY NAME {b}"),
    *(
        "SELECT 1 WHERE EXISTS ({a})",
        "SELECT ({a})",
        "SELECT [({a}), ({b})]",
        "SELECT {{'k': ({a})}}",
    ),
    *("DESCRIBE {a}", "SUMMARIZE {a}", "EXPLAIN {a}", "EXPLAIN ANALYZE {a}", "{a}; {b}"),
    *("FROM (VALUES ('{file}')) t(f), LATERAL ({a})", "SELECT 1 ORDER BY ({a})", "TABLE {a}"),
    *("FROM ({a}) POSITIONAL JOIN ({b})", "FROM ({a}) ASOF JOIN ({b}) USING (a)", "-- {b}\n{a}"),
    *("PIVOT ({a}) ON size IN (1) USING count(*)", "UNPIVOT ({a}) ON COLUMNS(*)", "/* {b} */ {a}"),
    *(
        "COPY ({a}) TO '{folder}/stolen'",
        "CREATE TABLE x AS {a}",
        "INSERT INTO x {a}",
        "SET VARIABLE x = ({a})",
    ),
    *("SELECT error(({a})::VARCHAR)", "SELECT CAST(({a})::VARCHAR AS INTEGER)", "SELECT '{a}'"),
    *("WITH RECURSIVE r AS ({a} UNION ALL {b}) FROM r", "SELECT list_transform([1], x -> ({a}))"),
    *("SELECT COLUMNS(*) FROM ({a}) QUALIFY ({b}) IS NULL", "SELECT sum(1) FILTER (({a}) IS NULL)"),
    *(
        "FROM query('{a}')",
        "PREPARE p AS {a}",
        "EXECUTE p",
        "FROM known",
        "CALL {a}",
        "{a} LIMIT ({b})",
    ),
]
CUTS = re.compile(r"(\s+|[(),;])")

texts = st.sampled_from([*REFUSED, *ALLOWED, *FAILS])


@st.composite
def reads(draw: st.DrawFn) -> str:
    """Something that reads, or would."""
    source = draw(st.sampled_from(SOURCES))
    if draw(st.booleans()):
        return f"FROM {source}"
    return f"FROM {draw(st.sampled_from(READERS))}({source})"


@st.composite
def crossed(draw: st.DrawFn) -> str:
    """The beginning of one text, and the end of another."""
    first, second = (CUTS.split(draw(texts)) for _ in range(2))
    at, to = (draw(st.integers(0, len(parts))) for parts in (first, second))
    return "".join([*first[:at], *second[to:]])


@st.composite
def disguised(draw: st.DrawFn, plain: st.SearchStrategy[str]) -> str:
    """A text in which what is between words, and how they are written, is another."""
    between = st.sampled_from([" ", "\n", "\t", "/**/", " --\n", "\u00a0", "\u200b", "", "  "])
    pieces = []
    for piece in CUTS.split(draw(plain)):
        changed = draw(between) if piece.isspace() and draw(st.integers(0, 3)) == 0 else piece
        pieces.append(changed.swapcase() if draw(st.integers(0, 9)) == 0 else changed)
    return "".join(pieces)


@st.composite
def combined(draw: st.DrawFn, parts: st.SearchStrategy[str]) -> str:
    """One text around two."""
    whole = draw(st.sampled_from(WHOLE))
    return (
        whole.replace("{a}", draw(parts))
        .replace("{b}", draw(parts))
        .replace("{{", "{")
        .replace("}}", "}")
    )


simple = st.one_of(reads(), reads(), texts, crossed())
queries = st.one_of(
    simple,
    disguised(simple),
    combined(simple),
    combined(combined(simple)),
    disguised(combined(simple)),
)


@pytest.fixture
def job(
    tmp_path: Path, write_files: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> QueryJob:
    """A query where there are files beside what may be read, and a secret in the environment."""
    monkeypatch.setenv("PLANTED", PLANTED)
    udfs = "@udf\ndef squares(rows: int = 3):\n    return []\n"
    loaded = registry.load(sources.read(write_files(tmp_path / "udfs", some=udfs)))
    table = pa.table({"a": [1, 2]})
    pq.write_table(table, tmp_path / "known.parquet")
    pq.write_table(pa.table({"a": [PLANTED]}), tmp_path / "secret.parquet")
    (tmp_path / "secret.csv").write_text(f"a\n{PLANTED}\n")
    lake = (Dataset("known", str(tmp_path / "known.parquet")),)
    return QueryJob(
        Query("", "[]", 20, Reach(), ""), loaded, dict.fromkeys(loaded, 600.0), lake, LIMITS
    )


def ask(job: QueryJob, folder: Path, sql: str) -> str:
    """Ask it; what kind of answer came, after a look for what it may not have."""
    result = folder / "result.parquet"
    result.unlink(missing_ok=True)
    sql = sql.replace("/tmp/", "{folder}/").replace("/etc/passwd", "{file}")
    sql = sql.replace("{file}", "{folder}/secret.csv").replace("{folder}", str(folder))
    query = Query(
        sql, json.dumps([str(folder / "secret.csv")] if "$1" in sql else []), 20, Reach(), ""
    )
    squares = folder / "squares.parquet"
    pq.write_table(pa.table({"number": [0], "square": [0]}), squares)
    try:
        run_query(
            QueryJob(query, job.registry, job.lifetimes, job.lake, job.limits),
            result,
            lambda *_: squares,
        )
        told, kind = repr(pq.read_table(result).to_pylist()), "answered"
    except Error as error:
        told, kind = json.dumps(error.problem(), default=str), error.code
    assert PLANTED not in told, sql
    assert "root:x:" not in told, sql
    assert not (folder / "stolen").exists(), sql
    assert {path.name for path in folder.iterdir()} <= {
        *(
            "udfs",
            "known.parquet",
            "secret.parquet",
            "secret.csv",
            "squares.parquet",
            "result.parquet",
        ),
    }, sql
    return kind


def ask_many(job: QueryJob, folder: Path, many: int) -> Counter[str]:
    seen: Counter[str] = Counter()

    @settings(SETTINGS, max_examples=many)
    @given(sql=queries)
    def one(sql: str) -> None:
        seen[ask(job, folder, sql)] += 1

    one()
    return seen


def test_generated_sql_reads_nothing_that_is_planted(job: QueryJob, tmp_path: Path) -> None:
    seen = ask_many(job, tmp_path, 80)
    assert {"answered", QueryRefused.code, QueryFailed.code} <= set(seen), seen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_much_generated_sql_reads_nothing_that_is_planted(job: QueryJob, tmp_path: Path) -> None:
    seen = ask_many(job, tmp_path, 3_000)
    assert sum(seen.values()) >= 3_000, seen
