"""CSV for spreadsheets: nothing in it runs, nothing is too large, and values are what they were."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path  # noqa: TC003  # pytest resolves it
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webfoot import formats
from webfoot.database.calls import CallDatabase
from webfoot.formats import write_view
from webfoot.results import Draft
from webfoot.spreadsheets import SPREADSHEETS, Spreadsheet, neutral, write_record
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import write
from webfoot.views import CHOICES, View

GB = 1_000_000_000

Show = Callable[..., tuple[Draft, bytes]]
WIDE = ["\uff1d", "\uff0b", "\uff0d", "\uff20"]
TRIGGERS = ["=", "+", "-", "@", "\t", "\r", "\n", "\0", *WIDE]
UTC = datetime.UTC


# Each writes files of its own, which takes a moment.
RELAXED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CallDatabase]:
    with CallDatabase(tmp_path_factory.mktemp("spill")) as database:
        yield database


@pytest.fixture
def show(database: CallDatabase, tmp_path: Path) -> Show:
    """A table as a spreadsheet gets it."""

    def write_it(table: object, spreadsheet: str = "sheets", **options: Any) -> tuple[Draft, bytes]:
        # DuckDB remembers what is in a file that it has read.
        name = uuid4().hex
        source, target = tmp_path / f"{name}-source", tmp_path / f"{name}-view"
        columns = write(to_batches(table), source).columns
        view = View("csv", spreadsheet=spreadsheet, **options)
        with database.connection(GB) as con:
            draft = write_view(view, source, columns, target, con)
        return draft, target.read_bytes()

    return write_it


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces the limits of Google Sheets by these, which are more wieldy."""

    def replace_it(**limits: Any) -> None:
        kind = {**vars(SPREADSHEETS["sheets"]), "most_bytes": 10**9, **limits}
        monkeypatch.setattr(formats, "SPREADSHEETS", {"sheets": Spreadsheet(**kind)})

    return replace_it


def records(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))


# --- formulas ---


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_text_that_begins_like_a_formula_is_a_text(trigger: str, show: Show) -> None:
    attack = f"{trigger}HYPERLINK(A1)"
    name = attack.replace("\0", "=")  # No name holds a zero byte.
    table = pa.table({name: [attack, f"a{trigger}b"], "list": [[attack], []]})
    header, first, second = records(show(table)[1])
    assert header[0] == f"'{name}"
    assert first[0] == f"'{attack}"
    assert second[0] == f"a{trigger}b"
    assert first[1].startswith('["')


@pytest.mark.parametrize("separator", [";", "\t", "\r", "\n", ";;", '; "', "\n\n", ";\0 "])
def test_a_formula_behind_what_may_end_a_cell_is_a_text(separator: str, show: Show) -> None:
    _, (cell,) = records(show(pa.table({"a": [f"x{separator}=1+1"]}))[1])
    assert cell == f"x{separator}'=1+1"


def split_as_excel_does(text: str, separator: str) -> Iterator[str]:
    """The cells that a reader with another separator finds: quotes count at a cell's start only."""
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
        yield from record


@given(st.lists(st.text("=+-@\uff1d;\t\r\n\0 \"',ax1"), min_size=1, max_size=4))
@RELAXED
def test_no_reader_finds_a_cell_that_begins_with_a_formula(show: Show, texts: list[str]) -> None:
    _, text = show(pa.table({"a": texts, "b": texts}))
    for separator in (",", ";", "\t"):
        for cell in split_as_excel_does(text.decode(), separator):
            assert not cell.lstrip("\t\r\n\0").startswith(("=", "+", "-", "@", *WIDE))


@given(st.lists(st.text(), min_size=1, max_size=5))
@RELAXED
def test_python_and_sql_agree_on_what_is_neutral(show: Show, texts: list[str]) -> None:
    _, *found = records(show(pa.table({"a": texts}))[1])
    assert found == [[neutral(text)] for text in texts]


def test_data_for_anybody_else_is_never_altered(show: Show) -> None:
    table = pa.table({"=a": ["=1+1", "-x", "\tx"], "n": [2**60, -(2**60), 0]})
    assert records(show(table, spreadsheet=None)[1]) == [
        *(["=a", "n"], ["=1+1", str(2**60)], ["-x", str(-(2**60))], ["\tx", "0"])
    ]


