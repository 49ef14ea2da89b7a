"""The bytes of a result, open for reading."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryBlob:
    """Bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Their number."""
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        return self.data[start : start + length]

    def close(self) -> None:
        """Nothing to let go."""


@dataclass(frozen=True)
class FileBlob:
    """Bytes in a file, which stay readable even if the file is evicted meanwhile."""

    descriptor: int
    size: int

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        return os.pread(self.descriptor, length, start)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)
