"""The bytes of a result, open for reading."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryBlob:
    """Bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Their number."""
        return len(self.data)

    async def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        return self.data[start : start + length]

    def close(self) -> None:
        """Nothing to let go."""


@dataclass(frozen=True)
class FileBlob:
    """Bytes in a file, which stay readable even if the file is evicted meanwhile."""

    descriptor: int
    size: int

    async def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        # Not on a thread: the bytes are in the page cache but for the rarest case, and a thread
        # costs more than they do.
        return self.read_now(start, length)

    def read_now(self, start: int, length: int) -> bytes:
        """The same, where nothing can wait."""
        return os.pread(self.descriptor, length, start)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class BlobMemory:
    """Small pieces of bytes that are asked for again and again, by name; the least used go first.

    Args:
        max_bytes: How much is kept.
        max_piece: How large a piece may be.
    """

    def __init__(self, max_bytes: int, max_piece: int) -> None:
        self._max_bytes = max_bytes
        self._max_piece = max_piece
        self._pieces: OrderedDict[str, bytes] = OrderedDict()
        self.size = 0

    def get(self, name: str) -> MemoryBlob | None:
        """The piece called `name`, if it is kept."""
        data = self._pieces.get(name)
        if data is None:
            return None
        self._pieces.move_to_end(name)
        return MemoryBlob(data)

    def takes(self, size: int) -> bool:
        """Whether a piece of `size` bytes may be kept."""
        return size <= self._max_piece

    def keep(self, name: str, data: bytes) -> None:
        """Keep a piece, in place of what went by its name."""
        self.drop(name)
        self._pieces[name] = data
        self.size += len(data)
        while self.size > self._max_bytes:
            _, dropped = self._pieces.popitem(last=False)
            self.size -= len(dropped)

    def drop(self, name: str) -> None:
        """Forget a piece, if it is kept."""
        self.size -= len(self._pieces.pop(name, b""))
