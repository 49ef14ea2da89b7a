"""Every format of a result, with a selection or without, read back by something else."""

from __future__ import annotations

import base64
import csv
import datetime
import gzip
import hashlib
import html
import io
import json
import math
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path  # noqa: TC003  # pytest resolves it
from typing import Any

import duckdb
import jsonschema_rs
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webfoot.database.calls import CallDatabase
from webfoot.errors import InvalidParameters
from webfoot.formats import write_view
from webfoot.results import Column, Draft
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import write
from webfoot.views import MEDIA_TYPES, TEXTS, View

GB = 1_000_000_000

Show = Callable[..., bytes]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CallDatabase]:
    with CallDatabase(tmp_path_factory.mktemp("spill")) as database:
        yield database


@pytest.fixture
def draft_of(database: CallDatabase, tmp_path: Path) -> Callable[..., tuple[Draft, Path]]:
    """A view of a table, written."""

    def write_it(table: object, extension: str, **options: Any) -> tuple[Draft, Path]:
        name = uuid.uuid4().hex
        source, target = tmp_path / f"{name}-source", tmp_path / f"{name}-view"
        columns = write(to_batches(table), source).columns
        with database.connection(GB) as con:
            draft = write_view(View(extension, **options), source, columns, target, con)
        assert sorted(path.name for path in tmp_path.glob(f"{name}*")) == sorted(
            {source.name, target.name}
        )
        return draft, target

    return write_it


@pytest.fixture
def show(draft_of: Callable[..., tuple[Draft, Path]]) -> Show:
    """A view's bytes."""

    def read(table: object, extension: str, **options: Any) -> bytes:
        return draft_of(table, extension, **options)[1].read_bytes()

    return read


NAN, INF = float("nan"), float("inf")
UTC = datetime.UTC
PLACES = pa.table({"lon": [1.5, None, 3.0], "lat": [2.0, 5.0, 4.0], "name": ["a", "b", None]})


def records(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline="")))


def parse_json(text: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse, parse_float=Decimal)


class Cells(HTMLParser):
    """The cells of a page's table, and the tags that it has."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002  # its signature
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and self.lasttag in ("td", "th", "small"):
            self.rows[-1][-1] += data.rstrip("\n")


# --- all formats alike ---


@pytest.mark.parametrize("extension", MEDIA_TYPES)
def test_a_draft_tells_what_the_file_is(
    extension: str, draft_of: Callable[..., tuple[Draft, Path]]
) -> None:
    draft, path = draft_of(PLACES, extension, columns=("name", "lon", "lat"), limit=2)
    assert draft.etag == hashlib.sha256(path.read_bytes()).hexdigest()
    assert draft.size == path.stat().st_size
    assert draft.rows == 2
    assert draft.columns == (
        Column("name", "string"),
        Column("lon", "double"),
        Column("lat", "double"),
    )


def read_rows(extension: str, data: bytes) -> list[list[Any]]:
    """A format's rows as texts, so that all of them can be compared."""
    if extension == "parquet":
        return [list(row.values()) for row in pq.read_table(io.BytesIO(data)).to_pylist()]
    if extension == "arrow":
        return [list(row.values()) for row in pa.ipc.open_stream(data).read_all().to_pylist()]
    if extension == "csv":
        return [[int(cell) for cell in row] for row in records(data)[1:]]
    if extension == "json":
        return [list(row.values()) for row in parse_json(data)]
    if extension == "ndjson":
        return [list(parse_json(line).values()) for line in data.splitlines()]
    return [[int(cell) for cell in row] for row in Cells(data).rows[1:]]


SELECTIONS: list[tuple[dict[str, Any], list[list[int]]]] = [
    ({}, [[n, n % 3] for n in range(10)]),
    ({"limit": 2}, [[0, 0], [1, 1]]),
    ({"limit": 0}, []),
    ({"limit": 10**18}, [[n, n % 3] for n in range(10)]),
    ({"offset": 8}, [[8, 2], [9, 0]]),
    ({"offset": 10}, []),
    ({"offset": 2**63 - 1, "limit": 2**63 - 1}, []),
    ({"limit": 2, "offset": 1}, [[1, 1], [2, 2]]),
    ({"columns": ("g", "n"), "limit": 2}, [[0, 0], [1, 1]]),
    ({"columns": ("g",), "limit": 2}, [[0], [1]]),
    ({"order": (("n", True),), "limit": 2}, [[9, 0], [8, 2]]),
    # Ties stay in the order of the result.
    ({"order": (("g", True),), "limit": 4}, [[2, 2], [5, 2], [8, 2], [1, 1]]),
    ({"order": (("g", False), ("n", True)), "limit": 2}, [[9, 0], [6, 0]]),
    ({"order": (("g", True),), "columns": ("n",), "limit": 1, "offset": 1}, [[5]]),
]


