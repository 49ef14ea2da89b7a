"""How a view is written: one function per format, all from a DuckDB relation.

Formats keep values as they are (`texts` says how text does). Only what is asked for by a
spreadsheet is made safe and small enough for it (`spreadsheets`).
"""

from __future__ import annotations

import codecs
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from webfoot.files import CompressedFile, HashedFile, Sink
from webfoot.geojson import feature_reader
from webfoot.literals import sql_quoted, sql_text
from webfoot.results import Draft
from webfoot.spreadsheets import SPREADSHEETS, write_sheet
from webfoot.tables.columns import fit
from webfoot.tables.conversion import Batches, to_batches
from webfoot.tables.ipc import write_stream
from webfoot.tables.parquet import read_schema, write_parquet
from webfoot.templating import render
from webfoot.texts import (
    copy_text,
    csv_expression,
    end_lines_with_crlf,
    fill_blank_records,
    json_expression,
    lines_of,
    map_columns,
    number_as_doubles_have_it,
    number_as_it_is,
)
from webfoot.views import ROWS_IN_PREVIEW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import duckdb

    from webfoot.results import Column
    from webfoot.views import View

    _TextWriter = Callable[[duckdb.DuckDBPyRelation, Sink, duckdb.DuckDBPyConnection], int]

_NUMBERS = frozenset(
    {
        *("tinyint", "smallint", "integer", "bigint", "hugeint", "float", "double", "decimal"),
        *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
    }
)


def write_view(
    view: View,
    source: Path,
    columns: tuple[Column, ...],
    target: Path,
    con: duckdb.DuckDBPyConnection,
) -> Draft:
    """Write `view` of a result.

    Args:
        view: What to write.
        source: The result's Parquet file.
        columns: The result's schema.
        target: Where to write.
        con: A private DuckDB connection.
    """
    by_name = {column.name: column for column in columns}
    kept = tuple(by_name[name] for name in view.columns or by_name)
    con.execute("SET SESSION arrow_lossless_conversion = true")  # UUIDs as such, not as text.
    relation = con.sql(_select(view, source, kept, columns))
    with HashedFile(target) as file:
        sink = CompressedFile(file) if view.gzip else file
        if view.bom:
            sink.write(codecs.BOM_UTF8)
        if view.spreadsheet is not None:
            rows = write_sheet(relation, SPREADSHEETS[view.spreadsheet], view.offset, sink, con)
        elif view.extension in _ARROW_WRITERS:
            rows = _ARROW_WRITERS[view.extension](_batches(relation, source), sink)
        elif view.extension in _JSON_WRITERS:
            number = number_as_doubles_have_it if view.exact else number_as_it_is
            plain = map_columns(relation, partial(json_expression, number=number))
            rows = _JSON_WRITERS[view.extension](plain, sink, con)
        else:
            rows = _TEXT_WRITERS[view.extension](relation, sink, con)
        if isinstance(sink, CompressedFile):
            sink.finish()
    return Draft(file.etag(), file.size, rows, kept)


def _select(view: View, source: Path, kept: tuple[Column, ...], columns: tuple[Column, ...]) -> str:
    listed = ", ".join(sql_quoted(column.name) for column in kept)
    table = f"read_parquet({sql_text(str(source))})"
    limit, order = view.limit, ""
    if view.extension == "html":  # One more than is shown, to know whether there are more.
        limit = min(ROWS_IN_PREVIEW + 1, ROWS_IN_PREVIEW + 1 if limit is None else limit)
    if view.order:
        keys = [
            f"{sql_quoted(name)} {'DESC' if down else 'ASC'} NULLS LAST"
            for name, down in view.order
        ]
        # The row's number settles ties, so that the same view always has the same bytes. Its name
        # is longer than any column's, and so none of theirs.
        number = sql_quoted("#" * (1 + max(len(column.name) for column in columns)))
        table = f"(SELECT *, row_number() OVER () AS {number} FROM {table})"  # noqa: S608  # nosec B608  # quoted
        order = f" ORDER BY {', '.join(keys)}, {number}"
    return (
        f"SELECT {listed} FROM {table}{order}"  # noqa: S608  # nosec B608  # names and path are quoted
        f"{'' if limit is None else f' LIMIT {limit}'} OFFSET {view.offset}"
    )


def _batches(relation: duckdb.DuckDBPyRelation, source: Path) -> Batches:
    """The relation's rows with the types that they have in `source`: DuckDB has fewer."""
    schema = read_schema(source, relation.columns)
    return Batches(schema, (fit(batch, schema) for batch in to_batches(relation).stream))


def _parquet(table: Batches, file: Sink) -> int:
    return write_parquet(table, file)[0]


def _csv(relation: duckdb.DuckDBPyRelation, file: Sink, con: duckdb.DuckDBPyConnection) -> int:
    """RFC 4180: CRLF between records, quotes doubled, a header."""
    plain = map_columns(relation, csv_expression)
    single = len(relation.columns) == 1

    def finish(pieces: Iterator[bytes]) -> Iterator[bytes]:
        return end_lines_with_crlf(fill_blank_records(pieces) if single else pieces)

    return copy_text(plain, "(FORMAT csv, HEADER)", file, con, finish)


def _json(relation: duckdb.DuckDBPyRelation, file: Sink, con: duckdb.DuckDBPyConnection) -> int:
    return copy_text(relation, "(FORMAT json, ARRAY true)", file, con, lambda pieces: pieces)


def _ndjson(relation: duckdb.DuckDBPyRelation, file: Sink, con: duckdb.DuckDBPyConnection) -> int:
    return copy_text(relation, "(FORMAT json)", file, con, lambda pieces: pieces)


def _geojson(relation: duckdb.DuckDBPyRelation, file: Sink, con: duckdb.DuckDBPyConnection) -> int:
    feature = feature_reader(relation.columns)
    return copy_text(
        relation, "(FORMAT json)", file, con, lambda pieces: _features(pieces, feature)
    )


def _html(relation: duckdb.DuckDBPyRelation, file: Sink, _: duckdb.DuckDBPyConnection) -> int:
    texts = map_columns(
        relation, lambda name, kind: f"CAST({csv_expression(name, kind)} AS VARCHAR)"
    )
    found = texts.fetchall()
    rows = found[:ROWS_IN_PREVIEW]
    columns = [
        (name, str(kind), "number" if kind.id in _NUMBERS else "text")
        for name, kind in zip(relation.columns, relation.types, strict=True)
    ]
    page = render("preview.html", columns=columns, rows=rows, cut=len(found) > len(rows))
    file.write(page.encode())
    return len(rows)


_ARROW_WRITERS: dict[str, Callable[[Batches, Sink], int]] = {
    "parquet": _parquet,
    "arrow": write_stream,
}
_TEXT_WRITERS: dict[str, _TextWriter] = {"csv": _csv, "html": _html}
# What they are given has its values as JSON has them.
_JSON_WRITERS: dict[str, _TextWriter] = {"json": _json, "ndjson": _ndjson, "geojson": _geojson}


def _features(
    pieces: Iterator[bytes], feature: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[bytes]:
    yield b'{"type":"FeatureCollection","features":['
    separator = b"\n"
    for line in lines_of(pieces):
        yield separator + json.dumps(feature(json.loads(line)), ensure_ascii=False).encode()
        separator = b",\n"
    yield b"\n]}\n"
