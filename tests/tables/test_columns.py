"""Every Arrow type is kept, or changed to one with the same values, or refused by name.

What is stored is read back by pyarrow and by DuckDB, and compared with what was given.
"""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from webfoot.errors import InvalidResult
from webfoot.tables.columns import fit, settle
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import write

if TYPE_CHECKING:
    from pathlib import Path

KEY = uuid.UUID(int=5)
TEXTS = pa.array(["x", "a text that is longer than a view holds inline", None])
INSTANT = 1_700_000_000


def codes(values: pa.Array, index: pa.DataType, *, ordered: bool = False) -> pa.Array:
    numbers = pa.array([*range(len(values) - 1), None], index)
    return pa.DictionaryArray.from_arrays(
        numbers, values.slice(0, len(values) - 1), ordered=ordered
    )


def runs(values: pa.Array) -> pa.Array:
    ends = pa.array([2 * n for n in range(1, len(values) + 1)], pa.int32())
    return pa.RunEndEncodedArray.from_arrays(ends, values)


def instants(unit: str, zone: str | None, extra: int = 0) -> pa.Array:
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    return pa.array([INSTANT * scale + extra, None], pa.timestamp(unit, zone))


def lists(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays([0, len(values), len(values)], values)


# What is given, what it is stored as, and what DuckDB calls it.
KEPT: dict[str, tuple[pa.Array, pa.DataType, str]] = {
    "null": (pa.nulls(2), pa.string(), "VARCHAR"),
    "bool": (pa.array([True, None]), pa.bool_(), "BOOLEAN"),
    "int8": (pa.array([-128, None], pa.int8()), pa.int8(), "TINYINT"),
    "int16": (pa.array([-(2**15), None], pa.int16()), pa.int16(), "SMALLINT"),
    "int32": (pa.array([-(2**31), None], pa.int32()), pa.int32(), "INTEGER"),
    "int64": (pa.array([-(2**63), None], pa.int64()), pa.int64(), "BIGINT"),
    "uint8": (pa.array([255, None], pa.uint8()), pa.uint8(), "UTINYINT"),
    "uint16": (pa.array([2**16 - 1, None], pa.uint16()), pa.uint16(), "USMALLINT"),
    "uint32": (pa.array([2**32 - 1, None], pa.uint32()), pa.uint32(), "UINTEGER"),
    "uint64": (pa.array([2**64 - 1, None], pa.uint64()), pa.uint64(), "UBIGINT"),
    "float16": (pa.array([1.5, None], pa.float16()), pa.float16(), "FLOAT"),
    "float32": (pa.array([0.1, None], pa.float32()), pa.float32(), "FLOAT"),
    "float64": (pa.array([0.1, float("inf"), None]), pa.float64(), "DOUBLE"),
    "decimal32": (
        pa.array([Decimal("1.25"), None], pa.decimal32(5, 2)),
        pa.decimal128(5, 2),
        "DECIMAL(5,2)",
    ),
    "decimal64": (
        pa.array([Decimal("1.25"), None], pa.decimal64(15, 2)),
        pa.decimal128(15, 2),
        "DECIMAL(15,2)",
    ),
    "decimal128": (
        pa.array([Decimal("9" * 36 + ".99"), None], pa.decimal128(38, 2)),
        pa.decimal128(38, 2),
        "DECIMAL(38,2)",
    ),
    "small decimal256": (
        pa.array([Decimal("1.25"), None], pa.decimal256(38, 2)),
        pa.decimal128(38, 2),
        "DECIMAL(38,2)",
    ),
    "decimal of thousands": (
        pa.array([Decimal(5000), None], pa.decimal128(5, -3)),
        pa.decimal128(8, 0),
        "DECIMAL(8,0)",
    ),
    "decimal of many places": (
        pa.array([5, None], pa.int8()).cast(pa.decimal128(3, 0)).view(pa.decimal128(3, 5)),
        pa.decimal128(5, 5),
        "DECIMAL(5,5)",
    ),
    "date32": (pa.array([datetime.date(1, 1, 1), None]), pa.date32(), "DATE"),
    "date64": (pa.array([datetime.date(9999, 12, 31), None], pa.date64()), pa.date32(), "DATE"),
    "time32 s": (pa.array([datetime.time(1, 2), None], pa.time32("s")), pa.time32("ms"), "TIME"),
    "time32 ms": (pa.array([datetime.time(1), None], pa.time32("ms")), pa.time32("ms"), "TIME"),
    "time64 us": (pa.array([datetime.time(1, 2, 3, 4), None]), pa.time64("us"), "TIME"),
    "time64 ns": (
        pa.array([datetime.time(1, 2, 3, 4), None], pa.time64("ns")),
        pa.time64("us"),
        "TIME",
    ),
    "timestamp s": (instants("s", None), pa.timestamp("ms"), "TIMESTAMP"),
    "timestamp ms": (instants("ms", None, 1), pa.timestamp("ms"), "TIMESTAMP"),
    "timestamp us": (instants("us", None, 1), pa.timestamp("us"), "TIMESTAMP"),
    "timestamp ns": (instants("ns", None, 1), pa.timestamp("ns"), "TIMESTAMP_NS"),
    "zoned s": (instants("s", "UTC"), pa.timestamp("ms", "UTC"), "TIMESTAMP WITH TIME ZONE"),
    "zoned ms": (instants("ms", "UTC", 1), pa.timestamp("ms", "UTC"), "TIMESTAMP WITH TIME ZONE"),
    "zoned us": (
        instants("us", "America/New_York", 1),
        pa.timestamp("us", "America/New_York"),
        "TIMESTAMP WITH TIME ZONE",
    ),
    "zoned ns": (
        instants("ns", "+02:00", 1000),
        pa.timestamp("us", "+02:00"),
        "TIMESTAMP WITH TIME ZONE",
    ),
    "string": (TEXTS, pa.string(), "VARCHAR"),
    "large string": (TEXTS.cast(pa.large_string()), pa.string(), "VARCHAR"),
    "string view": (TEXTS.cast(pa.string_view()), pa.string(), "VARCHAR"),
    "binary": (TEXTS.cast(pa.binary()), pa.binary(), "BLOB"),
    "large binary": (TEXTS.cast(pa.large_binary()), pa.binary(), "BLOB"),
    "binary view": (TEXTS.cast(pa.binary()).cast(pa.binary_view()), pa.binary(), "BLOB"),
    "fixed binary": (pa.array([b"\0y", None], pa.binary(2)), pa.binary(2), "BLOB"),
    "list": (
        pa.array([[1, None], [], None], pa.list_(pa.int8())),
        pa.list_(pa.int8()),
        "TINYINT[]",
    ),
    "large list": (
        pa.array([["x"], None], pa.large_list(pa.large_string())),
        pa.list_(pa.string()),
        "VARCHAR[]",
    ),
    "fixed list": (
        pa.array([[1, 2], None], pa.list_(pa.int32(), 2)),
        pa.list_(pa.int32(), 2),
        "INTEGER[]",
    ),
    "list view": (
        pa.array([[1, 2], [], None, [3]], pa.list_view(pa.int32())),
        pa.list_(pa.int32()),
        "INTEGER[]",
    ),
    "large list view": (
        pa.array([["x", "y"], None, ["z"]], pa.large_list_view(pa.string_view())),
        pa.list_(pa.string()),
        "VARCHAR[]",
    ),
    "list of nulls": (
        pa.array([[None], []], pa.list_(pa.null())),
        pa.list_(pa.string()),
        "VARCHAR[]",
    ),
    "list of decimals": (
        lists(pa.array([Decimal("1.5"), None], pa.decimal256(20, 1))),
        pa.list_(pa.decimal128(20, 1)),
        "DECIMAL(20,1)[]",
    ),
    "list of times": (
        lists(pa.array([datetime.time(1), None], pa.time64("ns"))),
        pa.list_(pa.time64("us")),
        "TIME[]",
    ),
    "list of lists of views": (
        pa.array([[["x"], None], None], pa.list_(pa.large_list(pa.string_view()))),
        pa.list_(pa.list_(pa.string())),
        "VARCHAR[][]",
    ),
    "struct": (
        pa.array([{"a": 1, "b": "x"}, {"a": None, "b": None}, None]),
        pa.struct({"a": pa.int64(), "b": pa.string()}),
        "STRUCT(a BIGINT, b VARCHAR)",
    ),
    "struct of large": (
        pa.array([{"a": "x"}, None], pa.struct({"a": pa.large_string()})),
        pa.struct({"a": pa.string()}),
        "STRUCT(a VARCHAR)",
    ),
    "struct of null": (
        pa.array([{"a": None}], pa.struct({"a": pa.null()})),
        pa.struct({"a": pa.string()}),
        "STRUCT(a VARCHAR)",
    ),
    "map": (
        pa.array([[("k", 1), ("l", None)], [], None], pa.map_(pa.string_view(), pa.int32())),
        pa.map_(pa.string(), pa.int32()),
        "MAP(VARCHAR, INTEGER)",
    ),
    "map of structs": (
        pa.array(
            [[(1, {"a": "x"})], None], pa.map_(pa.int8(), pa.struct({"a": pa.large_string()}))
        ),
        pa.map_(pa.int8(), pa.struct({"a": pa.string()})),
        "MAP(TINYINT, STRUCT(a VARCHAR))",
    ),
    "dictionary": (
        codes(TEXTS, pa.int8()),
        pa.dictionary(pa.int32(), pa.string()),
        "VARCHAR",
    ),
    "ordered dictionary": (
        codes(TEXTS, pa.uint64(), ordered=True),
        pa.dictionary(pa.int32(), pa.string(), ordered=True),
        "VARCHAR",
    ),
    "dictionary of views": (
        codes(TEXTS.cast(pa.string_view()), pa.uint32()),
        pa.dictionary(pa.int32(), pa.string()),
        "VARCHAR",
    ),
    "dictionary of nulls": (
        pa.DictionaryArray.from_arrays(pa.array([None], pa.int8()), pa.nulls(0)),
        pa.dictionary(pa.int32(), pa.string()),
        "VARCHAR",
    ),
    "dictionary of numbers": (codes(pa.array([1, 2, 3]), pa.int8()), pa.int64(), "BIGINT"),
    "dictionary of bools": (codes(pa.array([True, False, None]), pa.int8()), pa.bool_(), "BOOLEAN"),
    "dictionary of instants": (
        codes(instants("s", None), pa.int8()),
        pa.timestamp("ms"),
        "TIMESTAMP",
    ),
    "list of dictionaries": (
        lists(codes(TEXTS, pa.int8())),
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
        "VARCHAR[]",
    ),
    "run ends": (runs(TEXTS), pa.string(), "VARCHAR"),
    "run ends of times": (
        runs(instants("s", "UTC")),
        pa.timestamp("ms", "UTC"),
        "TIMESTAMP WITH TIME ZONE",
    ),
    "list of run ends": (lists(runs(TEXTS)), pa.list_(pa.string()), "VARCHAR[]"),
    "uuid": (pa.array([KEY.bytes, None], pa.uuid()), pa.uuid(), "UUID"),
    "list of uuids": (lists(pa.array([KEY.bytes], pa.uuid())), pa.list_(pa.uuid()), "UUID[]"),
    "json": (
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', None])),
        pa.json_(),
        "JSON",
    ),
    "bool8": (
        pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None], pa.int8())),
        pa.bool_(),
        "BOOLEAN",
    ),
    "tensor": (
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.int32(), [2]), pa.array([[1, 2]], pa.list_(pa.int32(), 2))
        ),
        pa.list_(pa.int32(), 2),
        "INTEGER[]",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_type_is_kept_with_its_values(name: str, tmp_path: Path) -> None:
    given, kept, in_duckdb = KEPT[name]
    path = tmp_path / "kept.parquet"
    draft = write(to_batches(pa.table({"c": given})), path)
    stored = pq.read_table(path)["c"]
    assert settle(pa.schema({"c": given.type})).field("c").type == kept
    assert draft.columns[0].type == str(kept)
    assert stored.type == kept
    assert stored.to_pylist() == given.to_pylist()
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        relation = con.sql(f"FROM '{path}'")
        assert [str(kind) for kind in relation.types] == [in_duckdb]
        read = relation.to_arrow_table()["c"].to_pylist()
    assert read == [_as_duckdb_says(value) for value in given.to_pylist()]