@pytest.mark.parametrize("extension", ["parquet", "arrow", "csv", "json", "ndjson", "html"])
@pytest.mark.parametrize(("options", "rows"), SELECTIONS)
def test_a_selection_is_the_same_in_every_format(
    extension: str, options: dict[str, Any], rows: list[list[int]], show: Show
) -> None:
    table = pa.table({"n": range(10), "g": [n % 3 for n in range(10)]})
    assert read_rows(extension, show(table, extension, **options)) == rows


def test_a_selection_holds_in_geojson_too(show: Show) -> None:
    features = json.loads(show(PLACES, "geojson", order=(("lat", True),), limit=1))["features"]
    assert [feature["properties"]["name"] for feature in features] == ["b"]


@pytest.mark.parametrize("down", [False, True])
def test_nulls_come_last(down: bool, show: Show) -> None:
    rows = records(show(PLACES, "csv", columns=("name", "lon"), order=(("name", down),)))
    assert rows[-1][0] == ""


def test_no_rows_are_valid_in_every_format(show: Show) -> None:
    table = PLACES.slice(0, 0)
    assert show(table, "csv") == b"lon,lat,name\r\n"
    assert json.loads(show(table, "json")) == []
    assert show(table, "ndjson") == b""
    assert json.loads(show(table, "geojson")) == {"type": "FeatureCollection", "features": []}
    assert Cells(show(table, "html")).rows == [["lonDOUBLE", "latDOUBLE", "nameVARCHAR"]]
    assert pq.read_table(io.BytesIO(show(table, "parquet", limit=5))).equals(table)
    assert pa.ipc.open_stream(show(table, "arrow")).read_all().equals(table)


NASTY = [
    'say "x"',
    "it's",
    "a,b",
    "a b",
    " padded ",
    "größe ☃",
    "line\nbreak",
    "tab\t",
    "file_row_number",
    "filename",
    "rowid",
    "item",
    "entry",
    "select",
    "order",
    "COLUMNS",
    "COLUMNS(*)",
    "* EXCLUDE",
    "*",
    "#1",
    "##",
    "$1",
    "?",
    ":p",
    "{x}",
    "%s",
    "{{ x }}",
    ";",
    "--",
    "/* */",
    "\\",
    "<b>",
    "x" * 300,
]


@pytest.mark.parametrize("extension", ["parquet", "arrow", "csv", "json", "ndjson", "html"])
def test_any_name_of_a_column_will_do(extension: str, show: Show) -> None:
    table = pa.table({name: [n, n + 1] for n, name in enumerate(NASTY)})
    order = tuple((name, True) for name in NASTY)
    for options in ({}, {"columns": tuple(reversed(NASTY))}, {"order": order}):
        data = show(table, extension, **options)
        rows = read_rows(extension, data)
        expected = [list(range(len(NASTY))), list(range(1, len(NASTY) + 1))]
        if "columns" in options:
            expected = [row[::-1] for row in expected]
        assert rows == (expected[::-1] if "order" in options else expected)
    if extension == "csv":
        assert records(show(table, "csv"))[0] == NASTY
    if extension == "json":
        assert list(json.loads(show(table, "json"))[0]) == NASTY


@pytest.mark.parametrize("extension", MEDIA_TYPES)
def test_a_view_has_the_same_bytes_every_time(extension: str, show: Show) -> None:
    rows = 10_000
    table = pa.table(
        {
            "lon": [float(n % 7) for n in range(rows)],
            "lat": [1.0] * rows,
            "text": [f"text {n}" for n in range(rows)],
        }
    )
    options = {"order": (("lon", True),), "offset": 10}
    first = show(table, extension, **options)
    assert all(show(table, extension, **options) == first for _ in range(2))


