"""Files that are hashed, and perhaps compressed, as they are written."""

from __future__ import annotations

import errno
import hashlib
import zlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path


def is_disk_full(error: OSError) -> bool:
    """Whether it says that there is no room: on the disk, or for this user."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class HashedFile:
    """A file that knows the SHA-256 and the length of what was written to it."""

    closed = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append `data`."""
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._file.flush()

    def tell(self) -> int:
        """The length so far in bytes."""
        return self.size

    def close(self) -> None:
        """Write what is left; a second call does nothing."""
        self._file.close()
        self.closed = True

    def etag(self) -> str:
        """The SHA-256 of what was written, hexadecimal."""
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CompressedFile:
    """Compresses what is written on its way into a `HashedFile`; the same bytes every time.

    Args:
        file: Where the compressed bytes go; it stays open.
    """

    closed = False
    # Level 5 of 9: within a few percent of the smallest, at half its time.
    _LEVEL = 5
    _GZIP_FRAME = 31

    def __init__(self, file: HashedFile) -> None:
        self._file = file
        self._zip = zlib.compressobj(self._LEVEL, zlib.DEFLATED, self._GZIP_FRAME)
        self.path = file.path
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append `data`."""
        self._file.write(self._zip.compress(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing yet: pieces compress better together."""

    def tell(self) -> int:
        """The length so far in bytes, before compression."""
        return self.size

    def finish(self) -> None:
        """Write what is left."""
        self._file.write(self._zip.flush())


Sink = HashedFile | CompressedFile