def _as_duckdb_says(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, list):
        return [_as_duckdb_says(item) for item in value]
    return value


# pyarrow makes no struct of runs.
@pytest.mark.parametrize(
    "name", [name for name in KEPT if not pa.types.is_run_end_encoded(KEPT[name][0].type)]
)
def test_a_type_is_kept_inside_a_struct_in_a_list(name: str, tmp_path: Path) -> None:
    given, kept, in_duckdb = KEPT[name]
    nested = lists(pa.StructArray.from_arrays([given], names=["v"]))
    path = tmp_path / "kept.parquet"
    write(to_batches(pa.table({"c": nested})), path)
    stored = pq.read_table(path)["c"]
    assert stored.type == pa.list_(pa.struct({"v": kept}))
    assert stored.to_pylist() == nested.to_pylist()
    with duckdb.connect() as con:
        assert str(con.sql(f"FROM '{path}'").types[0]) == f"STRUCT(v {in_duckdb})[]"


def test_all_types_go_into_one_file(tmp_path: Path) -> None:
    table = pa.table({name: given.slice(0, 1) for name, (given, _, _) in KEPT.items()})
    path = tmp_path / "all.parquet"
    assert len(write(to_batches(table), path).columns) == len(KEPT)
    assert pq.read_table(path).to_pylist() == table.to_pylist()
    with duckdb.connect() as con:
        assert con.sql(f"SELECT count(*) FROM '{path}'").fetchone() == (1,)


