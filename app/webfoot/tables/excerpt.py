"""The part of a table that a person is shown: its first rows and columns, as texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from webfoot.quantities import shorten, write_count

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "  "


@dataclass(frozen=True)
class Column:
    """A column, cut short.

    Args:
        name: Its name.
        type: Its Arrow type.
        number: Whether it holds numbers, which stand flush right.
        cells: Its first values as texts; None for null.
    """

    name: str
    type: str
    number: bool
    cells: Sequence[str | None]


@dataclass(frozen=True)
class Excerpt:
    """The first rows and columns of a table.

    Args:
        columns: The first columns.
        rows: How many of its rows these have.
        size: How large the whole is, in words.
        cut: Whether the whole has more rows or columns.
    """

    columns: Sequence[Column]
    rows: int
    size: str
    cut: bool


def take_excerpt(table: pa.Table, *, rows: int, columns: int, letters: int) -> Excerpt:
    """The first rows and columns of `table`.

    Args:
        table: The table.
        rows: At most so many rows.
        columns: At most so many columns.
        letters: At most so many letters of a name or a value.
    """
    height, width = min(rows, table.num_rows), min(columns, table.num_columns)
    part = table.select(list(range(width))).slice(0, height)
    shown = [
        Column(
            shorten(field.name, letters),
            shorten(str(field.type), letters),
            _is_number(field.type),
            [_shorten_cell(text, letters) for text in _texts(column)],
        )
        for field, column in zip(part.schema, part.columns, strict=True)
    ]
    size = f"{write_count(len(table), 'row')}, {write_count(table.num_columns, 'column')}"
    return Excerpt(shown, height, size, (height, width) != table.shape)


def write_text(excerpt: Excerpt, width: int) -> str:
    """The excerpt as a grid of text.

    Args:
        excerpt: The excerpt.
        width: How many letters a line may have; columns beyond are left out.
    """
    blocks: list[list[str]] = []
    taken = 0
    for column in excerpt.columns:
        texts = [_visible(text) for text in (column.name, column.type, *column.cells)]
        wide = max(len(text) for text in texts)
        taken += wide + len(_GAP)
        if blocks and taken > width:
            blocks.append(["…"] * len(texts))
            break
        pad = str.rjust if column.number else str.ljust
        blocks.append([pad(text, wide) for text in texts])
    lines = [_GAP.join(cells).rstrip() for cells in zip(*blocks, strict=True)]
    return "\n".join([*lines, f"({excerpt.size}{'; the first shown' if excerpt.cut else ''})"])


def _visible(cell: str | None) -> str:
    """The text of a cell in one line; what steers a terminal is written out."""
    if cell is None:
        return "null"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in cell)


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    if pa.types.is_temporal(column.type) and not pa.types.is_interval(column.type):
        # Python's dates end with the year 9999, and its times with microseconds.
        texts: list[str | None] = pc.cast(column, pa.string()).to_pylist()
        return texts
    return [None if value is None else str(value) for value in column.to_pylist()]


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _shorten_cell(text: str | None, letters: int) -> str | None:
    return None if text is None else shorten(text, letters)
