"""Values as text: SQL that makes them so, and the text that DuckDB then writes, piece by piece.

In forms that every reader takes: instants in UTC, in JSON with ISO 8601's T and Z, in CSV with the
space that spreadsheets know; bytes in base64; lists and structs inside CSV as JSON; no NaN in JSON,
which has none.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from webfoot.literals import sql_quoted, sql_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import duckdb

    from webfoot.files import Sink

    Number = Callable[[str, Any], str]

_PIECE = 1 << 20
# Types with more digits than a double has.
LONG_NUMBERS = frozenset({"bigint", "hugeint", "ubigint", "uhugeint", "decimal"})
_LARGEST_EXACT = 2**53 - 1
_DOUBLE_DIGITS = 15


def copy_text(
    relation: duckdb.DuckDBPyRelation,
    options: str,
    file: Sink,
    con: duckdb.DuckDBPyConnection,
    transform: Callable[[Iterator[bytes]], Iterator[bytes]],
) -> int:
    """Let DuckDB write the text, then pass it on piece by piece.

    Args:
        relation: The rows.
        options: What COPY is told of the format.
        file: Where the text goes.
        con: The relation's connection.
        transform: What becomes of the pieces on their way.

    Returns:
        The number of rows.
    """
    with text_of(relation, options, file, con) as (rows, pieces):
        for piece in transform(pieces):
            file.write(piece)
    return rows


@contextlib.contextmanager
def text_of(
    relation: duckdb.DuckDBPyRelation, options: str, file: Sink, con: duckdb.DuckDBPyConnection
) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The number of rows and the text that DuckDB writes, kept beside `file` until the end."""
    raw = file.path.with_name(file.path.name + ".raw")
    try:
        con.execute(f"COPY ({relation.sql_query()}) TO {sql_text(str(raw))} {options}")
        (rows,) = con.fetchall()[0]
        with raw.open("rb") as text:
            yield int(rows), iter(lambda: text.read(_PIECE), b"")
    finally:
        raw.unlink(missing_ok=True)


def end_lines_with_crlf(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """End records, but not lines inside quotes, with CRLF."""
    quoted = False
    for piece in pieces:
        parts = piece.split(b'"')
        for number, part in enumerate(parts):
            if (number % 2 == 1) == quoted:
                parts[number] = part.replace(b"\n", b"\r\n")
        quoted ^= len(parts) % 2 == 0
        yield b'"'.join(parts)


def fill_blank_records(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Write the nulls of a table's only column as `""`: readers skip lines that are blank."""
    quoted = False
    for line in lines_of(pieces):
        yield (line if line or quoted else b'""') + b"\n"
        quoted ^= line.count(b'"') % 2 == 1


def lines_of(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a text that comes in pieces, without their ends."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def map_columns(
    relation: duckdb.DuckDBPyRelation, expression: Callable[[str, Any], str]
) -> duckdb.DuckDBPyRelation:
    """The relation with each column replaced by SQL made of its quoted name and its type."""
    pairs = zip(relation.columns, relation.types, strict=True)
    mapped = [f"{expression(sql_quoted(name), kind)} AS {sql_quoted(name)}" for name, kind in pairs]
    return relation.project(", ".join(mapped))


def csv_expression(column: str, kind: Any) -> str:
    """SQL that makes `column`, a quoted name, ready for DuckDB's CSV."""
    if kind.id == "blob":
        return f"to_base64({column})"
    if kind.id in ("list", "array", "struct", "map"):
        return f"CAST(to_json({json_expression(column, kind)}) AS VARCHAR)"
    return column


def number_as_it_is(column: str, kind: Any) -> str:  # noqa: ARG001  # whatever it is
    """The SQL of a number as JSON has it: with all its digits, of which a reader may keep few."""
    return column


def number_as_doubles_have_it(column: str, kind: Any) -> str:
    """The SQL of a number that becomes a text where no double has it, and so no JavaScript."""
    text = f"CAST({column} AS VARCHAR)"
    if kind.id == "decimal":
        size = dict(kind.children)
        if size["precision"] <= _DOUBLE_DIGITS:
            return column
        if size["scale"]:
            digits = f"length(trim(translate({text}, '-.', ''), '0'))"
            return _either(f"{digits} <= {_DOUBLE_DIGITS}", column, text)
    return _either(f"{column} BETWEEN -{_LARGEST_EXACT} AND {_LARGEST_EXACT}", column, text)


def _either(condition: str, number: str, text: str) -> str:
    return f"CASE WHEN {condition} THEN to_json({number}) ELSE to_json({text}) END"


def json_expression(column: str, kind: Any, number: Number = number_as_it_is) -> str:
    """SQL that makes a value ready for DuckDB's JSON.

    Args:
        column: A quoted name, or an expression.
        kind: Its type.
        number: Makes SQL of a long number.
    """
    if kind.id in LONG_NUMBERS:
        return number(column, kind)
    make = _JSON_EXPRESSIONS.get(kind.id)
    if make is not None:
        return make(column, kind)
    nested = _JSON_NESTED.get(kind.id)
    if nested is not None:
        return nested(column, kind, number)
    if kind.id.startswith("timestamp"):
        zone = "Z" if kind.id == "timestamp with time zone" else ""
        return f"replace(replace(CAST({column} AS VARCHAR), ' ', 'T'), '+00', '{zone}')"
    return column


def _json_double(column: str, _: Any) -> str:
    return f"CASE WHEN isfinite({column}) THEN {column} END"


def _json_float(column: str, kind: Any) -> str:
    # By way of text: 0.1 of 32 bits is 0.10000000149011612 of 64.
    return f"CAST(CAST({_json_double(column, kind)} AS VARCHAR) AS DOUBLE)"


def _json_list(column: str, kind: Any, number: Number) -> str:
    inner = json_expression("item", kind.children[0][1], number)
    return column if inner == "item" else f"[{inner} FOR item IN {column}]"


def _json_struct(column: str, kind: Any, number: Number) -> str:
    parts = {name: f"{column}[{sql_text(name)}]" for name, _ in kind.children}
    mapped = {name: json_expression(parts[name], inner, number) for name, inner in kind.children}
    if mapped == parts:
        return column
    fields = ", ".join(f"{sql_quoted(name)} := {text}" for name, text in mapped.items())
    return f"CASE WHEN {column} IS NOT NULL THEN struct_pack({fields}) END"


def _json_map(column: str, kind: Any, number: Number) -> str:
    kinds = dict(kind.children)
    key, value = "entry['key']", "entry['value']"
    # A key becomes a text whatever it is, and must not become null.
    new_key = key if kinds["key"].id in ("float", "double") else json_expression(key, kinds["key"])
    new_value = json_expression(value, kinds["value"], number)
    if (new_key, new_value) == (key, value):
        return column
    entries = f"[{{'k': {new_key}, 'v': {new_value}}} FOR entry IN map_entries({column})]"
    return f"CASE WHEN {column} IS NOT NULL THEN map_from_entries({entries}) END"


_JSON_EXPRESSIONS: dict[str, Callable[[str, Any], str]] = {
    "double": _json_double,
    "float": _json_float,
    "blob": lambda column, _: f"to_base64({column})",
}
_JSON_NESTED: dict[str, Callable[[str, Any, Number], str]] = {
    "list": _json_list,
    "array": _json_list,
    "struct": _json_struct,
    "map": _json_map,
}