# --- values ---


def test_numbers_truths_and_moments_stay_what_they_are(show: Show) -> None:
    at = datetime.datetime(2024, 1, 31, 23, 59, 59, 123456)  # noqa: DTZ001  # it has none
    table = pa.table(
        {
            "integer": [-5, None, 10**15 - 1],
            "real": [-0.5, 1e20, None],
            "exact": [Decimal("-1.50"), None, Decimal(0)],
            "truth": [True, False, None],
            "day": [datetime.date(2024, 1, 31), None, datetime.date(1, 1, 1)],
            "at": [at, at.replace(microsecond=0), None],
            "instant": pa.array(
                [datetime.datetime(2024, 1, 31, 12, tzinfo=UTC), None, None],
                pa.timestamp("us", "Europe/Berlin"),
            ),
            "clock": [datetime.time(9, 30), None, None],
        }
    )
    assert records(show(table)[1])[1:] == [
        [
            *("-5", "-0.5", "-1.50", "TRUE", "2024-01-31", "2024-01-31 23:59:59.123"),
            *("2024-01-31 12:00:00", "09:30:00"),
        ],
        ["", "1e+20", "", "FALSE", "", "2024-01-31 23:59:59", "", ""],
        ["999999999999999", "", "0.00", "", "0001-01-01", "", "", ""],
    ]


@pytest.mark.parametrize("kind", ["int64", "uint64", "decimal128(38, 0)"])
def test_an_integer_of_more_digits_than_a_spreadsheet_keeps_is_a_text(
    kind: str, show: Show
) -> None:
    made = pa.decimal128(38, 0) if kind.startswith("decimal") else getattr(pa, kind)()
    table = pa.table({"id": pa.array([10**15 - 1, 10**15, 2**63 - 1], made)})
    assert [cell for (cell,) in records(show(table)[1])[1:]] == [
        "999999999999999",
        "'1000000000000000",
        "'9223372036854775807",
    ]


def test_what_is_not_finite_is_a_text(show: Show) -> None:
    table = pa.table({"a": [math.nan, math.inf, -math.inf, 1.5]})
    assert records(show(table)[1])[1:] == [["nan"], ["inf"], ["'-inf"], ["1.5"]]


def test_other_types_are_texts(show: Show) -> None:
    table = pa.table(
        {
            "bytes": [b"\xfb\xff"],
            "uuid": pa.array([UUID(int=1).bytes], pa.uuid()),
            "kind": pa.array(["-x"]).dictionary_encode(),
            "record": [{"a": "=1"}],
        }
    )
    assert records(show(table)[1])[1] == ["'+/8=", str(UUID(int=1)), "'-x", '{"a":"=1"}']


def test_an_empty_text_is_told_from_a_blank_cell_and_a_lone_column_has_no_blank_lines(
    show: Show,
) -> None:
    assert show(pa.table({"a": ["", None], "b": [1, 2]}))[1] == b'a,b\r\n"",1\r\n,2\r\n'
    assert show(pa.table({"a": [None, "x", None]}))[1] == b'a\r\n""\r\nx\r\n""\r\n'


@pytest.mark.parametrize("spreadsheet", SPREADSHEETS)
def test_no_rows(spreadsheet: str, show: Show) -> None:
    assert show(pa.table({"a": pa.array([], "int64")}), spreadsheet)[1] == b"a\r\n"


def test_pandas_reads_it(show: Show) -> None:
    table = pa.table({"n": [1, 2], "x": [0.5, None], "t": ["a\r\nb", 'é "🦆"'], "b": [True, False]})
    read = pd.read_csv(io.BytesIO(show(table, "excel", bom=True)[1]))
    pd.testing.assert_frame_equal(read, table.to_pandas())


def test_a_byte_order_mark_is_there_if_asked_for(show: Show) -> None:
    table = pa.table({"a": ["é"]})
    assert show(table, "excel", bom=True)[1] == codecs.BOM_UTF8 + "a\r\né\r\n".encode()
    assert show(table, None, bom=True)[1] == codecs.BOM_UTF8 + "a\r\né\r\n".encode()
    assert show(table, "excel")[1] == "a\r\né\r\n".encode()


# --- limits ---


