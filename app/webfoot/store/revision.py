"""A number that changes with a store, which every process that shares it sees at once."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BYTES = 8


class Revision:
    """A random number in a file: another one after each change, whoever makes it.

    It is read where it lies in memory, without asking the system, as an index must be.

    Args:
        path: The file; made if it is missing.

    Raises:
        OSError: If it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # Written before it is mapped: what has no place on the disk could end this process.
            self._write()
            self._mapped = mmap.mmap(self._descriptor, _BYTES, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self._descriptor)
            raise

    def now(self) -> bytes:
        """The number."""
        return self._mapped[:]

    def change(self) -> None:
        """Make it another, once what has changed can be seen."""
        # In place, which needs no room on most disks; on others it waits for the next change.
        with contextlib.suppress(OSError):
            self._write()

    def close(self) -> None:
        """Let go of the file."""
        self._mapped.close()
        os.close(self._descriptor)

    def _write(self) -> None:
        # Not the next one: of two that write at once, each writes what nobody has seen.
        os.pwrite(self._descriptor, os.urandom(_BYTES), 0)