@pytest.mark.parametrize("extension", sorted(TEXTS))
def test_compressed_texts_are_the_same_texts(extension: str, show: Show) -> None:
    table = pa.table({"lon": [1.0] * 20_000, "lat": range(20_000)})
    packed = show(table, extension, gzip=True)
    assert gzip.decompress(packed) == show(table, extension)
    assert packed == show(table, extension, gzip=True)
    assert packed[4:8] == bytes(4)  # No time of day inside.


def test_a_view_that_fails_leaves_nothing_beside_it(database: CallDatabase, tmp_path: Path) -> None:
    source = tmp_path / "source.parquet"
    columns = write(to_batches(pa.table({"wkt": ["POINT (1 2)", "nonsense"]})), source).columns
    target = tmp_path / "target.geojson"
    with database.connection(GB) as con, pytest.raises(InvalidParameters, match="nonsense"):
        write_view(View("geojson"), source, columns, target, con)
    assert {path.name for path in tmp_path.iterdir()} <= {source.name, target.name}


# --- parquet and arrow ---

TYPED = pa.table(
    {
        "uuid": pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()),
        "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}', None])),
        "half": pa.array([1.5, None], pa.float16()),
        "word": pa.array(["x", None]).dictionary_encode(),
        "zoned": pa.array([1, None], pa.timestamp("ms", "America/New_York")),
        "nanos": pa.array([1, None], pa.timestamp("ns")),
        "two": pa.array([b"xy", None], pa.binary(2)),
        "time": pa.array([1, None], pa.time32("ms")),
        "list": pa.array([[b"x"], None]),
        "words": pa.ListArray.from_arrays([0, 1, 1], pa.array(["x"]).dictionary_encode()),
        "pair": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
        "struct": pa.array([{"a": datetime.time(1)}, None], pa.struct({"a": pa.time32("ms")})),
        "decimal": pa.array([Decimal("1.20"), None], pa.decimal128(20, 2)),
        "big": pa.array([2**64 - 1, None], pa.uint64()),
    }
)


@pytest.mark.parametrize("options", [{"limit": 5}, {"order": (("nanos", True),)}])
def test_selected_rows_keep_the_types_of_the_result(options: dict[str, Any], show: Show) -> None:
    """DuckDB, which selects, has fewer types than Arrow."""
    parquet = pq.read_table(io.BytesIO(show(TYPED, "parquet", **options)))
    arrow = pa.ipc.open_stream(show(TYPED, "arrow", **options)).read_all()
    for name, column in zip(TYPED.column_names, TYPED.columns, strict=True):
        kind = pa.dictionary(pa.int32(), pa.string()) if name == "word" else column.type
        assert parquet[name].type == arrow[name].type == kind, name
        assert parquet[name].to_pylist() == arrow[name].to_pylist() == column.to_pylist()


def test_parquet_of_all_rows_in_order_is_the_results_own_bytes(show: Show) -> None:
    table = pa.table({"n": range(200_000), "text": [str(n % 11) for n in range(200_000)]})
    own = show(table, "parquet")
    assert show(table, "parquet", order=(("n", False),)) == own


def test_arrow_is_read_by_others(show: Show) -> None:
    data = show(PLACES, "arrow")
    assert pl.read_ipc_stream(io.BytesIO(data)).to_dicts() == PLACES.to_pylist()


def test_geometry_is_still_geometry_in_a_selection(show: Show) -> None:
    with duckdb.connect() as con:
        point = con.sql("SELECT ST_AsWKB('POINT (1 2)'::GEOMETRY)::BLOB").fetchall()[0][0]
    geo = {
        "version": "1.1.0",
        "primary_column": "g",
        "columns": {"g": {"encoding": "WKB", "geometry_types": []}},
    }
    table = pa.table({"n": [1], "g": [point]}).replace_schema_metadata({"geo": json.dumps(geo)})
    selected = pq.read_table(io.BytesIO(show(table, "parquet", limit=1)))
    assert b"geo" in selected.schema.metadata
    assert selected["g"].to_pylist() == [point]
    without = pq.read_table(io.BytesIO(show(table, "parquet", columns=("n",))))
    assert b"geo" not in (without.schema.metadata or {})
    assert records(show(table, "csv"))[1] == ["1", "POINT (1 2)"]
    assert json.loads(show(table, "json")) == [{"n": 1, "g": "POINT (1 2)"}]
    place = json.loads(show(table.rename_columns(["n", "geom"]), "json", limit=0))
    assert place == []


