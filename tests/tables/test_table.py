"""A table gives every library what it holds, and shows a person the first of it."""

from __future__ import annotations

import datetime as dt
import decimal
import html.parser
import json
import pickle
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from webfoot.tables.table import Table

if TYPE_CHECKING:
    from pathlib import Path

SOME_ID = uuid.UUID("06adc35d-50fb-426d-a76b-d93ae1c7c985")
MANY_TYPES = pa.table(
    {
        "whole": [2**53 + 1, None],
        "yes": [True, None],
        "real": [0.5, None],
        "text": ["é 🦆", None],
        "day": [dt.date(2024, 1, 31), None],
        "at": pa.array([1, None], pa.timestamp("us", "UTC")),
        "exact": [decimal.Decimal("1.50"), None],
        "list": [[1, 2], None],
        "record": [{"a": 1}, None],
        "bytes": [b"\xff", None],
        "id": pa.array([SOME_ID.bytes, None], pa.uuid()),
    }
)


def squares(rows: int) -> Table:
    return Table(pa.table({"n": range(rows), "square": [n * n for n in range(rows)]}))


def test_whatever_speaks_arrow_reads_a_table() -> None:
    three = squares(3)
    assert duckdb.sql("SELECT sum(square) FROM three").fetchone() == (5,)
    assert pl.DataFrame(three)["square"].to_list() == [0, 1, 4]
    assert pa.table(three) == three.arrow()
    assert Table(three).arrow() == three.arrow()


def test_a_table_is_made_of_whatever_speaks_arrow() -> None:
    assert Table(pl.DataFrame({"a": [1]})).arrow() == pa.table({"a": [1]})
    assert Table(duckdb.sql("SELECT 1::BIGINT AS a")).arrow() == pa.table({"a": [1]})


def test_parquet_is_read_from_bytes_and_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    pq.write_table(MANY_TYPES, path)
    assert Table.from_parquet(path).arrow() == MANY_TYPES
    assert Table.from_parquet(path.read_bytes()).arrow() == MANY_TYPES


def test_what_is_no_parquet_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Parquet"):
        Table.from_parquet(b"<html>this is a page, and long enough to be a file</html>")


def test_its_size_its_columns_and_their_types_are_told() -> None:
    table = squares(3)
    assert len(table) == 3
    assert table.columns == ["n", "square"]
    assert table.schema.field("n").type == pa.int64()
    assert table.nbytes == 2 * 3 * 8


def test_a_null_changes_no_integer_in_pandas() -> None:
    frame = Table(MANY_TYPES).df()
    assert frame["whole"].dtype == "Int64"
    assert frame["whole"][0] == 2**53 + 1
    assert frame["yes"].dtype == "boolean"
    assert frame["yes"].isna().to_list() == [False, True]


def test_without_nulls_pandas_has_its_plain_types() -> None:
    frame = squares(3).df()
    assert frame["n"].dtype == "int64"
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"n": [0, 1, 2], "square": [0, 1, 4]}))


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("sign", ["", "u"])
def test_integers_with_nulls_keep_their_width_in_pandas(kind: str, sign: str) -> None:
    column = pa.array([1, None], getattr(pa, sign + kind)())
    frame = Table(pa.table({"a": column})).df()
    assert str(frame["a"].dtype).lower() == sign + kind


def test_columns_of_one_name_are_kept_apart_in_pandas() -> None:
    twice = pa.Table.from_arrays([pa.array([1, None]), pa.array(["x", "y"])], names=["a", "a"])
    frame = Table(twice).df()
    assert [str(kind) for kind in frame.dtypes] == ["Int64", "str"]


def test_polars_gets_the_same_values() -> None:
    frame = Table(MANY_TYPES).pl()
    row = frame.row(0, named=True)
    assert row["whole"] == 2**53 + 1
    assert row["id"] == str(SOME_ID)
    assert row["at"] == dt.datetime(1970, 1, 1, microsecond=1, tzinfo=dt.UTC)
    assert set(frame.row(1)) == {None}


def test_sql_asks_the_table_by_the_name_self() -> None:
    answer = squares(4).sql(
        "SELECT n % 2 AS odd, sum(square) AS total FROM self GROUP BY 1 ORDER BY 1"
    )
    assert isinstance(answer, Table)
    assert answer.arrow().to_pylist() == [{"odd": 0, "total": 4}, {"odd": 1, "total": 10}]
    assert answer.schema.field("total").type == pa.int64()