def test_rows_that_do_not_fit_are_cut_and_a_note_says_so(show: Show, limit: Any) -> None:
    limit(most_rows=12)
    draft, text = show(pa.table({"a": range(11), "b": range(11)}), offset=0)
    assert (draft.rows, len(records(text))) == (10, 12)
    header, note, *rows = records(text)
    assert header == ["a", "b"]
    assert note[0] == (
        "NOTE: 10 of 11 rows fit into Google Sheets; for the next ones add &_offset=10 to the"
        " address, for fewer columns &_columns="
    )
    assert note[1] == ""
    assert rows == [[str(n), str(n)] for n in range(10)]


def test_rows_that_fit_have_no_note(show: Show, limit: Any) -> None:
    limit(most_rows=12)
    draft, text = show(pa.table({"a": range(10)}))
    assert (draft.rows, len(records(text))) == (10, 11)


def test_the_note_leads_from_one_part_to_the_next(show: Show, limit: Any) -> None:
    limit(most_cells=14)
    table = pa.table({"a": range(12), "b": range(12)})
    seen: list[str] = []
    for offset in (0, 5, 10):
        _, *rows = records(show(table, offset=offset)[1])
        assert f"_offset={offset + 5} " in rows[0][0] or offset == 10
        seen += [a for a, _ in rows if not a.startswith("NOTE")]
    assert seen == [str(n) for n in range(12)]


@given(
    st.lists(st.text('a,"\r\n é', max_size=30), min_size=1, max_size=40),
    st.integers(0, 600),
)
@RELAXED
def test_bytes_that_do_not_fit_are_cut_between_records(
    show: Show, limit: Any, texts: list[str], room: int
) -> None:
    limit(most_bytes=1_005 + room)
    draft, written = show(pa.table({"a": texts, "b": texts}))
    assert len(written) <= 1_005 + room
    _, *rows = records(written)
    if draft.rows < len(texts):
        assert rows.pop(0)[0].startswith(f"NOTE: {draft.rows} of {len(texts)} rows fit")
    assert rows == [[neutral(text)] * 2 for text in texts[: draft.rows]]


def test_lines_inside_a_cell_are_no_records(show: Show, limit: Any) -> None:
    texts = ['1\r\n"2"\r\n3'] * 3
    for room in range(0, 60, 5):
        limit(most_bytes=1_003 + room)
        draft, written = show(pa.table({"a": texts}))
        rows = [cell for (cell,) in records(written)[1:] if not cell.startswith("NOTE")]
        assert rows == texts[: draft.rows]


def test_columns_that_do_not_fit_are_cut(show: Show, limit: Any) -> None:
    limit(most_columns=2)
    header, note, row = records(show(pa.table({"a": [1], "b": [2], "c": [3]}))[1])
    assert (header, row) == (["a", "b"], ["1", "2"])
    assert note[0] == "NOTE: 2 of 3 columns fit into Google Sheets; choose others by &_columns="


def test_texts_that_do_not_fit_into_a_cell_are_cut(show: Show, limit: Any) -> None:
    limit(most_characters=10)
    table = pa.table({"a": ["x" * 10, "y" * 11, "=" + "z" * 9], "n": [10**11] * 3})
    _, note, *rows = records(show(table)[1])
    assert [a for a, _ in rows] == ["x" * 10, "y" * 9 + "…", "'=" + "z" * 7 + "…"]
    assert note[0] == (
        "NOTE: texts of more than 10 characters are cut, in 1 of the rows; .json and .parquet have"
        " them whole"
    )


def test_the_true_limit_of_bytes_holds(show: Show) -> None:
    table = pa.table({"n": range(90_000), "text": ["x" * 20] * 90_000})
    _, text = show(table)
    assert 1_990_000 < len(text) <= 2_000_000


@pytest.mark.slow
def test_the_true_limit_of_rows_holds(show: Show) -> None:
    draft, _ = show(pa.table({"n": range(2**20 - 1)}), "excel")
    assert draft.rows == 2**20 - 2


def test_a_spreadsheet_can_be_asked_for_if_its_limits_are_known() -> None:
    assert set(CHOICES["_for"]) == set(SPREADSHEETS)


def test_a_record_is_rfc_4180() -> None:
    assert write_record(["a", 'b"c', "d,e", ""]) == b'a,"b""c","d,e",\r\n'
    assert write_record(["\ud800"]) == b"?\r\n"