# --- csv ---


def test_csv_is_rfc_4180(show: Show) -> None:
    table = pa.table(
        {
            "text": ["plain", 'say "x"', "a,b", "two\nlines", "two\r\nlines", "", None, " x "],
            "n": range(8),
        }
    )
    assert show(table, "csv") == (
        b'text,n\r\nplain,0\r\n"say ""x""",1\r\n"a,b",2\r\n"two\nlines",3\r\n"two\r\nlines",4\r\n'
        b'"",5\r\n,6\r\n x ,7\r\n'
    )


def test_nulls_in_an_only_column_are_no_blank_lines(show: Show) -> None:
    """Readers skip blank lines, and would lose the row."""
    values = [None, "x", None, None, "a\n\nb", "", '"', None]
    data = show(pa.table({"a": values}), "csv")
    assert [row[0] for row in records(data)[1:]] == [value or "" for value in values]
    assert len(pd.read_csv(io.BytesIO(data))) == len(values)
    numbers = show(pa.table({"a": [1, None, 3]}), "csv")
    assert pd.read_csv(io.BytesIO(numbers))["a"].isna().tolist() == [False, True, False]


def test_csv_values(show: Show, tmp_path: Path) -> None:
    table = pa.table(
        {
            "big": pa.array([2**64 - 1], pa.uint64()),
            "decimal": [Decimal("1234567890123456789012345678.0123456789")],
            "third": [1 / 3],
            "tenth": pa.array([0.1], pa.float32()),
            "nan": [NAN],
            "inf": [-INF],
            "bool": [True],
            "date": [datetime.date(2024, 2, 29)],
            "time": [datetime.time(1, 2, 3, 4)],
            "naive": pa.array([1_700_000_000_000_001], pa.timestamp("us")),
            "zoned": pa.array([1_700_000_000_000_001], pa.timestamp("us", "America/New_York")),
            "blob": [b"\0\xff"],
            "list": [[1, None]],
            "struct": [{"a": 'x"', "b": [NAN]}],
            "map": pa.array([[("k", b"x")]], pa.map_(pa.string(), pa.binary())),
            "uuid": pa.array([uuid.UUID(int=5).bytes], pa.uuid()),
        }
    )
    data = show(table, "csv")
    row = dict(zip(*records(data), strict=True))
    assert row == {
        "big": "18446744073709551615",
        "decimal": "1234567890123456789012345678.0123456789",
        "third": "0.3333333333333333",
        "tenth": "0.1",
        "nan": "nan",
        "inf": "-inf",
        "bool": "true",
        "date": "2024-02-29",
        "time": "01:02:03.000004",
        "naive": "2023-11-14 22:13:20.000001",
        "zoned": "2023-11-14 22:13:20.000001+00",
        "blob": base64.b64encode(b"\0\xff").decode(),
        "list": "[1,null]",
        "struct": '{"a":"x\\"","b":[null]}',
        "map": '{"k":"eA=="}',
        "uuid": str(uuid.UUID(int=5)),
    }
    # DuckDB, pandas and Polars find the types again.
    path = tmp_path / "values.csv"
    path.write_bytes(data)
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        kinds = dict(zip(row, [str(kind) for kind in con.sql(f"FROM '{path}'").types], strict=True))
    assert kinds["date"] == "DATE"
    assert kinds["naive"] == "TIMESTAMP"
    assert kinds["zoned"] == "TIMESTAMP WITH TIME ZONE"
    assert kinds["bool"] == "BOOLEAN"
    assert pd.read_csv(path)["third"][0] == 1 / 3
    assert pl.read_csv(path)["date"][0] == "2024-02-29"


def test_pieces_may_end_anywhere(show: Show) -> None:
    """A piece of 1 MiB may end inside quotes, between two quotes or between records."""
    for shift in range(6):
        texts = ["x" * shift] + ['a"b\n"",\n"' * 50] * 1_200
        data = show(pa.table({"a": texts, "b": texts}), "csv")
        assert len(data) > 1 << 20
        assert records(data)[1:] == [[text, text] for text in texts]
        assert data.count(b"\r\n") == 1 + len(texts)


