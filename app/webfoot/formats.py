"""How a view is written: one function per format, all from a DuckDB relation.

Text formats keep values as they are, in forms that every reader takes: instants in ISO 8601 and UTC,
bytes in base64, no NaN in JSON, which has none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from webfoot.files import CompressedFile, HashedFile, Sink
from webfoot.geojson import feature_reader
from webfoot.results import Draft
from webfoot.tables.conversion import to_batches
from webfoot.tables.ipc import write_stream
from webfoot.tables.parquet import write_parquet
from webfoot.templating import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import duckdb

    from webfoot.results import Column
    from webfoot.views import View

# A preview is read by a person: more rows than this help nobody, and cost the browser.
_ROWS_IN_PREVIEW = 1000
_PIECE = 1 << 20


def write_view(
    view: View, source: Path, columns: tuple[Column, ...], target: Path, con: duckdb.DuckDBPyConnection
) -> Draft:
    """Write `view` of a result.

    Args:
        view: What to write.
        source: The result's Parquet file.
        columns: The result's schema.
        target: Where to write.
        con: A private DuckDB connection.
    """
    relation = con.sql(_select(view, source))
    with HashedFile(target) as file:
        sink = CompressedFile(file) if view.gzip else file
        rows = _WRITERS[view.extension](relation, sink, con)
        if isinstance(sink, CompressedFile):
            sink.finish()
    kept = [c for name in view.columns or [c.name for c in columns] for c in columns if c.name == name]
    return Draft(file.etag(), file.size, rows, tuple(kept))


def _select(view: View, source: Path) -> str:
    columns = ", ".join(_quote(name) for name in view.columns) or "* EXCLUDE (file_row_number)"
    limit = _ROWS_IN_PREVIEW if view.extension == "html" and view.limit is None else view.limit
    order = ""
    if view.order:
        keys = [f"{_quote(name)} {'DESC' if down else 'ASC'} NULLS LAST" for name, down in view.order]
        # The row number settles ties, so that the same view always has the same bytes.
        order = f" ORDER BY {', '.join(keys)}, file_row_number"
    return (
        f"SELECT {columns} FROM read_parquet({_literal(str(source))}, file_row_number = true){order}"
        f"{'' if limit is None else f' LIMIT {limit}'} OFFSET {view.offset}"
    )


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _parquet(relation: duckdb.DuckDBPyRelation, file: Sink, _: duckdb.DuckDBPyConnection) -> int:
    return write_parquet(to_batches(relation), file)[0]


def _arrow(relation: duckdb.DuckDBPyRelation, file: Sink, _: duckdb.DuckDBPyConnection) -> int:
    return write_stream(to_batches(relation), file)


def _csv(relation: duckdb.DuckDBPyRelation, file: Sink, con: duckdb.DuckDBPyConnection) -> int:
    """RFC 4180: CRLF between records, quotes doubled, a header."""
    plain = _map_columns(relation, _csv_expression)
    return _copy(plain, "(FORMAT csv, HEADER)", file, con, _end_lines_with_crlf)


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
    texts = _map_columns(relation, lambda name, kind: f"CAST({_csv_expression(name, kind)} AS VARCHAR)")
    rows = texts.fetchall()
    columns = list(zip(relation.columns, [str(kind) for kind in relation.types], strict=True))
    cut = len(rows) == _ROWS_IN_PREVIEW
    file.write(render("preview.html", columns=columns, rows=rows, cut=cut).encode())
    return len(rows)


_WRITERS: dict[str, Callable[[duckdb.DuckDBPyRelation, Sink, duckdb.DuckDBPyConnection], int]] = {
    "parquet": _parquet,
    "arrow": _arrow,
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
    if kind.id in ("float", "double"):
        return f"CASE WHEN isfinite({column}) THEN {column} END"
    if kind.id == "blob":
        return f"to_base64({column})"
    if kind.id.startswith("timestamp"):
        zone = "Z" if kind.id == "timestamp with time zone" else ""
        return f"replace(replace(CAST({column} AS VARCHAR), ' ', 'T'), '+00', '{zone}')"
    if kind.id in ("list", "array"):
        inner = _json_expression("item", kind.children[0][1])
        return column if inner == "item" else f"[{inner} FOR item IN {column}]"
    if kind.id == "struct":
        return _json_struct(column, kind)
    return column


def _json_struct(column: str, kind: Any) -> str:
    parts = {name: f"{column}[{_literal(name)}]" for name, _ in kind.children}
    mapped = {name: _json_expression(parts[name], inner) for name, inner in kind.children}
    if mapped == parts:
        return column
    fields = ", ".join(f"{_quote(name)} := {text}" for name, text in mapped.items())
    return f"CASE WHEN {column} IS NOT NULL THEN struct_pack({fields}) END"
