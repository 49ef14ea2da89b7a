"""Temporary folders that end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

_PREFIX = "webfoot-duckdb-"


class HeldFolder:
    """A folder that this process holds: its lock goes when the process does.

    Args:
        path: The folder, which is made.

    Raises:
        BlockingIOError: If another process, or another part of this one, holds it.
        OSError: If it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not with `exist_ok`, which looks again, when it may be gone.
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            is_there = False
        except BaseException:
            self.release()
            raise
        # Whoever held it until now may have removed it, and somebody made another.
        if not is_there:
            self.release()
            raise BlockingIOError(f"{path} is being removed")

    @classmethod
    def temporary(cls, parent: Path) -> Self:
        """A new one in `parent`, after those there whose processes have died are removed.

        Raises:
            OSError: If `parent` cannot be written.
        """
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                cls(left).remove()
        while True:
            # It may be taken for a dead one's before it is locked.
            with contextlib.suppress(BlockingIOError):
                return cls(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)))

    def clear(self) -> None:
        """Remove what is in it."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

    def release(self) -> None:
        """Let go of it; once more does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def remove(self) -> None:
        """Remove it with all that is in it; once more does no harm."""
        if self._descriptor >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
        self.release()