TEXTS_OF_CSV = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
ALIKE = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@ALIKE
@given(st.lists(st.tuples(TEXTS_OF_CSV, TEXTS_OF_CSV), min_size=1))
def test_any_text_comes_back_from_csv(show: Show, rows: list[tuple[str, str]]) -> None:
    table = pa.table({"a": [a for a, _ in rows], "b": [b for _, b in rows]})
    assert records(show(table, "csv"))[1:] == [list(row) for row in rows]
    only = records(show(table, "csv", columns=("a",)))
    assert only[1:] == [[a] for a, _ in rows]


# --- json ---


def test_json_values(show: Show) -> None:
    table = pa.table(
        {
            "big": pa.array([2**64 - 1, None], pa.uint64()),
            "decimal": [Decimal("1234567890123456789012345678.0123456789"), None],
            "tenth": pa.array([0.1, INF], pa.float32()),
            "half": pa.array([0.5, NAN], pa.float16()),
            "tiny": [5e-324, -INF],
            "date": [datetime.date(2024, 2, 29), None],
            "time": [datetime.time(1, 2, 3, 4), None],
            "naive": pa.array([1_700_000_000_000_001, None], pa.timestamp("us")),
            "nanos": pa.array([1_700_000_000_000_000_001, None], pa.timestamp("ns")),
            "zoned": pa.array([1_700_000_000_000_001, None], pa.timestamp("us", "Asia/Tokyo")),
            "blob": [b"\0\xff", b""],
            "text": ['"\\\n\t\x01\u2028é☃😀', ""],
            "uuid": pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()),
            "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":[1]}', None])),
            "bool": [False, None],
            "null": pa.nulls(2),
        }
    )
    rows = parse_json(show(table, "json"))
    assert rows[0] == {
        "big": 2**64 - 1,
        "decimal": Decimal("1234567890123456789012345678.0123456789"),
        "tenth": Decimal("0.1"),
        "half": Decimal("0.5"),
        "tiny": Decimal("5e-324"),
        "date": "2024-02-29",
        "time": "01:02:03.000004",
        "naive": "2023-11-14T22:13:20.000001",
        "nanos": "2023-11-14T22:13:20.000000001",
        "zoned": "2023-11-14T22:13:20.000001Z",
        "blob": base64.b64encode(b"\0\xff").decode(),
        "text": '"\\\n\t\x01\u2028é☃😀',
        "uuid": str(uuid.UUID(int=5)),
        "json": {"a": [1]},
        "bool": False,
        "null": None,
    }
    assert rows[1] == dict.fromkeys(table.column_names) | {"blob": "", "text": ""}
    lines = show(table, "ndjson").splitlines()
    assert [parse_json(line) for line in lines] == rows


NESTED: dict[str, tuple[pa.Array, list[object]]] = {
    "list": (pa.array([[1.5, NAN, None], [], None]), [[1.5, None, None], [], None]),
    "lists": (pa.array([[[INF], None, []], None]), [[[None], None, []], None]),
    "fixed list": (pa.array([[1.0, NAN], None], pa.list_(pa.float32(), 2)), [[1.0, None], None]),
    "struct": (
        pa.array([{"a": NAN, "b": b"x", "c": 1}, None]),
        [{"a": None, "b": "eA==", "c": 1}, None],
    ),
    "struct with odd names": (
        pa.array([{"it's": NAN, 'say "x"': 1.5, "select": b"", "a b": None}]),
        [{"it's": None, 'say "x"': 1.5, "select": "", "a b": None}],
    ),
    "structs in lists": (
        pa.array([[{"item": [NAN]}, None], None]),
        [[{"item": [None]}, None], None],
    ),
    "map": (
        pa.array([[("a", NAN), ("b", 1.5)], [], None], pa.map_(pa.string(), pa.float64())),
        [{"a": None, "b": 1.5}, {}, None],
    ),
    "map of blobs": (pa.array([[(1, b"x")]], pa.map_(pa.int8(), pa.binary())), [{"1": "eA=="}]),
    "map by blobs": (pa.array([[(b"x", 1)]], pa.map_(pa.binary(), pa.int8())), [{"eA==": 1}]),
    "map by floats": (pa.array([[(1.5, b"")]], pa.map_(pa.float64(), pa.binary())), [{"1.5": ""}]),
    "map of maps": (
        pa.array([[("a", [("b", INF)])]], pa.map_(pa.string(), pa.map_(pa.string(), pa.float64()))),
        [{"a": {"b": None}}],
    ),
    "list of instants": (
        pa.array([[0, None]], pa.list_(pa.timestamp("s", "UTC"))),
        [["1970-01-01T00:00:00Z", None]],
    ),
    "list of decimals": (pa.array([[Decimal("1.50")]]), [[1.5]]),
    "list of texts": (pa.array([["+00 a b"]]), [["+00 a b"]]),
}


