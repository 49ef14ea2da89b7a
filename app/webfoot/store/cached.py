"""Files of this process that are kept to save fetching them again, up to a bound."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Whoever was just given a path still reads it.
_IN_USE_S = 60.0


@dataclass(frozen=True)
class _Use:
    size: int
    at: float


class CachedFiles:
    """Files in a folder, by name; the least used go first, and none that is in use.

    Args:
        folder: The folder, which has nothing else in it.
        max_bytes: How much is kept, unless all of it is in use.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._uses: OrderedDict[str, _Use] = OrderedDict()
        self.size = 0
        # How many files were removed to make room.
        self.removed = 0

    def path(self, name: str) -> Path:
        """Where the file called `name` is, if it is kept."""
        return self._folder / name

    def find(self, name: str) -> Path | None:
        """The file called `name`, noted as in use; None if it is not kept."""
        use = self._uses.get(name)
        if use is None:
            return None
        self._uses[name] = _Use(use.size, time.monotonic())
        self._uses.move_to_end(name)
        return self.path(name)

    def add(self, name: str, source: Path) -> Path:
        """Keep the file `source` as `name`, in place of what went by its name.

        Raises:
            OSError: If it cannot be moved there.
        """
        size = source.stat().st_size
        source.replace(self.path(name))
        before = self._uses.pop(name, None)
        self._uses[name] = _Use(size, time.monotonic())
        self.size += size - (before.size if before else 0)
        self.shrink(self._max_bytes)
        return self.path(name)

    def shrink(self, target: int) -> None:
        """Remove the least used until `target` bytes are left, or only what is in use."""
        settled = time.monotonic() - _IN_USE_S
        while self.size > target:
            name, use = next(iter(self._uses.items()))
            if use.at > settled:
                break
            self._drop(name)
            self.removed += 1

    def _drop(self, name: str) -> None:
        self.size -= self._uses.pop(name).size
        with contextlib.suppress(OSError):
            self.path(name).unlink(missing_ok=True)
