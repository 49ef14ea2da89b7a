"""Whatever a UDF returns becomes the same table, or a message that says what to change."""

from __future__ import annotations

import datetime
import enum
import gc
import subprocess
import sys
import tracemalloc
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path  # noqa: TC003  # pytest resolves it
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from webfoot.database.calls import CallDatabase
from webfoot.errors import InvalidResult
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import ROWS_A_GROUP, write

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers

GB = 1_000_000_000

Stored = Callable[..., pa.Table]


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """What the result's file holds."""

    def store(value: object, returns: object = None) -> pa.Table:
        path = tmp_path / f"{uuid.uuid4()}.parquet"
        write(to_batches(value, returns), path)
        return pq.read_table(path)

    return store


class Row(NamedTuple):
    number: int
    text: str | None
    ratio: float
    flag: bool
    day: datetime.date
    instant: datetime.datetime


@dataclass
class DataRow:
    number: int
    text: str | None
    ratio: float
    flag: bool
    day: datetime.date
    instant: datetime.datetime


class ModelRow(BaseModel):
    number: int
    text: str | None
    ratio: float
    flag: bool
    day: datetime.date
    instant: datetime.datetime


class TypedRow(TypedDict):
    number: int
    text: str | None
    ratio: float
    flag: bool
    day: datetime.date
    instant: datetime.datetime


UTC = datetime.UTC
ROWS = [
    Row(
        number=n,
        text=None if n == 1 else f"text {n}",
        ratio=n / 4,
        flag=n % 2 == 0,
        day=datetime.date(2024, 1, 1 + n),
        instant=datetime.datetime(2024, 1, 1, n, 0, 0, 5, tzinfo=UTC),
    )
    for n in range(4)
]
DICTS = [row._asdict() for row in ROWS]
COLUMNS = {name: [row[name] for row in DICTS] for name in Row._fields}
SCHEMA = pa.schema(
    {
        "number": pa.int64(),
        "text": pa.string(),
        "ratio": pa.float64(),
        "flag": pa.bool_(),
        "day": pa.date32(),
        "instant": pa.timestamp("us", "UTC"),
    }
)
TABLE = pa.Table.from_pylist(DICTS, schema=SCHEMA)
LARGE = TABLE.cast(SCHEMA.set(1, pa.field("text", pa.large_string())))
FRAME = TABLE.to_pandas()