@pytest.mark.parametrize("name", NESTED)
def test_json_is_valid_however_deep(name: str, show: Show) -> None:
    column, values = NESTED[name]
    table = pa.table({"item": column, "entry": column})
    rows = parse_json(show(table, "json"))
    assert [row["item"] for row in rows] == values
    assert [row["entry"] for row in rows] == values
    cells = [row[0] for row in records(show(table, "csv"))[1:]]
    assert [json.loads(cell) if cell else None for cell in cells] == values


EXACT = {
    # Whole numbers, whose doubles end at 2^53...
    "integers": (
        pa.array([2**53 - 1, 2**53 + 1, -(2**53) - 1, None]),
        [2**53 - 1, str(2**53 + 1), str(-(2**53) - 1), None],
    ),
    "unsigned": (pa.array([7, 2**64 - 1], pa.uint64()), [7, str(2**64 - 1)]),
    "sums": (
        pa.array([Decimal(7), Decimal(2**70)], pa.decimal128(38, 0)),
        [7, str(2**70)],
    ),
    # ...and others, which have fifteen digits for sure.
    "decimals": (
        pa.array([Decimal("1.50"), Decimal("-0.1"), Decimal("1234567890123456.5")]).cast(
            pa.decimal128(30, 10)
        ),
        [1.5, -0.1, "1234567890123456.5000000000"],
    ),
    "short decimals": (pa.array([Decimal("123456789012.345")]), [123456789012.345]),
    "lists": (pa.array([[1, 2**53 + 1, None], None]), [[1, str(2**53 + 1), None], None]),
    "structs": (pa.array([{"a": 2**53 + 1, "b": NAN}]), [{"a": str(2**53 + 1), "b": None}]),
    "maps": (
        pa.array([[(2**53 + 1, 2**53 + 1)]], pa.map_(pa.int64(), pa.int64())),
        [{str(2**53 + 1): str(2**53 + 1)}],
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_json_has_no_number_that_javascript_would_change(name: str, show: Show) -> None:
    column, values = EXACT[name]
    table = pa.table({"a": column})
    assert [row["a"] for row in json.loads(show(table, "json", exact=True))] == values
    lines = show(table, "ndjson", exact=True).splitlines()
    assert [json.loads(line)["a"] for line in lines] == values
    if name != "maps":  # Otherwise a number is one, with all its digits.
        assert f'"{2**53 + 1}"' not in show(table, "json").decode()


def test_exact_geojson_keeps_its_places(show: Show) -> None:
    table = PLACES.append_column("id", pa.array([2**53 + 1] * len(PLACES)))
    plain, exact = (json.loads(show(table, "geojson", exact=e)) for e in (False, True))
    assert exact["features"][0]["properties"]["id"] == str(2**53 + 1)
    assert exact["features"][0]["geometry"] == plain["features"][0]["geometry"]


def test_json_is_what_its_schema_says(show: Show) -> None:
    schema = {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["n", "at", "ratio"],
            "additionalProperties": False,
            "properties": {
                "n": {"type": "integer"},
                "at": {"type": "string", "format": "date-time"},
                "ratio": {"type": ["number", "null"]},
            },
        },
    }
    table = pa.table(
        {
            "n": range(3),
            "at": pa.array([0, 1, -1], pa.timestamp("us", "UTC")),
            "ratio": [0.1, NAN, 1e300],
        }
    )
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    validator.validate(json.loads(show(table, "json")))


JSON_VALUES = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(st.characters(codec="utf-8")),
        "number": st.none() | st.floats(),
        "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
        "blob": st.none() | st.binary(),
        "list": st.none() | st.lists(st.none() | st.floats()),
    }
)
JSON_SCHEMA = pa.schema(
    {
        "text": pa.string(),
        "number": pa.float64(),
        "whole": pa.int64(),
        "blob": pa.binary(),
        "list": pa.list_(pa.float64()),
    }
)


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@ALIKE
@given(st.lists(JSON_VALUES, max_size=5))
def test_any_value_comes_back_from_json(show: Show, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=JSON_SCHEMA)
    expected = [
        {
            "text": row["text"],
            "number": finite(row["number"]),
            "whole": row["whole"],
            "blob": None if row["blob"] is None else base64.b64encode(row["blob"]).decode(),
            "list": None if row["list"] is None else [finite(item) for item in row["list"]],
        }
        for row in rows
    ]
    assert json.loads(show(table, "json")) == expected
    assert [json.loads(line) for line in show(table, "ndjson").split(b"\n")[:-1]] == expected


