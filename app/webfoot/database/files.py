"""`webfoot.Database`: a DuckDB file for work that does not fit a session."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from webfoot.database.folders import HeldFolder
from webfoot.database.instances import Instance
from webfoot.database.sessions import configuration
from webfoot.database.steps import DEFAULT_BOOTSTRAP, steps_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from webfoot.database.bootstrap import Step
    from webfoot.database.connection import Connection

_PREFIX = "webfoot-database-"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


class DatabaseInUse(RuntimeError):
    """Another process, or another part of this one, has the database open."""


class Database:
    """A DuckDB file in the temporary folder, with all that belongs to it in a folder of its own.

    As a context manager it destroys the file at the end. It outlives the process otherwise, until
    it is destroyed, or opened again with `clean_on_start`.

    Args:
        name: Letters, digits, `_` and `-`.
        clean_on_start: Whether what an earlier process has left under that name is removed.
        bootstrap: See `webfoot.cursor`.

    Raises:
        DatabaseInUse: If it is open already.
        ValueError: If the name can be none, or the bootstrap names no step.
    """

    def __init__(
        self,
        name: str,
        *,
        clean_on_start: bool = True,
        bootstrap: Sequence[Step | str] = DEFAULT_BOOTSTRAP,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a database's name is letters, digits, '_' and '-', got {name!r}")
        steps = steps_of(bootstrap)
        settings = configuration()
        self._folder = settings.temp / f"{_PREFIX}{name}"
        self._held = self._hold()
        self.name = name
        self.path: Path = self._folder / f"{name}.duckdb"
        try:
            if clean_on_start:
                self._held.clear()
            self._instance = Instance(settings, steps, self._folder / "temp", self.path)
        except BaseException:
            self._held.release()
            raise

    def cursor(self) -> AbstractContextManager[Connection]:
        """A private cursor on it, closed after the `with`; see `webfoot.cursor`."""
        return self._instance.cursor()

    def close(self) -> None:
        """Close it, so that its file can be attached elsewhere; once more does no harm."""
        self._instance.close()
        self._held.release()

    def destroy(self) -> None:
        """Close it and remove its file, log and temporary files; once more does no harm.

        Raises:
            DatabaseInUse: If somebody else has opened it since it was closed.
        """
        self.close()
        if self._folder.exists():
            self._hold().remove()

    def _hold(self) -> HeldFolder:
        try:
            return HeldFolder(self._folder)
        except BlockingIOError as error:
            raise DatabaseInUse(
                f"the database in {self._folder} is open already; close it there, or choose"
                " another name"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()