REFUSED: dict[str, tuple[pa.Array, str]] = {
    "duration": (pa.array([datetime.timedelta(1)]), "column 'c' is a duration .* return seconds"),
    "interval": (
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        "column 'c' is an interval .* return seconds",
    ),
    "union": (
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
        "column 'c' is a union .* return one type",
    ),
    "decimal256": (
        pa.array([Decimal(1)], pa.decimal256(39, 2)),
        r"column 'c' is decimal256\(39, 2\): more than 38 digits .* cast it to decimal128",
    ),
    "decimal of too many thousands": (
        pa.array([Decimal(1000)], pa.decimal128(37, -3)),
        "more than 38 digits",
    ),
    "struct without fields": (
        pa.array([{}], pa.struct([])),
        "column 'c' is a struct without fields",
    ),
    "struct with a field twice": (
        pa.StructArray.from_arrays([pa.array([1])] * 2, ["a", "A"]),
        "2 fields of column 'c' share a name: 'a', 'A'",
    ),
    "struct with a nameless field": (
        pa.StructArray.from_arrays([pa.array([1])], [""]),
        "one of the fields of column 'c' has an empty name",
    ),
    "nanoseconds of a time": (
        pa.array([1], pa.time64("ns")),
        "column 'c' is .* lose data.* cast it to that first",
    ),
    "nanoseconds of a zoned instant": (instants("ns", "UTC", 1), "column 'c' .* lose data"),
    "instant past all milliseconds": (pa.array([2**62], pa.timestamp("s")), "column 'c'"),
    "opaque": (
        pa.ExtensionArray.from_storage(pa.opaque(pa.int64(), "money", "db"), pa.array([1])),
        "column 'c' is .*cast it to one that it has",
    ),
    "in a list": (pa.array([[datetime.timedelta(1)]]), r"column 'c\[\]' is a duration"),
    "in a struct": (pa.array([{"a": datetime.timedelta(1)}]), "column 'c.a' is a duration"),
    "in a map": (
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.duration("s"))),
        r"column 'c\[value\]' is a duration",
    ),
    "in a dictionary": (
        pa.array([datetime.timedelta(1)]).dictionary_encode(),
        "column 'c' is a duration",
    ),
    "in runs": (runs(pa.array([datetime.timedelta(1)])), "column 'c' is a duration"),
    "in an extension": (
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.duration("s"), [1]),
            pa.array([[1]], pa.list_(pa.duration("s"), 1)),
        ),
        r"column 'c\[\]' is a duration",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_type_that_would_be_bent_is_refused(name: str, tmp_path: Path) -> None:
    given, message = REFUSED[name]
    with pytest.raises(InvalidResult, match=message):
        write(to_batches(pa.table({"c": given})), tmp_path / "refused.parquet")