# --- geojson ---


def test_geojson_is_what_rfc_7946_says(show: Show) -> None:
    assert json.loads(show(PLACES, "geojson")) == {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [1.5, 2.0]},
                "properties": {"name": "a"},
            },
            {"type": "Feature", "geometry": None, "properties": {"name": "b"}},
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [3.0, 4.0]},
                "properties": {"name": None},
            },
        ],
    }


def test_geojson_of_well_known_text(show: Show) -> None:
    table = pa.table({"WKT": ["LINESTRING (1 2, 3 4)", None], "lat": [NAN, 1.0], "lon": [1, 2]})
    features = json.loads(show(table, "geojson"))["features"]
    assert features[0]["geometry"] == {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}
    assert features[0]["properties"] == {"lat": None, "lon": 1}
    assert features[1]["geometry"] is None


def test_geojson_needs_a_place(show: Show) -> None:
    with pytest.raises(InvalidParameters, match="the result has a, b"):
        show(pa.table({"a": [1], "b": [2]}), "geojson")
    with pytest.raises(InvalidParameters, match="not a longitude"):
        show(pa.table({"x": ["left"], "y": ["top"]}), "geojson")


def test_geojson_of_many_pieces(show: Show) -> None:
    table = pa.table({"lon": range(20_000), "lat": [0] * 20_000, "text": ["é\n" * 40] * 20_000})
    data = show(table, "geojson")
    assert len(data) > 2 << 20
    features = json.loads(data)["features"]
    assert [f["geometry"]["coordinates"][0] for f in features] == list(range(20_000))


# --- html ---


def test_a_page_runs_nothing_that_is_in_the_data(show: Show) -> None:
    evil = "<script>alert(1)</script>"
    table = pa.table({evil: [evil, '" onload="x', "</td>", "{{ 7 * 7 }}", None], "b": [[evil]] * 5})
    page = show(table, "html")
    assert b"<script" not in page
    cells = Cells(page)
    assert "script" not in cells.tags
    assert cells.rows[0][0].startswith(evil)
    assert [row[0] for row in cells.rows[1:]] == [
        evil,
        '" onload="x',
        "</td>",
        "{{ 7 * 7 }}",
        "null",
    ]
    assert json.loads(cells.rows[1][1]) == [evil]
    assert b'<td class="null">null</td>' in page


def test_a_text_null_is_not_a_null(show: Show) -> None:
    page = show(pa.table({"a": ["null", None]}), "html")
    assert page.count(b'class="null"') == 1
    assert b'<td class="text">null</td>' in page


@pytest.mark.parametrize(
    ("rows", "options", "shown", "cut"),
    [
        (0, {}, 0, False),
        (1, {}, 1, False),
        (1000, {}, 1000, False),
        (1001, {}, 1000, True),
        (3000, {"limit": 2000}, 1000, True),
        (3000, {"limit": 10}, 10, False),
        (3000, {"offset": 2000}, 1000, False),
    ],
)
def test_a_page_shows_a_thousand_rows_and_says_if_there_are_more(
    rows: int,
    options: dict[str, Any],
    shown: int,
    cut: bool,
    show: Show,
) -> None:
    page = show(pa.table({"n": range(rows)}), "html", **options)
    assert len(Cells(page).rows) == 1 + shown
    text = html.unescape(page.decode())
    assert ("the first of more" in text) is cut
    assert f"<p>{shown} row{'' if shown == 1 else 's'}" in text


def test_a_page_shows_every_type(show: Show) -> None:
    assert len(Cells(show(TYPED, "html")).rows) == 3
