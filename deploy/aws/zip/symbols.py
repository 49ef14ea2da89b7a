"""Shared objects without the names that only debuggers read: a fifth of what pyarrow takes.

`strip` does the same, for the machine that it runs on; this one knows those of Lambda, both.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
_IDENT_BYTES = 16
_SYMBOLS, _NO_BITS = 2, 8


class _Header(NamedTuple):
    """What follows the identification of a file; names as in the specification of ELF."""

    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    addralign: int
    entsize: int

    @property
    def end(self) -> int:
        return self.offset + (0 if self.type == _NO_BITS else self.size)


_HEADER, _SECTION = struct.Struct("<HHIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ")
# A segment, of which only its place in the file and its size there are read.
_SEGMENT = struct.Struct("<8xQ16xQ16x")
_NOTHING = _Section(*[0] * len(_Section._fields))


def without_symbols(data: bytes) -> bytes:
    """A shared object without its symbol table: what a loader reads stays where it is.

    Args:
        data: A file. What is not ELF, has no symbols, or has something behind them is given back.
    """
    if not data.startswith(_ELF64_LITTLE_ENDIAN):
        return data
    header = _Header._make(_HEADER.unpack_from(data, _IDENT_BYTES))
    sections = [
        _Section._make(_SECTION.unpack_from(data, header.shoff + number * header.shentsize))
        for number in range(header.shnum)
    ]
    symbols = {number for number, section in enumerate(sections) if section.type == _SYMBOLS}
    dropped = symbols | {sections[number].link for number in symbols}
    if not dropped:
        return data
    moved = dropped | {header.shstrndx}
    ends = [section.end for number, section in enumerate(sections) if number not in moved]
    for number in range(header.phnum):
        offset, size = _SEGMENT.unpack_from(data, header.phoff + number * header.phentsize)
        ends.append(offset + size)
    end = max(ends)
    if any(sections[number].offset < end for number in dropped):
        return data
    names = sections[header.shstrndx]
    body = data[:end] + data[names.offset : names.end]
    body += bytes(-len(body) % _SECTION.size)
    kept = [_NOTHING if n in dropped else section for n, section in enumerate(sections)]
    kept[header.shstrndx] = names._replace(offset=end)
    moved_header = _HEADER.pack(*header._replace(shoff=len(body)))
    body = body[:_IDENT_BYTES] + moved_header + body[_IDENT_BYTES + _HEADER.size :]
    return body + b"".join(_SECTION.pack(*section) for section in kept)
