"""A Parquet file that cannot be read, by design, and says why at a DuckDB prompt.

DuckDB shows its user neither the body nor the reason phrase of a failing request, and tries a
failing GET four times. But it prints the names that it stumbles over in a file, and does not ask
again for a file that it has read. So an error becomes a file whose footer is broken in one place,
with the message for a name:

- the schema's root claims two children, and one follows, whose name is the message and which has
  neither a type nor children: DuckDB 1.3 and 1.4 say "Node '…' has neither num_children nor type
  set";
- the key-value metadata `geo` names the message as a geometry column and describes it with a text
  where an object belongs: DuckDB 1.5 and later say "Geoparquet column '…' is not an object".
  Should GeoParquet be switched off there, the second child that is missing still makes the file
  fail.

Every other reader refuses the file too, so that nobody can take an error for an empty table.
`num_rows` is 0 and must not be negative: DuckDB checks that first, and would hide the message.

Source: Apache Parquet's parquet.thrift (FileMetaData, SchemaElement, KeyValue); Thrift's compact
protocol; measured with DuckDB 1.3 to 1.5.
"""

from __future__ import annotations

import json
import struct

_MAGIC = b"PAR1"
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12
_OPTIONAL = 1


def unreadable_parquet(message: str) -> bytes:
    """A file of a few hundred bytes that DuckDB fails to read with `message`.

    The message stands on lines of its own, whatever words DuckDB puts around it.
    """
    name = f"\n\n  {message.strip()}\n\n".replace("\0", "�")
    geo = {"version": "1.1.0", "primary_column": name, "columns": {name: "x"}}
    root = _struct(
        _field(4, _BINARY, _binary("schema")),
        _field(1, _I32, _integer(2)),  # num_children: one more than there are
    )
    child = _struct(_field(3, _I32, _integer(_OPTIONAL)), _field(1, _BINARY, _binary(name)))
    pair = _struct(
        _field(1, _BINARY, _binary("geo")),
        _field(1, _BINARY, _binary(json.dumps(geo, ensure_ascii=False))),
    )
    footer = _struct(
        _field(1, _I32, _integer(1)),  # version
        _field(1, _LIST, _list(root, child)),  # schema
        _field(1, _I64, _integer(0)),  # num_rows
        _field(1, _LIST, _list()),  # row_groups
        _field(1, _LIST, _list(pair)),  # key_value_metadata
    )
    return _MAGIC + footer + struct.pack("<I", len(footer)) + _MAGIC


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004  # seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _integer(number: int) -> bytes:
    return _varint(number << 1)  # Zigzag of a number that is not negative.


def _binary(text: str) -> bytes:
    data = text.encode(errors="replace")
    return _varint(len(data)) + data


def _list(*items: bytes) -> bytes:
    return bytes([len(items) << 4 | _STRUCT]) + b"".join(items)


def _field(step: int, kind: int, value: bytes) -> bytes:
    """A field whose id is `step` above the one before."""
    return bytes([step << 4 | kind]) + value


def _struct(*fields: bytes) -> bytes:
    return b"".join(fields) + b"\0"