def test_a_sum_beyond_64_bits_is_whole_all_the_same() -> None:
    large = Table(pa.table({"n": [2**63 - 1] * 2}))
    answer = large.sql("SELECT sum(n) AS total FROM self").arrow()
    assert answer["total"].to_pylist() == [2**64 - 2]


def test_sql_keeps_booleans_and_tells_instants_in_utc() -> None:
    answer = Table(MANY_TYPES).sql("FROM self").schema
    assert answer.field("yes").type == pa.bool_()
    assert answer.field("at").type == pa.timestamp("us", "UTC")


def test_sql_knows_no_variable_of_ours() -> None:
    for name in ("query", "tables", "relation", "connection"):
        with pytest.raises(duckdb.CatalogException, match="does not exist"):
            squares(1).sql(f"FROM {name}")


def test_sql_that_makes_no_table_says_so() -> None:
    with pytest.raises(ValueError, match="let it end with a SELECT: CREATE TABLE t"):
        squares(1).sql("CREATE TABLE t AS SELECT 1")


def test_a_table_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(Table(MANY_TYPES)))
    assert again.arrow() == MANY_TYPES


def test_a_library_is_loaded_only_by_who_asks_for_it() -> None:
    code = (
        "import json, sys, pyarrow as pa; from webfoot.tables.table import Table\n"
        "table = Table(pa.Table.from_arrays([pa.nulls(1)], ['a'])); repr(table); len(table)\n"
        "heavy = {'pandas', 'polars', 'duckdb', 'jinja2'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(ran.stdout) == []


# What a person sees.


class Page(html.parser.HTMLParser):
    """The cells of a table in HTML, and the names of all elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.elements: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002  # the parser's way
        self.elements.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def test_html_shows_names_types_and_values() -> None:
    page = Page(Table(MANY_TYPES)._repr_html_())
    assert {"wholeint64", "daydate32[day]", "9007199254740993", "2024-01-31", "1.50"} <= {
        cell.strip() for cell in page.cells
    }
    assert [cell for cell in page.cells if cell == "null"] == ["null"] * 10


def test_nothing_in_a_table_becomes_html() -> None:
    evil = "<img src=x onerror=alert(1)>&'\""
    table = Table(pa.table({evil: [evil], "b": pa.array([[evil]])}))
    page = Page(table._repr_html_())
    assert page.elements <= {
        *("style", "div", "table", "thead", "tbody", "tr", "th", "small", "td", "p"),
    }
    assert evil in page.cells


def test_html_of_a_large_table_is_small() -> None:
    column = pa.array(["x" * 10_000] * 1_000)
    wide = pa.table({f"column_{n}": column for n in range(100)})
    text = Table(wide)._repr_html_()
    assert len(text) < 200_000
    assert "1,000 rows, 100 columns; the first shown" in text


def test_a_table_without_columns_or_rows_can_be_shown() -> None:
    for table in (Table(pa.table({})), Table(pa.table({"a": pa.array([], pa.int64())}))):
        assert "0 rows" in repr(table)
        assert "0 rows" in table._repr_html_()


def test_text_shows_names_types_and_values_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = repr(Table(pa.table({"name": ["ab", None], "n": [1, 100]})))
    assert shown.splitlines() == [
        "name        n",
        "string  int64",
        "ab          1",
        "null      100",
        "(2 rows, 2 columns)",
    ]


def test_text_is_no_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    wide = Table(pa.table({f"column_{n}": ["x" * 100] * 50 for n in range(9)}))
    *lines, last = repr(wide).splitlines()
    assert max(len(line) for line in lines) <= 40
    assert last == "(50 rows, 9 columns; the first shown)"


def test_no_value_steers_the_terminal() -> None:
    assert "\x1b" not in repr(Table(pa.table({"a": ["\x1b[31m red\n"]})))
    assert "\x1b" not in repr(Table(pa.table({"\x1b[31m": ["x"]})))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_instants_beyond_python_s_are_shown(unit: str) -> None:
    far = pa.table({"at": pa.array([2**62 if unit == "ns" else 2**50], pa.timestamp(unit))})
    assert "1 row" in repr(Table(far))
