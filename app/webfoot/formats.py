"""How a view is written: one function per format, all from a DuckDB relation.

Text formats keep values as they are, in forms that every reader takes: instants in UTC, in JSON
with ISO 8601's T and Z, in CSV with the space that spreadsheets know; bytes in base64; lists and
structs inside CSV as JSON; no NaN in JSON, which has none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from webfoot.files import CompressedFile, HashedFile, Sink
from webfoot.geojson import feature_reader
from webfoot.results import Draft
from webfoot.tables.columns import fit
from webfoot.tables.conversion import Batches, to_batches
from webfoot.tables.ipc import write_stream
from webfoot.tables.parquet import read_schema, write_parquet
from webfoot.templating import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import duckdb

    from webfoot.results import Column
    from webfoot.views import View

# A preview is read by a person: more rows than this help nobody, and cost the browser.
_ROWS_IN_PREVIEW = 1000
_NUMBERS = frozenset(
    {
        *("tinyint", "smallint", "integer", "bigint", "hugeint", "float", "double", "decimal"),
        *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
    }
)
_PIECE = 1 << 20


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
        if view.extension in _ARROW_WRITERS:
            rows = _ARROW_WRITERS[view.extension](_batches(relation, source), sink)
        else:
            rows = _TEXT_WRITERS[view.extension](relation, sink, con)
        if isinstance(sink, CompressedFile):
            sink.finish()
    return Draft(file.etag(), file.size, rows, kept)


def _select(view: View, source: Path, kept: tuple[Column, ...], columns: tuple[Column, ...]) -> str:
    listed = ", ".join(_quote(column.name) for column in kept)
    table = f"read_parquet({_literal(str(source))})"
    limit, order = view.limit, ""
    if view.extension == "html":  # One more than is shown, to know whether there are more.
        limit = min(_ROWS_IN_PREVIEW + 1, _ROWS_IN_PREVIEW + 1 if limit is None else limit)
    if view.order:
        keys = [
            f"{_quote(name)} {'DESC' if down else 'ASC'} NULLS LAST" for name, down in view.order
        ]
        # The row's number settles ties, so that the same view always has the same bytes. Its name
        # is longer than any column's, and so none of theirs.
        number = _quote("#" * (1 + max(len(column.name) for column in columns)))
        table = f"(SELECT *, row_number() OVER () AS {number} FROM {table})"  # noqa: S608  # quoted
        order = f" ORDER BY {', '.join(keys)}, {number}"
    return (
        f"SELECT {listed} FROM {table}{order}"  # noqa: S608  # names and path are quoted
        f"{'' if limit is None else f' LIMIT {limit}'} OFFSET {view.offset}"
    )


def _batches(relation: duckdb.DuckDBPyRelation, source: Path) -> Batches:
    """The relation's rows with the types that they have in `source`: DuckDB has fewer."""
    schema = read_schema(source, relation.columns)
    return Batches(schema, (fit(batch, schema) for batch in to_batches(relation).stream))


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _parquet(table: Batches, file: Sink) -> int:
    return write_parquet(table, file)[0]


def _csv(relation: duckdb.DuckDBPyRelation, file: Sink, con: duckdb.DuckDBPyConnection) -> int:
    """RFC 4180: CRLF between records, quotes doubled, a header."""
    plain = _map_columns(relation, _csv_expression)
    single = len(relation.columns) == 1

    def finish(pieces: Iterator[bytes]) -> Iterator[bytes]:
        return _end_lines_with_crlf(_fill_blank_records(pieces) if single else pieces)

    return _copy(plain, "(FORMAT csv, HEADER)", file, con, finish)


def _json(relation: duckdb.DuckDBPyRelation, file: Sink, con: duckdb.DuckDBPyConnection) -> int:
    plain = _map_columns(relation, _json_expression)
    return _copy(plain, "(FORMAT json, ARRAY true)", file, con, lambda pieces: pieces)


def _ndjson(relation: duckdb.DuckDBPyRelation, file: Sink, con: duckdb.DuckDBPyConnection) -> int:
    plain = _map_columns(relation, _json_expression)
    return _copy(plain, "(FORMAT json)", file, con, lambda pieces: pieces)


def _geojson(relation: duckdb.DuckDBPyRelation, file: Sink, con: duckdb.DuckDBPyConnection) -> int:
    plain = _map_columns(relation, _json_expression)
    feature = feature_reader(relation.columns)
    return _copy(plain, "(FORMAT json)", file, con, lambda pieces: _features(pieces, feature))


def _html(relation: duckdb.DuckDBPyRelation, file: Sink, _: duckdb.DuckDBPyConnection) -> int:
    texts = _map_columns(
        relation, lambda name, kind: f"CAST({_csv_expression(name, kind)} AS VARCHAR)"
    )
    found = texts.fetchall()
    rows = found[:_ROWS_IN_PREVIEW]
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
_TEXT_WRITERS: dict[
    str, Callable[[duckdb.DuckDBPyRelation, Sink, duckdb.DuckDBPyConnection], int]
] = {
    "csv": _csv,
    "json": _json,
    "ndjson": _ndjson,
    "html": _html,
    "geojson": _geojson,
}


