"""CSV for spreadsheets: nothing in it is run as a formula, and it is never more than fits.

Only for those who ask for it by `_for=`: data for anybody else is never altered. What Google Sheets
and Excel both read as it is meant stays as it is: numbers with a decimal point, dates and times in
ISO 8601. The rest becomes a text that says what the value is.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webfoot.literals import sql_quoted, sql_text
from webfoot.texts import (
    LONG_NUMBERS,
    csv_expression,
    end_lines_with_crlf,
    fill_blank_records,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import duckdb

    from webfoot.files import Sink


@dataclass(frozen=True)
class Spreadsheet:
    """What a spreadsheet program takes of a CSV file.

    Args:
        title: Its name.
        most_cells: In a sheet.
        most_rows: Likewise.
        most_columns: Likewise.
        most_characters: In a cell.
        most_bytes: Of the file; None if only the above limit it.
    """

    title: str
    most_cells: int
    most_rows: int
    most_columns: int
    most_characters: int
    most_bytes: int | None


SPREADSHEETS: Mapping[str, Spreadsheet] = {
    "sheets": Spreadsheet(
        title="Google Sheets",
        # Ten million cells, and 18,278 columns, up to ZZZ.
        most_cells=10_000_000,
        most_rows=10_000_000,
        most_columns=18_278,
        most_characters=50_000,
        # Google names no limit for IMPORTDATA. From 2 MB on, people report "Resource at url
        # contents exceeded maximum size", and then they have nothing.
        most_bytes=2_000_000,
    ),
    "excel": Spreadsheet(
        title="Excel",
        # What is beyond them, Excel leaves out.
        most_cells=2**34,
        most_rows=2**20,
        most_columns=2**14,
        most_characters=32_767,
        most_bytes=None,
    ),
}
# Where a formula may begin (OWASP, "CSV Injection"; CWE-1236): with one of these, also in the width
# of East Asian letters, at the start of a text, and behind what a reader may take for the end of a
# cell: where numbers have a decimal comma, Excel splits CSV at semicolons, inside quotes as well.
_FORMULA = re.compile('(^|[;\\t\\r\\n\\x00][;"\\t\\r\\n\\x00 ]*)([=+\\-@\uff1d\uff0b\uff0d\uff20])')
# Characters that are left out of the start of a text, and then there may be a formula.
_LEFT_OUT = re.compile("^([\\t\\r\\n\\x00])")
# Both programs keep 15 digits of a number and make the others zero: of an identifier, another one.
_DIGITS = 15
_LARGEST_EXACT = 10**_DIGITS - 1
_SHORT_NUMBERS = frozenset({"tinyint", "smallint", "integer", "utinyint", "usmallint", "uinteger"})
# Types with values that are not finite, which no spreadsheet has.
_ENDLESS = frozenset({"float", "double", "date"})
# More than the notes ever take.
_NOTE_BYTES = 1_000


def neutral(text: str) -> str:
    """The text as a cell that is not run: with an apostrophe where a formula would begin."""
    return _LEFT_OUT.sub(r"'\1", _FORMULA.sub(r"\1'\2", text))


def _neutral_sql(text: str) -> str:
    """The same in SQL, of the SQL for a text."""
    inner = f"regexp_replace({text}, {sql_text(_FORMULA.pattern)}, '\\1''\\2', 'g')"
    return f"regexp_replace({inner}, {sql_text(_LEFT_OUT.pattern)}, '''\\1')"


def write_record(cells: Iterable[str]) -> bytes:
    """One line of CSV (RFC 4180)."""
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode(errors="replace")


def write_sheet(
    relation: duckdb.DuckDBPyRelation,
    spreadsheet: Spreadsheet,
    offset: int,
    file: Sink,
    con: duckdb.DuckDBPyConnection,
) -> int:
    """Write a relation as CSV for a spreadsheet; if it is cut, the first row says so.

    Args:
        relation: The rows.
        spreadsheet: Whose limits hold.
        offset: How many rows of the result come before, to say where the next ones are.
        file: Where it goes.
        con: The relation's connection.

    Returns:
        How many rows were written, the note not counted.
    """
    names = relation.columns[: spreadsheet.most_columns]
    header = write_record(neutral(name)[: spreadsheet.most_characters] for name in names)
    room = None
    if spreadsheet.most_bytes is not None:
        room = spreadsheet.most_bytes - len(header) - _NOTE_BYTES
    cells = [
        _cell(sql_quoted(name), kind, spreadsheet)
        for name, kind in zip(names, relation.types, strict=False)
    ]
    fitting = relation.limit(_most_rows(spreadsheet, len(names), room))
    table = fitting.project(", ".join(cells))
    with text_of(table, "(FORMAT csv, HEADER false)", file, con) as (fit, pieces):
        lines = end_lines_with_crlf(fill_blank_records(pieces) if len(names) == 1 else pieces)
        body, rows = (lines, fit) if room is None else _within(room, lines, fit)
        notes = "; ".join(_notes(relation, spreadsheet, rows, offset))
        file.write(header)
        if notes:
            file.write(write_record([f"NOTE: {notes}", *[""] * (len(names) - 1)]))
        for piece in body:
            file.write(piece)
    return rows


def _most_rows(spreadsheet: Spreadsheet, columns: int, room: int | None) -> int:
    """How many rows can fit at most, beside the header and a note."""
    most = min(spreadsheet.most_rows, spreadsheet.most_cells // columns) - 2
    # A row has a byte for each comma, and two for its end.
    return most if room is None else max(0, min(most, room // (columns + 1)))


def _within(room: int, pieces: Iterable[bytes], rows: int) -> tuple[Iterable[bytes], int]:
    """What of `rows` records fits into `room` bytes, and how many these are."""
    text = bytearray()
    for piece in pieces:
        text += piece
        if len(text) > room:
            break
    else:
        return [bytes(text)], rows
    end = text.rfind(b"\r\n", 0, max(room, 0))
    # A line that ends inside quotes ends no record.
    while end >= 0 and text.count(b'"', 0, end) % 2:
        end = text.rfind(b"\r\n", 0, end)
    whole = bytes(text[: end + 2]) if end >= 0 else b""
    records = csv.reader(io.StringIO(whole.decode(), newline=""))
    return [whole], sum(1 for _ in records)


def _notes(
    relation: duckdb.DuckDBPyRelation, spreadsheet: Spreadsheet, rows: int, offset: int
) -> Iterator[str]:
    """What is cut when `rows` rows of the relation are shown, and how to get the rest."""
    total = _count(relation, "count(*)")
    if rows < total:
        yield (
            f"{rows:,} of {total:,} rows fit into {spreadsheet.title}; for the next ones add"
            f" &_offset={offset + rows} to the address, for fewer columns &_columns="
        )
    columns = list(zip(relation.columns, relation.types, strict=True))
    if len(columns) > spreadsheet.most_columns:
        yield (
            f"{spreadsheet.most_columns:,} of {len(columns):,} columns fit into"
            f" {spreadsheet.title}; choose others by &_columns="
        )
    texts = [
        f"length({_text(sql_quoted(name), kind)}) > {spreadsheet.most_characters}"
        for name, kind in columns[: spreadsheet.most_columns]
        if _value(sql_quoted(name), kind) is None
    ]
    cut = f"count(*) FILTER ({' OR '.join(texts)})"
    if texts and (long := _count(relation.limit(rows), cut)):
        yield (
            f"texts of more than {spreadsheet.most_characters:,} characters are cut, in {long:,} of"
            " the rows; .json and .parquet have them whole"
        )


def _count(relation: duckdb.DuckDBPyRelation, expression: str) -> int:
    (number,) = relation.aggregate(expression).fetchall()[0]
    return int(number)


def _cell(column: str, kind: Any, spreadsheet: Spreadsheet) -> str:
    """SQL that makes a column, a quoted name, what the spreadsheet reads as it is meant."""
    value = _value(column, kind)
    if value is not None:
        return value
    text = _neutral_sql(_text(column, kind))
    most = spreadsheet.most_characters
    return f"CASE WHEN length({text}) > {most} THEN left({text}, {most - 1}) || '…' ELSE {text} END"


def _text(column: str, kind: Any) -> str:
    return f"CAST({csv_expression(column, kind)} AS VARCHAR)"


def _value(column: str, kind: Any) -> str | None:
    """The same for a column of numbers, truths or moments; None if it is none."""
    text = _text(column, kind)
    if kind.id in _SHORT_NUMBERS or kind.id == "time" or _is_short_decimal(kind):
        return text
    if kind.id == "boolean":
        return f"upper({text})"
    if kind.id in LONG_NUMBERS:
        exact = f"{column} BETWEEN -{_LARGEST_EXACT} AND {_LARGEST_EXACT}"
        return f"CASE WHEN {exact} THEN {text} ELSE '''' || {text} END"
    if kind.id in _ENDLESS:
        return f"CASE WHEN isfinite({column}) THEN {text} ELSE {_neutral_sql(text)} END"
    if kind.id.startswith("timestamp"):
        # Neither program knows zones, or microseconds.
        moment = f"CAST(date_trunc('milliseconds', CAST({column} AS TIMESTAMP)) AS VARCHAR)"
        return f"CASE WHEN isfinite({column}) THEN {moment} ELSE {_neutral_sql(text)} END"
    return None


def _is_short_decimal(kind: Any) -> bool:
    if kind.id != "decimal":
        return False
    size = dict(kind.children)
    return bool(size["precision"] - size["scale"] <= _DIGITS)
