"""One query, from its text to its rows, within its limits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.attacks import ALLOWED, FAILS

from webfoot import registry, sources
from webfoot.datasets import Dataset
from webfoot.errors import (
    DatasetUnavailable,
    Error,
    InvalidParameters,
    QueryFailed,
    QueryMemoryExceeded,
    QueryRefused,
    QueryTimeout,
    QueryTooLarge,
    ServerBusy,
    StorageFull,
    UdfFailed,
)
from webfoot.querying.running import run_query
from webfoot.results import Query, Reach
from webfoot.runners.jobs import QueryJob, QueryLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from webfoot.results import Draft

UDFS = """
    from typing import Literal

    @udf
    def squares(rows: int = 3):
        '''Square numbers.'''

    @udf(partitions=["region"])
    def sales(region: Literal["a", "b"]):
        return []

    @udf
    def secret():
        return []
"""
LIMITS = QueryLimits(rows=1000, size=10**7, seconds=20, memory_bytes=10**9)


@dataclass
class Place:
    """Where queries run: calls give squares, and are noted."""

    folder: Path
    job: QueryJob
    calls: list[str] = field(default_factory=list)
    error: Error | None = None

    def find(self, name: str, query: str, _: float) -> Path:
        self.calls.append(f"{name}?{query}")
        if self.error is not None:
            raise self.error
        path = self.folder / f"{len(self.calls)}.parquet"
        pq.write_table(pa.table({"number": range(3), "square": [n * n for n in range(3)]}), path)
        return path

    def asked(
        self, sql: str, parameters: Any = (), limit: int | None = 5, **other: Any
    ) -> QueryJob:
        query = replace(self.job.query, sql=sql, parameters=json.dumps(parameters), limit=limit)
        reach = other.pop("reach", Reach())
        return replace(self.job, query=replace(query, reach=reach), **other)

    def run(self, sql: str, parameters: Any = (), limit: int | None = 5, **other: Any) -> Draft:
        job = self.asked(sql, parameters, limit, **other)
        return run_query(job, self.folder / "target.parquet", self.find)

    def rows(self, sql: str, parameters: Any = (), **other: Any) -> list[dict[str, Any]]:
        self.run(sql, parameters, **other)
        rows: list[dict[str, Any]] = pq.read_table(self.folder / "target.parquet").to_pylist()
        return rows


@pytest.fixture
def place(tmp_path: Path, write_files: Callable[..., Path]) -> Place:
    loaded = registry.load(sources.read(write_files(tmp_path / "udfs", some=UDFS)))
    query = Query("", "[]", None, Reach(), "")
    lake = (Dataset("gone", "/gone/"),)
    return Place(tmp_path, QueryJob(query, loaded, dict.fromkeys(loaded, 600.0), lake, LIMITS))


@pytest.mark.parametrize("sql", ALLOWED)
def test_whatever_selects_gives_rows(place: Place, sql: str) -> None:
    assert place.run(sql).rows


@pytest.mark.parametrize("sql", FAILS)
def test_what_is_wrong_or_not_there_fails(place: Place, sql: str) -> None:
    with pytest.raises(QueryFailed):
        place.run(sql)


def test_the_catalog_s_macros_make_calls(place: Place) -> None:
    assert place.rows("FROM squares(rows := 7) SELECT max(square) AS m") == [{"m": 4}]
    place.run("FROM squares_each(rows := [1, 2], _partial := true)")
    place.run("FROM sales_partitioned() WHERE region = 'b'")
    # The first tells the columns; of the others, only those that WHERE leaves.
    assert place.calls == [
        "squares?rows=7",
        "squares?_each=rows&rows=1&rows=2&_partial=allow",
        "sales?region=a",
        "sales?region=b",
    ]


def test_wrong_arguments_fail_before_any_call(place: Place) -> None:
    for sql in ("FROM squares(rows := 'many')", "FROM squares(columns := 1)", "FROM sales()"):
        with pytest.raises(QueryFailed):
            place.run(sql)
    assert place.calls == []


def test_the_lists_tell_what_is_in_reach(place: Place) -> None:
    lake = (Dataset("taxi", "s3://bucket/taxi/"), Dataset("rates", "/data/rates.csv"))
    names = "FROM udfs SELECT list(name)[:] AS n"
    assert place.rows(names) == [{"n": ["sales", "secret", "squares"]}]
    assert place.rows("FROM udfs SELECT url, cache_s LIMIT 1") == [
        {"url": "/udfs/sales.parquet", "cache_s": 600.0}
    ]
    everything = [{"name": "taxi", "format": "parquet"}, {"name": "rates", "format": "csv"}]
    assert place.rows("FROM datasets", lake=lake) == everything
    few = {"reach": Reach(frozenset({"squares"}), frozenset({"rates"})), "lake": lake}
    few["lifetimes"] = {"squares": 600.0}
    assert place.rows(names, **few) == [{"n": ["squares"]}]
    assert place.rows("FROM parameters SELECT DISTINCT udf", **few) == [{"udf": "squares"}]
    assert place.rows("FROM datasets", **few) == everything[1:]


@pytest.mark.parametrize("sql", ["FROM secret()", "FROM udfs.secret()", "FROM secret_each()"])
def test_what_is_out_of_reach_is_not_called(place: Place, sql: str) -> None:
    with pytest.raises(QueryFailed):
        place.run(sql, reach=Reach(frozenset({"squares"})))
    assert place.calls == []


# Parameters


def test_parameters_are_values_and_never_sql(place: Place) -> None:
    evil = "'; DROP TABLE a; --"
    assert place.rows("SELECT ? AS a, $2 AS b", [evil, 2]) == [{"a": evil, "b": 2}]
    named = {"name": evil, "many": [1, None], "far": 2**62}
    rows = place.rows("SELECT $name AS a, $many AS b, $far AS c", named)
    assert rows == [{"a": evil, "b": [1, None], "c": 2**62}]
    place.run("FROM squares(rows := ?)", [2])
    place.run("FROM squares(rows := $n) LIMIT $m", {"n": 4, "m": 1})
    assert place.calls == ["squares?rows=2", "squares?rows=4"]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ?", []),
        ("SELECT ?", [1, 2]),
        ("SELECT $a", {"b": 1}),
        ("SELECT 1", [1]),
        ("SELECT ?::INTEGER", ["many"]),
        ("FROM ?", ["squares"]),
        ("SELECT ? + 1", [{"a": 1}]),
        ("SELECT ?", [10**400]),
    ],
)
def test_parameters_that_do_not_fit_fail(place: Place, sql: str, parameters: Any) -> None:
    with pytest.raises(QueryFailed):
        place.run(sql, parameters)


# Limits


def test_a_limit_is_met_before_rows_are_made(place: Place) -> None:
    draft = place.run("FROM range(1_000_000_000)", limit=20)
    assert (draft.rows, draft.truncated) == (20, True)
    draft = place.run("FROM range(20)", limit=20)
    assert (draft.rows, draft.truncated) == (20, False)
    draft = place.run("FROM range(3)", limit=0)
    assert (draft.rows, draft.truncated) == (0, True)
    assert [row["n"] for row in place.rows("SELECT n FROM range(9) t(n) ORDER BY n DESC")] == [
        *(8, 7, 6, 5, 4)
    ]


def test_without_a_limit_nothing_is_cut(place: Place) -> None:
    assert place.run("FROM range(1000)", limit=None).rows == 1000
    with pytest.raises(QueryTooLarge, match="more than 1,000 rows"):
        place.run("FROM range(1_000_000_000)", limit=None)


def test_rows_that_are_too_large_are_refused(place: Place) -> None:
    with pytest.raises(QueryTooLarge, match="more than 10 MB"):
        place.run("SELECT repeat('x', 100_000) FROM range(900)", limit=None)


def test_what_takes_too_long_is_interrupted(place: Place) -> None:
    brief = replace(LIMITS, seconds=0.1)
    for sql in (
        "SELECT count(*) FROM range(1_000_000_000_000) t(i) WHERE i % 7 = 9",
        "SELECT i, md5(i::VARCHAR) FROM range(1_000_000_000_000) t(i) WHERE i % 1_000_000 = 9",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
        "SELECT sleep_ms(60_000)",
        "SELECT pg_sleep(60)",
    ):
        with pytest.raises(QueryTimeout, match=r"longer than 0\.1s"):
            place.run(sql, limits=brief)


def test_what_needs_too_much_memory_is_refused(place: Place) -> None:
    with pytest.raises(QueryMemoryExceeded, match="100 MB"):
        place.run(
            "SELECT string_agg(md5(i::VARCHAR)) FROM range(30_000_000) t(i)",
            limits=replace(LIMITS, memory_bytes=10**8),
        )


def test_nothing_of_a_query_is_there_for_the_next(place: Place) -> None:
    with pytest.raises(QueryRefused):
        place.run("CREATE TEMP TABLE kept AS SELECT 1")
    with pytest.raises(QueryFailed):
        place.run("FROM kept")


# Errors


def test_a_mistake_is_shown_where_it_was_written(place: Place) -> None:
    with pytest.raises(QueryFailed) as caught:
        place.run("SELECT number\nFROM squares()\nWHERE colour = 1")
    assert 'column "colour" not found' in caught.value.detail
    assert "LINE 3: WHERE colour = 1" in caught.value.detail
    with pytest.raises(QueryFailed, match="out of apples"):
        place.run("SELECT error('out of apples')")


def test_rows_that_fail_late_fail_the_query(place: Place) -> None:
    with pytest.raises(QueryFailed, match="late"):
        place.run(
            "SELECT CASE WHEN i = 90_000 THEN error('late') ELSE i END FROM range(100_000) t(i)",
            limit=None,
            limits=replace(LIMITS, rows=200_000),
        )


def test_types_that_no_file_keeps_are_refused_with_the_cure(place: Place) -> None:
    with pytest.raises(QueryFailed, match=r"'b' is BIT.*cast it to VARCHAR"):
        place.run("SELECT '1'::BIT AS b")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UdfFailed("the moon is down"), UdfFailed),
        (InvalidParameters("rows: must be less"), InvalidParameters),
    ],
)
def test_a_udf_s_error_is_the_query_s_and_names_it(
    place: Place, error: Error, expected: type[Error]
) -> None:
    error.udf, error.run = "squares", "1"
    place.error = error
    with pytest.raises(expected) as caught:
        place.run("SELECT count(*) FROM squares()")
    assert caught.value.detail == f"squares: {error.detail}"
    assert caught.value.run is None


def test_what_is_no_fault_of_the_udf_s_stays_what_it_is(place: Place) -> None:
    place.error = StorageFull("the disk is full")
    with pytest.raises(StorageFull, match=r"^the disk is full"):
        place.run("FROM squares()")


def test_a_result_that_is_gone_is_told_without_its_place(place: Place) -> None:
    gone = place.folder / "gone.parquet"
    with pytest.raises(ServerBusy) as caught:
        run_query(place.asked("FROM squares()"), place.folder / "target", lambda *_: gone)
    assert str(place.folder) not in caught.value.detail


def test_a_dataset_that_cannot_be_read_is_told_without_its_place(place: Place) -> None:
    for location in (
        f"{place.folder}/gone/",
        f"{place.folder}/gone.csv",
        "http://127.0.0.1:1/a.csv",
    ):
        with pytest.raises(DatasetUnavailable) as caught:
            place.run("FROM taxi", lake=(Dataset("taxi", location),))
        assert caught.value.detail == "the dataset taxi cannot be read now"
        assert location.rstrip("/") in (caught.value.traceback or "")