def test_a_null_in_a_column_that_must_have_none_is_refused(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("c", pa.int64(), nullable=False)])
    table = pa.table({"c": [1, None]}, schema=schema)
    with pytest.raises(InvalidResult, match="'c' is declared non-nullable but contains nulls"):
        write(to_batches(table), tmp_path / "refused.parquet")


def test_names_that_only_differ_in_case_are_refused() -> None:
    for names in (["a", "A"], ["ß", "SS"], ["x", "x", "y"]):
        with pytest.raises(InvalidResult, match="2 columns share a name"):
            settle(pa.schema([(name, pa.int64()) for name in names]))
    with pytest.raises(InvalidResult, match="one of the columns has an empty name"):
        settle(pa.schema([("", pa.int64())]))
    with pytest.raises(InvalidResult, match="no columns"):
        settle(pa.schema([]))


def test_only_geometry_is_kept_of_the_metadata() -> None:
    schema = pa.schema({"a": pa.int64()}, {"pandas": "{}", "geo": "{}", "mine": "x"})
    assert settle(schema).metadata == {b"geo": b"{}"}
    assert settle(pa.schema({"a": pa.int64()}, {"pandas": "{}"})).metadata is None


def test_settling_twice_changes_nothing() -> None:
    schema = settle(pa.schema([(name, given.type) for name, (given, _, _) in KEPT.items()]))
    assert settle(schema).equals(schema)


def test_a_batch_that_fits_is_passed_on_as_it_is() -> None:
    batch = pa.record_batch({"a": [1]})
    assert fit(batch, batch.schema) is batch