class OnlyStream:
    """A table of a library that Webfoot has never heard of."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


def in_batches(rows: int) -> Iterator[pa.RecordBatch]:
    yield from TABLE.to_batches(max_chunksize=rows)


KINDS: dict[str, Callable[[], object]] = {
    "table": lambda: TABLE,
    "table in pieces": lambda: pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)]),
    "table of large strings": lambda: LARGE,
    "table with metadata": lambda: TABLE.replace_schema_metadata({"pandas": "x"}),
    "record batch": lambda: TABLE.combine_chunks().to_batches()[0],
    "record batch reader": TABLE.to_reader,
    "any stream": OnlyStream,
    "polars": lambda: pl.DataFrame(COLUMNS),
    "pandas": lambda: FRAME,
    "pandas with nullable types": FRAME.convert_dtypes,
    "pandas with arrow types": lambda: TABLE.to_pandas(types_mapper=pd.ArrowDtype),
    "dicts": lambda: DICTS,
    "tuple of dicts": lambda: tuple(DICTS),
    "named tuples": lambda: ROWS,
    "dataclasses": lambda: [DataRow(**row) for row in DICTS],
    "models": lambda: [ModelRow(**row) for row in DICTS],
    "typed dicts": lambda: [TypedRow(**row) for row in DICTS],  # type: ignore[typeddict-item]
    "columns": lambda: COLUMNS,
    "columns of arrays": lambda: {name: TABLE[name] for name in TABLE.column_names},
    "columns of numpy": lambda: COLUMNS | {"number": np.arange(4), "ratio": np.arange(4) / 4},
    "columns of pandas": lambda: {name: FRAME[name] for name in FRAME},
    "columns of polars": lambda: {name: pl.Series(name, COLUMNS[name]) for name in COLUMNS},
    "generator of batches": lambda: in_batches(1),
    "generator of tables": lambda: iter([TABLE.slice(0, 2), LARGE.slice(2)]),
    "generator of frames": lambda: iter([FRAME.iloc[:2], FRAME.iloc[2:]]),
    "generator of dicts": lambda: iter(DICTS),
    "generator of dataclasses": lambda: (DataRow(**row) for row in DICTS),
    "generator of lists": lambda: iter([DICTS[:3], DICTS[3:]]),
    "generator of columns": lambda: iter([COLUMNS]),
    "generator of readers": lambda: iter(
        [TABLE.slice(0, 2).to_reader(), TABLE.slice(2).to_reader()]
    ),
    "list of batches": lambda: list(in_batches(2)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_result_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    expected = write(to_batches(TABLE), tmp_path / "expected.parquet")
    draft = write(to_batches(KINDS[kind]()), tmp_path / "draft.parquet")
    assert draft == expected
    assert (tmp_path / "draft.parquet").read_bytes() == (tmp_path / "expected.parquet").read_bytes()
    assert pq.read_table(tmp_path / "draft.parquet").equals(TABLE)


@pytest.mark.parametrize(
    "give",
    [
        lambda con: con.sql("FROM given"),
        lambda con: con.execute("FROM given"),
        lambda con: con.sql("FROM given").to_arrow_reader(),
    ],
    ids=["relation", "connection", "reader"],
)
def test_every_kind_of_duckdb_result_gives_the_same_bytes(
    give: Callable[[duckdb.DuckDBPyConnection], object], tmp_path: Path
) -> None:
    expected = write(to_batches(TABLE), tmp_path / "expected.parquet")
    with CallDatabase(tmp_path / "spill") as database, database.connection(GB) as con:
        con.register("given", TABLE)
        assert write(to_batches(give(con)), tmp_path / "draft.parquet") == expected


def test_sql_runs_on_the_session(tmp_path: Path) -> None:
    with CallDatabase(tmp_path / "spill") as database, database.connection(GB) as con:
        con.execute("CREATE TABLE mine AS FROM range(3) t(n)")
        path = tmp_path / "draft.parquet"
        write(to_batches("SELECT n, n + 1 AS next FROM mine", query=con.sql), path)
    assert pq.read_table(path).to_pydict() == {"n": [0, 1, 2], "next": [1, 2, 3]}


def test_sql_without_a_session_is_refused() -> None:
    with pytest.raises(InvalidResult, match="no DuckDB session"):
        to_batches("SELECT 1")


def test_sql_that_makes_no_table_is_refused() -> None:
    with duckdb.connect() as con, pytest.raises(InvalidResult, match="let it end with a SELECT"):
        to_batches("CREATE TABLE t(a INT)", query=con.sql)


def test_a_query_is_read_as_it_runs() -> None:
    """A hundred million rows are not made to read the first."""
    with duckdb.connect() as con:
        con.execute("SET memory_limit = '200MB'; SET threads = 1; SET temp_directory = ''")
        stream = to_batches(
            "SELECT n, hash(n) AS h FROM range(100_000_000) t(n)", query=con.sql
        ).stream
        assert 0 < len(next(stream)) <= ROWS_A_GROUP


SCALARS: list[tuple[object, object]] = [
    (7, 7),
    (1.5, 1.5),
    (True, True),
    (b"\0x", b"\0x"),
    (Decimal("1.20"), Decimal("1.20")),
    (datetime.date(2024, 2, 29), datetime.date(2024, 2, 29)),
    (datetime.time(1, 2), datetime.time(1, 2)),
    (np.int8(3), 3),
    (np.float32(0.5), 0.5),
    (pd.Timestamp("2024-01-01"), datetime.datetime(2024, 1, 1)),  # noqa: DTZ001  # it has no zone
    (uuid.UUID(int=5), uuid.UUID(int=5)),
    (enum.Enum("Colour", {"RED": "red"}).RED, "red"),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize(("scalar", "value"), SCALARS, ids=lambda x: type(x).__name__)
def test_a_scalar_is_one_row(scalar: object, value: object, stored: Stored) -> None:
    assert stored(scalar).to_pydict() == {"value": [value]}


def test_single_rows(stored: Stored) -> None:
    expected = TABLE.slice(0, 1)
    for row in (DICTS[0], ROWS[0], DataRow(**DICTS[0]), ModelRow(**DICTS[0])):
        assert stored(row).equals(expected)


def test_single_columns_are_called_value_unless_they_have_a_name(stored: Stored) -> None:
    unnamed = (
        [1, 2],
        (1, 2),
        {1, 2},
        iter([1, 2]),
        np.array([1, 2]),
        pa.array([1, 2]),
        pa.chunked_array([[1], [2]]),
        pl.Series([1, 2]),
        pd.Series([1, 2]),
    )
    for column in unnamed:
        assert stored(column).to_pydict() == {"value": [1, 2]}
    assert stored(pl.Series("n", [1, 2])).column_names == ["n"]
    assert stored(pd.Series([1, 2], name="n")).column_names == ["n"]
    assert stored(pd.Series([1, 2], name=0)).column_names == ["0"]


def test_a_generator_of_texts_is_a_column_as_a_list_of_texts_is(stored: Stored) -> None:
    assert stored(iter(["a", "b"])).equals(stored(["a", "b"]))


REFUSED: list[tuple[object, str]] = [
    (None, "did you forget `return`"),
    (object(), "it returned an object, which is no table"),
    (pl.LazyFrame({"a": [1]}), "it returned a LazyFrame, which is no table"),
    (len, "which is no table"),
    ([], "empty list, which has no columns"),
    ({}, "has no columns"),
    (iter(()), "yielded nothing"),
    (pa.table({}), "has no columns"),
    (pd.DataFrame(index=[1, 2]), "has no columns"),
    ([{"a": 1}, 5], "mixes rows with single values"),
    ([5, {"a": 1}], "mixes rows with single values"),
    ([{"a": 1}, {"a": "x"}], "column 'a'"),
    ([{"a": 2**70}, {"a": 1}], "column 'a'"),
    ([{"a": object()}], "column 'a'"),
    ({"a": [1, 2], "b": [1]}, r"not equally long \(a: 2, b: 1\)"),
    ({"a": [1, 2], "b": 5}, r"not equally long \(a: 2, b: a single value\).*in a list"),
    ({"a": np.zeros((2, 2))}, "column 'a'"),
    ([{"a": datetime.timedelta(1)}], "column 'a' is a duration"),
    ([{"a": {}}], "column 'a' is a struct without fields"),
    ([{"a": 1, "A": 2}], "2 columns share a name: 'a', 'A'"),
    ([{"": 1}], "empty name"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "2 columns share a name: 'a', 'a'"),
    (pd.DataFrame([[1, 2]], columns=["1", 1]), "2 columns share a name: '1', '1'"),
    (pd.DataFrame({"a": [1, "x"]}), "column a .*astype"),
    (pd.DataFrame({"a": [object()]}), "column a .*astype"),
    (pd.DataFrame({"a": pd.to_timedelta([1], unit="s")}), "column 'a' is a duration"),
    (
        pd.DataFrame({"a": pd.period_range("2024", periods=1, freq="M")}),
        "column 'a' .*to_timestamp",
    ),
    (pd.DataFrame({"a": [1j]}), "complex"),
    (pl.DataFrame({"a": [datetime.timedelta(1)]}), "column 'a' is a duration"),
]


@pytest.mark.parametrize(
    ("value", "message"), REFUSED, ids=lambda x: x if isinstance(x, str) else ""
)
def test_what_is_no_table_is_refused_with_its_column(
    value: object, message: str, stored: Stored
) -> None:
    with pytest.raises(InvalidResult, match=message):
        stored(value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("'12:00+02'::TIMETZ", "column 'a' is TIME WITH TIME ZONE: .*cast it to TIME"),
        ("'101'::BIT", "column 'a' is BIT: .*cast it to VARCHAR"),
        ("INTERVAL 1 DAY", "column 'a' is an interval"),
        ("union_value(x := 1)", "column 'a' is a union"),
        ("12::BIGNUM", "column 'a' is .*opaque"),
        ("1 AS b, 2", "2 columns share a name"),
    ],
)
def test_what_arrow_would_bend_is_refused(expression: str, message: str, stored: Stored) -> None:
    name = "b" if expression.startswith("1 AS") else "a"
    with duckdb.connect() as con, pytest.raises(InvalidResult, match=message):
        stored(con.sql(f"SELECT {expression} AS {name}"))


def test_a_query_that_fails_on_its_way_says_why(stored: Stored) -> None:
    query = (
        "SELECT CASE WHEN n > 200000 THEN error('no such day') ELSE n END FROM range(300000) t(n)"
    )
    with duckdb.connect() as con, pytest.raises(Exception, match="no such day"):
        stored(con.sql(query))


# --- pandas ---


def test_an_index_is_kept_only_if_it_has_a_name(stored: Stored) -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=[7, 8])
    assert stored(frame).to_pydict() == {"a": [1, 2]}
    assert stored(frame.rename_axis("key")).to_pydict() == {"a": [1, 2], "key": [7, 8]}
    assert stored(frame["a"].rename_axis("key")).to_pydict() == {"a": [1, 2], "key": [7, 8]}
    ranged = pd.DataFrame({"a": [1, 2]}).rename_axis("key")
    assert stored(ranged).to_pydict() == {"a": [1, 2], "key": [0, 1]}


def test_levels_without_a_name_are_left_out(stored: Stored) -> None:
    index = pd.MultiIndex.from_tuples([(1, "x", 5), (2, "y", 6)], names=["one", None, 0])
    frame = pd.DataFrame({"a": [1, 2]}, index=index)
    assert stored(frame).to_pydict() == {"a": [1, 2], "one": [1, 2], "0": [5, 6]}


def test_an_index_named_like_a_column_is_refused(stored: Stored) -> None:
    frame = pd.DataFrame({"a": [1, 2]}).rename_axis("A")
    with pytest.raises(InvalidResult, match="share a name"):
        stored(frame)


def test_column_names_become_texts(stored: Stored) -> None:
    assert stored(pd.DataFrame([[1, 2, 3]], columns=[1, "b", None])).column_names == [
        "1",
        "b",
        "None",
    ]
    columns = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])
    names = stored(pd.DataFrame([[1, 2]], columns=columns)).column_names
    assert names == ["('a', 'x')", "('a', 'y')"]


def test_the_callers_frame_is_not_modified(stored: Stored) -> None:
    index = pd.MultiIndex.from_tuples([(1, 2), (3, 4)], names=[5, None])
    for given in (None, pd.Index([7, 8], name=5), index):
        frame = pd.DataFrame([[1, "x"], [2, "y"]], columns=[1, "b"], index=given)
        before = frame.copy()
        stored(frame)
        pd.testing.assert_frame_equal(frame, before)
        assert list(frame.columns) == [1, "b"]
        assert list(frame.index.names) == list(before.index.names)


def test_pandas_types(stored: Stored) -> None:
    frame = pd.DataFrame(
        {
            "int": pd.array([1, None], dtype="Int8"),
            "bool": pd.array([True, None], dtype="boolean"),
            "text": pd.array(["a", None], dtype="string"),
            "category": pd.Categorical(["b", "a"], categories=["a", "b", "unused"], ordered=True),
            "nan": [float("nan"), 1.0],
            "day": pd.Series(["2024-01-01", None], dtype="datetime64[us]"),
            "zoned": pd.Series(["2024-01-01", None], dtype="datetime64[us]").dt.tz_localize(
                "Europe/Berlin"
            ),
            "interval": pd.interval_range(0, 2),
            "nested": [[1, 2], None],
            "empty": [None, None],
        }
    )
    table = stored(frame)
    types = {field.name: str(field.type) for field in table.schema}
    assert types["int"] == "int8"
    assert types["bool"] == "bool"
    assert types["text"] == types["empty"] == "string"
    assert types["category"] == "dictionary<values=string, indices=int32, ordered=1>"
    assert types["zoned"] == "timestamp[us, tz=Europe/Berlin]"
    assert types["interval"] == "struct<left: int64, right: int64>"
    assert types["nested"] == "list<element: int64>"
    assert table["int"].to_pylist() == [1, None]
    assert table["category"].to_pylist() == ["b", "a"]
    assert table["nan"].to_pylist() == [None, 1.0]
    assert table["day"].null_count == table["zoned"].null_count == 1


def test_a_class_built_on_a_frame_is_one(stored: Stored) -> None:
    class Frame(pd.DataFrame):
        pass

    assert stored(Frame({"a": [1]}, index=[9])).to_pydict() == {"a": [1]}


def test_a_frame_of_no_rows_keeps_its_columns(stored: Stored) -> None:
    assert stored(FRAME.drop(columns="day").iloc[:0]).schema.equals(SCHEMA.remove(4))
    assert stored(TABLE.slice(0, 0)).schema.equals(SCHEMA)
    assert stored(pl.DataFrame(TABLE).head(0)).schema.equals(SCHEMA)


# --- polars ---


def test_polars_types(stored: Stored) -> None:
    frame = pl.DataFrame(
        {
            "category": pl.Series(["b", "a", None], dtype=pl.Categorical),
            "enum": pl.Series(["x", "y", None], dtype=pl.Enum(["y", "x"])),
            "text": ["a", "a text that is too long to be inline", None],
            "bytes": [b"a", b"bytes that are too long to be inline", None],
            "time": [datetime.time(1, 2, 3, 4), None, None],
            "decimal": pl.Series([Decimal("1.20"), None, None], dtype=pl.Decimal(10, 2)),
            "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int8, 2)),
            "nested": [[{"a": ["x"]}], [], None],
            "categories": pl.Series([["b"], [], None], dtype=pl.List(pl.Categorical)),
            "null": [None, None, None],
        }
    )
    table = stored(frame)
    assert table.to_pylist() == frame.to_dicts()
    types = {field.name: field.type for field in table.schema}
    texts = pa.dictionary(pa.int32(), pa.string())
    assert types["category"] == texts
    assert types["enum"].value_type == pa.string()
    assert types["categories"] == pa.list_(texts)
    assert types["time"] == pa.time64("us")
    assert types["null"] == pa.string()


# --- rows ---


def test_a_missing_key_is_a_null(stored: Stored) -> None:
    rows = [{"a": 1}, {"b": "x"}, {"a": 3, "b": "y"}]
    expected = {"a": [1, None, 3], "b": [None, "x", "y"]}
    assert stored(rows).to_pydict() == expected
    assert stored(iter(rows)).to_pydict() == expected


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Place:
    name: str
    at: tuple[float, float]
    tags: list[str]
    colour: Colour
    size: Literal["s", "m"]
    key: uuid.UUID
    weight: float
    price: Decimal


PLACE = Place("x", (1.0, 2.0), ["a"], Colour.RED, "s", uuid.UUID(int=1), 1, Decimal("1.5"))


def test_declared_columns_come_in_their_order(stored: Stored) -> None:
    names = list(Place.__dataclass_fields__)
    assert stored([PLACE]).column_names == names
    assert stored([PLACE], list[Place]).column_names == names
    assert stored([], list[Place]).column_names == names


def test_values_inside_rows_become_plain(stored: Stored) -> None:
    row = stored([PLACE]).to_pylist()[0]
    assert row["at"] == [1.0, 2.0]
    assert row["colour"] == "red"
    assert row["key"] == uuid.UUID(int=1)
    nested = stored([{"inner": PLACE, "list": [PLACE]}]).to_pylist()[0]
    assert nested["inner"]["tags"] == ["a"]
    assert nested["inner"]["key"] == str(uuid.UUID(int=1))
    assert nested["list"][0]["colour"] == "red"


@pytest.mark.parametrize("row", [DataRow, ModelRow, Row, TypedRow])
def test_an_empty_list_has_the_schema_that_is_declared(row: type, stored: Stored) -> None:
    expected = SCHEMA.set(5, pa.field("instant", pa.timestamp("us")))
    assert stored([], list[row]).schema.equals(expected)  # type: ignore[valid-type]
    assert stored(iter(()), Iterator[row]).schema.equals(expected)  # type: ignore[valid-type]
    assert stored([], list[row]).num_rows == 0  # type: ignore[valid-type]


def test_declared_types_hold_for_rows_too(stored: Stored) -> None:
    weights = [Place(**{**vars(PLACE), "weight": n}) for n in (1, 2)]
    assert stored(weights, list[Place]).schema.field("weight").type == pa.float64()
    with pytest.raises(InvalidResult, match="column 'number'"):
        stored([DataRow(**{**DICTS[0], "number": "one"})], list[DataRow])


@dataclass
class Unresolved:
    amount: OnlyForTypeCheckers
    n: int


def test_annotations_that_cannot_be_resolved_are_only_a_help(stored: Stored) -> None:
    assert stored([Unresolved(Decimal("1.5"), 2)], list[Unresolved]).to_pylist() == [
        {"amount": Decimal("1.5"), "n": 2}
    ]
    assert stored([], list[Unresolved]).column_names == ["amount", "n"]


def test_naive_instants_stay_naive(stored: Stored) -> None:
    naive = {"t": datetime.datetime(2024, 1, 1)}  # noqa: DTZ001  # what is tested
    assert stored([naive]).schema.field("t").type == pa.timestamp("us")


# --- generators ---


def test_nulls_before_the_first_value_take_its_type(stored: Stored) -> None:
    batches = [
        pa.table({"a": pa.nulls(2), "b": [1, 2]}),
        pa.table({"a": pa.nulls(1), "b": [3]}),
        pa.table({"a": [7], "b": [4]}),
        pa.table({"a": pa.nulls(1), "b": [5]}),
    ]
    table = stored(iter(batches))
    assert table.schema.equals(pa.schema({"a": pa.int64(), "b": pa.int64()}))
    assert table["a"].to_pylist() == [None, None, None, 7, None]


def test_nested_nulls_take_the_type_too(stored: Stored) -> None:
    batches = [[{"a": [], "s": {"x": None}}], [{"a": ["x"], "s": {"x": 1.5}}]]
    assert stored(iter(batches)).to_pydict() == {
        "a": [[], ["x"]],
        "s": [{"x": None}, {"x": 1.5}],
    }


def test_rows_that_come_one_by_one_may_begin_with_nulls(stored: Stored) -> None:
    rows = ({"n": n, "late": "x" if n == 25_000 else None} for n in range(30_000))
    table = stored(rows)
    assert table.schema.field("late").type == pa.string()
    assert table.num_rows == 30_000


def test_a_value_that_comes_after_a_row_group_of_nulls_is_refused(stored: Stored) -> None:
    batches = [pa.table({"a": pa.nulls(ROWS_A_GROUP)}), pa.table({"a": [1]})]
    with pytest.raises(InvalidResult, match=r"batch 2: column 'a' is int64 .*null.*one schema"):
        stored(iter(batches))


def test_nothing_but_nulls_is_text(stored: Stored) -> None:
    table = stored(iter([pa.table({"a": pa.nulls(2)})]))
    assert table.schema.field("a").type == pa.string()
    assert table.num_rows == 2


def test_rows_that_come_one_by_one_may_lack_keys(stored: Stored) -> None:
    def rows() -> Iterator[dict[str, int]]:
        for n in range(25_000):
            yield {"a": n, "b": n} if n < 5 else {"b": n} if n < 10_000 else {"a": n}

    table = stored(rows())
    assert table.column_names == ["a", "b"]
    assert table["a"].null_count == 9_995
    assert table["b"].null_count == 15_000


def test_rows_with_lists_come_one_by_one(stored: Stored) -> None:
    rows = [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": []}]
    assert stored(iter(rows)).to_pylist() == rows


def test_columns_in_another_order_are_put_in_order(stored: Stored) -> None:
    batches = [pa.table({"a": [1], "b": ["x"]}), pa.table({"b": ["y"], "a": [2]})]
    assert stored(iter(batches)).to_pydict() == {"a": [1, 2], "b": ["x", "y"]}


def test_types_that_fit_the_first_batch_are_cast(stored: Stored) -> None:
    batches = [pa.table({"a": pa.array([1.5])}), pa.table({"a": [2]}), pl.DataFrame({"a": [3.0]})]
    assert stored(iter(batches)).to_pydict() == {"a": [1.5, 2.0, 3.0]}


DIFFERING: list[tuple[list[object], str]] = [
    ([pa.table({"a": [1]}), pa.table({"a": [1.5]})], "batch 2: column 'a' is double .* int64"),
    ([pa.table({"a": [1]}), pa.table({"a": ["x"]})], "batch 2: column 'a'"),
    ([pa.table({"a": [1]}), pa.table({"b": [1]})], "batch 2 has the columns b, .* it a;"),
    ([pa.table({"a": [1]}), pa.table({"a": [1], "b": [2]})], "batch 2 has the columns a, b"),
    ([{"a": 1}, pa.table({"b": [1]})], "batch 2 has the columns b"),
    ([{"a": 1}, 5], "mixes rows with single values"),
    ([pa.table({"a": [1]}), object()], "an object, which is no table"),
]


@pytest.mark.parametrize(("items", "message"), DIFFERING, ids=[message for _, message in DIFFERING])
def test_batches_that_differ_are_refused(items: list[object], message: str, stored: Stored) -> None:
    with pytest.raises(InvalidResult, match=message):
        stored(iter(items))


def test_empty_batches_give_the_schema(stored: Stored) -> None:
    table = stored(iter([TABLE.slice(0, 0), TABLE.slice(0, 0)]))
    assert table.equals(TABLE.slice(0, 0))
    assert stored(iter([TABLE.slice(0, 0), TABLE])).equals(TABLE)


def test_what_a_generator_raises_comes_through(stored: Stored) -> None:
    def failing() -> Iterator[pa.Table]:
        yield TABLE
        raise LookupError("no second page")

    with pytest.raises(LookupError, match="no second page"):
        stored(failing())


def test_a_generator_is_not_run_ahead_of_the_file() -> None:
    made: list[int] = []

    def batches() -> Iterator[pa.Table]:
        for n in range(100):
            made.append(n)
            yield TABLE

    stream = to_batches(batches()).stream
    assert made == [0]
    next(stream)
    next(stream)
    assert made == [0, 1]


def test_a_generator_is_never_held_whole(tmp_path: Path) -> None:
    """240 MB of batches go through with a few row groups held at once, whatever yields them."""

    def batches() -> Iterator[object]:
        for n in range(60):
            column = np.random.default_rng(n).integers(0, 2**60, 250_000)
            yield pa.table({"a": column, "b": column}) if n % 2 else {"a": column, "b": column}

    gc.collect()
    pool = pa.default_memory_pool()
    before, most = pool.bytes_allocated(), 0
    tracemalloc.start()
    try:
        converted = to_batches(batches())

        def watched() -> Iterator[pa.RecordBatch]:
            nonlocal most
            for batch in converted.stream:
                most = max(most, pool.bytes_allocated() - before)
                yield batch

        draft = write(type(converted)(converted.schema, watched()), tmp_path / "large.parquet")
        python = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert draft.rows == 15_000_000
    assert most < 60_000_000
    assert python < 60_000_000


def test_a_reader_that_a_generator_yields_is_read_as_it_is_written() -> None:
    made: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for n in range(10):
            made.append(n)
            yield pa.record_batch({"a": [n]})

    reader = pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), batches())
    stream = to_batches(iter([reader])).stream
    next(stream)
    assert len(made) < 10


# --- imports ---


def test_arrow_results_do_not_import_pandas(tmp_path: Path) -> None:
    code = f"""
import sys
import duckdb, polars, pyarrow as pa
from pathlib import Path
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import write
schema = pa.schema([("a", pa.int64())])
batch = pa.RecordBatch.from_arrays([pa.nulls(2, pa.int64())], schema=schema)
for result in (
    pa.Table.from_batches([batch]),
    batch,
    pa.Table.from_batches([batch]).to_reader(),
    iter([batch, batch]),
    iter([pa.Table.from_batches([], schema)]),
    duckdb.sql("SELECT 1 AS a"),
    polars.DataFrame({{"a": [1]}}),
    "SELECT 1 AS a",
):
    write(to_batches(result, None, duckdb.sql), Path({str(tmp_path / "x.parquet")!r}))
    assert "pandas" not in sys.modules, f"pandas was imported for {{result!r}}"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_warning_is_raised_for_names_that_are_no_texts(stored: Stored) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored(pd.DataFrame([[1, 2]], columns=[1, "b"]))


def test_any_object_may_be_a_frame_of_its_own(stored: Stored) -> None:
    """A class is judged by what it speaks, not by where it is from."""
    value: Any = OnlyStream()
    assert stored([value]).equals(TABLE)