def _copy(
    relation: duckdb.DuckDBPyRelation,
    options: str,
    file: Sink,
    con: duckdb.DuckDBPyConnection,
    transform: Callable[[Iterator[bytes]], Iterator[bytes]],
) -> int:
    """Let DuckDB write the text, then pass it on piece by piece."""
    raw = file.path.with_name(file.path.name + ".raw")
    try:
        con.execute(f"COPY ({relation.sql_query()}) TO {_literal(str(raw))} {options}")
        (rows,) = con.fetchall()[0]
        with raw.open("rb") as text:
            for piece in transform(iter(lambda: text.read(_PIECE), b"")):
                file.write(piece)
    finally:
        raw.unlink(missing_ok=True)
    return int(rows)


def _end_lines_with_crlf(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """End records, but not lines inside quotes, with CRLF."""
    quoted = False
    for piece in pieces:
        parts = piece.split(b'"')
        for number, part in enumerate(parts):
            if (number % 2 == 1) == quoted:
                parts[number] = part.replace(b"\n", b"\r\n")
        quoted ^= len(parts) % 2 == 0
        yield b'"'.join(parts)


def _fill_blank_records(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Write the nulls of a table's only column as `""`: readers skip lines that are blank."""
    quoted = False
    for line in _lines(pieces):
        yield (line if line or quoted else b'""') + b"\n"
        quoted ^= line.count(b'"') % 2 == 1


def _features(
    pieces: Iterator[bytes], feature: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[bytes]:
    yield b'{"type":"FeatureCollection","features":['
    separator = b"\n"
    for line in _lines(pieces):
        yield separator + json.dumps(feature(json.loads(line)), ensure_ascii=False).encode()
        separator = b",\n"
    yield b"\n]}\n"


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _map_columns(
    relation: duckdb.DuckDBPyRelation, expression: Callable[[str, Any], str]
) -> duckdb.DuckDBPyRelation:
    pairs = zip(relation.columns, relation.types, strict=True)
    mapped = [f"{expression(_quote(name), kind)} AS {_quote(name)}" for name, kind in pairs]
    return relation.project(", ".join(mapped))


def _csv_expression(column: str, kind: Any) -> str:
    if kind.id == "blob":
        return f"to_base64({column})"
    if kind.id in ("list", "array", "struct", "map"):
        return f"CAST(to_json({_json_expression(column, kind)}) AS VARCHAR)"
    return column


def _json_expression(column: str, kind: Any) -> str:
    """SQL that makes `column`, which may be an expression itself, ready for DuckDB's JSON."""
    make = _JSON_EXPRESSIONS.get(kind.id)
    if make is not None:
        return make(column, kind)
    if kind.id.startswith("timestamp"):
        zone = "Z" if kind.id == "timestamp with time zone" else ""
        return f"replace(replace(CAST({column} AS VARCHAR), ' ', 'T'), '+00', '{zone}')"
    return column


def _json_double(column: str, _: Any) -> str:
    return f"CASE WHEN isfinite({column}) THEN {column} END"


def _json_float(column: str, kind: Any) -> str:
    # By way of text: 0.1 of 32 bits is 0.10000000149011612 of 64.
    return f"CAST(CAST({_json_double(column, kind)} AS VARCHAR) AS DOUBLE)"


def _json_list(column: str, kind: Any) -> str:
    inner = _json_expression("item", kind.children[0][1])
    return column if inner == "item" else f"[{inner} FOR item IN {column}]"


def _json_struct(column: str, kind: Any) -> str:
    parts = {name: f"{column}[{_literal(name)}]" for name, _ in kind.children}
    mapped = {name: _json_expression(parts[name], inner) for name, inner in kind.children}
    if mapped == parts:
        return column
    fields = ", ".join(f"{_quote(name)} := {text}" for name, text in mapped.items())
    return f"CASE WHEN {column} IS NOT NULL THEN struct_pack({fields}) END"


def _json_map(column: str, kind: Any) -> str:
    kinds = dict(kind.children)
    key, value = "entry['key']", "entry['value']"
    # A key becomes a text whatever it is, and must not become null.
    new_key = key if kinds["key"].id in ("float", "double") else _json_expression(key, kinds["key"])
    new_value = _json_expression(value, kinds["value"])
    if (new_key, new_value) == (key, value):
        return column
    entries = f"[{{'k': {new_key}, 'v': {new_value}}} FOR entry IN map_entries({column})]"
    return f"CASE WHEN {column} IS NOT NULL THEN map_from_entries({entries}) END"


_JSON_EXPRESSIONS: dict[str, Callable[[str, Any], str]] = {
    "double": _json_double,
    "float": _json_float,
    "blob": lambda column, _: f"to_base64({column})",
    "list": _json_list,
    "array": _json_list,
    "struct": _json_struct,
    "map": _json_map,
}
