"""Stitched tables have their inputs, all their rows, and types that hold every value."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webfoot.errors import InvalidResult
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import write
from webfoot.tables.stitching import Part, combine, stitch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def parts_of(folder: Path, *pairs: tuple[Mapping[str, Any], pa.Table | str]) -> list[Part]:
    """Parts with files; a text is the message of an input that failed."""
    parts = []
    for number, (values, table) in enumerate(pairs):
        if isinstance(table, str):
            parts.append(Part(values, problem={"detail": table}))
            continue
        path = folder / f"{number}.parquet"
        write(to_batches(table), path)
        parts.append(Part(values, path))
    return parts


def stitched(folder: Path, parts: Sequence[Part], *, errors: bool = False) -> pa.Table:
    stitch(parts, folder / "whole.parquet", errors=errors)
    return pq.read_table(folder / "whole.parquet")


@given(
    tables=st.lists(
        st.lists(st.tuples(st.none() | st.integers(-9, 9), st.none() | st.text(max_size=3))),
        max_size=5,
    )
)
def test_files_and_tables_in_memory_give_the_same(
    tables: list[list[tuple[int | None, str | None]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    schema = pa.schema({"a": pa.int64(), "b": pa.string()})
    made = [
        pa.table({"a": [row[0] for row in rows], "b": [row[1] for row in rows]}, schema=schema)
        for rows in tables
    ]
    inputs = [{"n": number, "a": str(number)} for number in range(len(made))]
    folder = tmp_path_factory.mktemp("stitching")
    pairs = list(zip(inputs, made, strict=True))
    whole = combine(inputs, made)
    expected = [
        {"n": number, "input_a": str(number), "a": a, "b": b}
        for number, rows in enumerate(tables)
        for a, b in rows
    ]
    assert whole.to_pylist() == expected
    if pairs:
        found = stitched(folder, parts_of(folder, *pairs)).replace_schema_metadata()
        assert found.equals(whole)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (pa.array([1]), pa.array([1.5]), [1.0, 1.5]),
        (pa.array([1], pa.int8()), pa.array([300], pa.int32()), [1, 300]),
        (pa.array([None]), pa.array([1]), [None, 1]),
        (pa.array([None], pa.string()), pa.array([1]), [None, 1]),
        (pa.array([], pa.string()), pa.array([1]), [1]),
        (pa.array(["a"]), pa.array([None]), ["a", None]),
        (
            pa.array([Decimal("1.5")]),
            pa.array([Decimal("22.25")]),
            [Decimal("1.50"), Decimal("22.25")],
        ),
        (pa.array([[1]]), pa.array([[1.5]]), [[1.0], [1.5]]),
    ],
)
def test_types_meet_in_one_that_holds_both(
    first: pa.Array, second: pa.Array, together: list[Any], tmp_path: Path
) -> None:
    tables = [pa.table({"a": column}) for column in (first, second)]
    assert combine([{}, {}], tables).column("a").to_pylist() == together
    found = stitched(tmp_path, parts_of(tmp_path, *(({}, table) for table in tables)))
    assert found.column("a").to_pylist() == together


@pytest.mark.parametrize("between", [[], [pa.table({"b": [1]})], [pa.table({"a": [None]})]])
def test_types_that_cannot_meet_are_named(between: list[pa.Table]) -> None:
    tables = [pa.table({"a": [1]}), *between, pa.table({"a": ["x"]})]
    with pytest.raises(InvalidResult, match="column 'a' is int64 for one input and string for an"):
        combine([{}] * len(tables), tables)


def test_a_column_that_some_lack_is_null_there(tmp_path: Path) -> None:
    tables = [pa.table({"a": [1]}), pa.table({"b": ["x"], "a": [2]})]
    expected = {"n": [1, 2], "a": [1, 2], "b": [None, "x"]}
    assert combine([{"n": 1}, {"n": 2}], tables).to_pydict() == expected
    parts = parts_of(tmp_path, ({"n": 1}, tables[0]), ({"n": 2}, tables[1]))
    assert stitched(tmp_path, parts).to_pydict() == expected


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "int64"),
        ([True, None], "bool"),
        (["a", None], "string"),
        ([datetime.date(2024, 1, 1)], "date32[day]"),
        ([datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)], "timestamp[us, tz=UTC]"),
        ([Decimal("1.50")], "decimal128(3, 2)"),
        ([[1, 2], []], "list<item: int64>"),
        ([None, None], "string"),
        ([1, "a"], "string"),
        ([{}, {}], "string"),
        ([2**70], "string"),
        ([datetime.timedelta(1)], "string"),
    ],
)
def test_inputs_have_types_that_duckdb_reads(values: list[Any], kind: str, tmp_path: Path) -> None:
    table = pa.table({"a": [1]})
    parts = parts_of(tmp_path, *(({"v": value}, table) for value in values))
    found = stitched(tmp_path, parts)
    assert str(found.schema.field("v").type).replace("element", "item") == kind
    path = tmp_path / "whole.parquet"
    assert duckdb.sql(f"SELECT count(*) FROM '{path}'").fetchone() == (len(values),)


def test_an_input_that_fails_has_a_row_with_its_message(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2], "_error": ["own", "own"]})
    parts = parts_of(tmp_path, ({"n": 1}, table), ({"n": 2}, "no luck"))
    found = stitched(tmp_path, parts, errors=True)
    assert found.column_names == ["n", "a", "_error", "_error_"]
    assert found.column("_error_").to_pylist() == [None, None, "no luck"]
    assert found.column("n").to_pylist() == [1, 1, 2]
    assert found.column("a").to_pylist() == [1, 2, None]


def test_columns_that_hold_no_null_may_when_an_input_failed(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    parts = parts_of(tmp_path, ({}, pa.table({"a": [1]}, schema=schema)), ({}, "no"))
    assert stitched(tmp_path, parts, errors=True).column("a").to_pylist() == [1, None]


def test_when_every_input_failed_their_messages_are_the_table(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, ({"n": 1}, "no"), ({"n": 2}, "neither"))
    found = stitched(tmp_path, parts, errors=True)
    assert found.to_pydict() == {"n": [1, 2], "_error": ["no", "neither"]}


def test_what_came_of_each_input_is_in_the_metadata(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2]})
    found = stitched(tmp_path, parts_of(tmp_path, ({"n": 1}, table), ({"n": 2}, "no")), errors=True)
    assert json.loads(found.schema.metadata[b"webfoot"]) == {
        "inputs": [{"rows": 2}, {"problem": {"detail": "no"}}],
        "columns": {"n": "input_n"},
    }


def test_the_same_parts_have_the_same_bytes(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, *(({"n": n}, pa.table({"a": [n] * n})) for n in range(50)))
    drafts = [stitch(parts, tmp_path / name, errors=False) for name in ("a", "b")]
    assert drafts[0] == drafts[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_where_a_geometry_is_survives_if_all_say_the_same(tmp_path: Path) -> None:
    geo = {b"geo": json.dumps({"columns": {"a": {}}, "primary_column": "a"}).encode()}
    table = pa.table({"a": [b"x"]}).replace_schema_metadata(geo)
    found = stitched(tmp_path, parts_of(tmp_path, ({}, table), ({}, table)))
    assert found.schema.metadata[b"geo"] == geo[b"geo"]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (
            [datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 2, 3, tzinfo=datetime.UTC)],
            ['"2024-01-01"', '"2024-01-02 03:00:00+00:00"'],
        ),
        (
            [datetime.time(1), datetime.time(1, tzinfo=datetime.UTC)],
            ['"01:00:00"', '"01:00:00+00:00"'],
        ),
        ([True, 1], ["true", "1"]),
    ],
)
def test_inputs_that_no_type_holds_whole_are_json(values: list[Any], texts: list[str]) -> None:
    inputs, tables = [{"v": value} for value in values], [pa.table({"a": [1]})] * len(values)
    assert combine(inputs, tables).column("v").to_pylist() == texts


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([2**53 + 1]), pa.array([0.5])),
        (pa.array([2**63], pa.uint64()), pa.array([-1])),
    ],
)
def test_a_value_that_would_change_is_refused_with_its_column(
    first: pa.Array, second: pa.Array
) -> None:
    with pytest.raises(InvalidResult, match=r"column 'a' is u?int64 for one input"):
        combine([{}, {}], [pa.table({"a": first}), pa.table({"a": second})])


def test_a_column_without_nulls_that_an_input_lacks_may_have_nulls(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("a", pa.int64()), pa.field("b", pa.int64(), nullable=False)])
    tables = [pa.table({"a": [1], "b": [1]}, schema=schema), pa.table({"a": [2]})]
    assert combine([{}, {}], tables).column("b").to_pylist() == [1, None]
    parts = parts_of(tmp_path, *(({}, table) for table in tables))
    assert stitched(tmp_path, parts).column("b").to_pylist() == [1, None]


def test_an_input_that_differs_from_a_column_by_case_only_has_another_name() -> None:
    assert combine([{"N": 1}], [pa.table({"n": [2]})]).column_names == ["input_N", "n"]


def test_small_files_of_large_tables_are_read_row_group_by_row_group(tmp_path: Path) -> None:
    table = pa.table({"a": pa.repeat(7, 300_000)})
    parts = parts_of(tmp_path, *(({"n": n}, table) for n in range(3)))
    draft = stitch(parts, tmp_path / "whole", errors=False)
    file = pq.ParquetFile(tmp_path / "whole")
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert (draft.rows, groups) == (900_000, [122_880, 122_880, 54_240] * 3)


def test_the_metadata_tell_errors_in_brief(tmp_path: Path) -> None:
    problem = {
        "code": "invalid-parameters",
        "detail": "x" * 5_000_000,
        "errors": [{"parameter": str(n)} for n in range(1000)],
        "failures": ["y" * 1_000_000],
    }
    stitch([Part({"n": 1}, problem=problem)], tmp_path / "whole", errors=False)
    note = json.loads(pq.read_schema(tmp_path / "whole").metadata[b"webfoot"])
    (brief,) = (outcome["problem"] for outcome in note["inputs"])
    assert len(brief["detail"]) < 1_100
    assert (len(brief["errors"]), "failures" in brief) == (10, False)
