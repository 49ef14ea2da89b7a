"""A DuckDB file that cannot be attached, by design, and says why: `unreadable`, for databases.

Of whatever a server answers, DuckDB makes "database does not exist", and tries ten times. But it
prints the name of a view that a file has twice. DuckDB itself writes no such file: it writes one
with two views of names that are equally long, and one message takes the place of both.

Source: DuckDB's src/storage/storage_info.hpp (three headers of 4 KiB, then blocks that begin with a
checksum), src/common/checksum.cpp; measured with DuckDB 1.5.
"""

from __future__ import annotations

import struct
import tempfile
from functools import cache
from pathlib import Path

from webfoot.database.queries import write_database

# The oldest format that DuckDB still writes, which all read.
_STORAGE_VERSION = "v1.0.0"
# With blocks of this size a catalog is in pieces of 2 KiB: both names, each twice, fit into one.
_BLOCK_BYTES = 131_072
_HEADERS_BYTES = 3 * 4096
_CHECKSUM = struct.Struct("<Q")
_MOST_BYTES = 400
# Messages are filled up with spaces to a multiple of this, so that few files make them all.
_STEP_BYTES = 40


def unattachable_database(message: str) -> bytes:
    """A file that DuckDB fails to attach with `message`, or its first 390 bytes."""
    name = f"\n\n  {message.strip()}".replace("\0", "�").encode(errors="replace")
    # What was cut inside a letter is no text.
    name = name[: _MOST_BYTES - 2].decode(errors="ignore").encode()
    size = -(-(len(name) + 2) // _STEP_BYTES) * _STEP_BYTES
    written = _template(size)
    for placeholder in _placeholders(size):
        written = written.replace(placeholder.encode(), name.ljust(size - 2) + b"\n\n")
    data = bytearray(written)
    for begin in range(_HEADERS_BYTES, len(data), _BLOCK_BYTES):
        block = bytes(data[begin + _CHECKSUM.size : begin + _BLOCK_BYTES])
        _CHECKSUM.pack_into(data, begin, _checksum(block))
    return bytes(data)


def _placeholders(size: int) -> tuple[str, str]:
    return "a" * size, "b" * size


@cache
def _template(size: int) -> bytes:
    """A file with two views, whose names have so many bytes; DuckDB takes a moment to write it."""
    script = "".join(f'CREATE VIEW "{name}" AS SELECT 1;' for name in _placeholders(size))
    with tempfile.TemporaryDirectory(prefix="webfoot-") as folder:
        path = Path(folder) / "template.duckdb"
        write_database(path, script, _STORAGE_VERSION, _BLOCK_BYTES)
        return path.read_bytes()


def _checksum(block: bytes) -> int:
    found = 5381
    for (word,) in _CHECKSUM.iter_unpack(block):
        found ^= word * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    return found
