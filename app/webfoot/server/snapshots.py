"""Tables that are no results: as they were a moment ago, in files that nobody else knows.

A snapshot is made when it is asked for, and kept for readers of ranges as long as they come back.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from webfoot.results import Result
from webfoot.store.blobs import FileBlob
from webfoot.views import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from webfoot.results import Draft

# A snapshot answers new readers for this long, and those who read ranges of it until they pause.
_FRESH_S = 1.0
_RANGE_PAUSE_S = 30.0
_KEPT = 8
_WHOLE = View("parquet")
# A table, and the tenant for whom it is.
Name = tuple[str, str]


@dataclass
class _Snapshot:
    """A table as it was, or a view of it.

    Args:
        result: What it is.
        path: Its bytes.
        used: When anybody last read it, by the monotonic clock.
    """

    result: Result
    path: Path
    used: float

    def answers(self, *, ranged: bool) -> bool:
        """Whether it is new enough for a request."""
        now = time.monotonic()
        return self.result.fresh(time.time()) or (ranged and now - self.used < _RANGE_PAUSE_S)


class Snapshots:
    """The latest snapshots, by table and view.

    Args:
        write: Writes a table, as Parquet.
    """

    def __init__(self, write: Callable[[Name, Path], Draft]) -> None:
        self._write_table = write
        self._kept: OrderedDict[tuple[Name, View], _Snapshot] = OrderedDict()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = itertools.count()
        # One at a time is made, however many ask.
        self._making = asyncio.Lock()

    async def open(self, table: Name, view: View, *, ranged: bool) -> tuple[Result, FileBlob]:
        """A snapshot that is new enough, made if there is none; and its bytes.

        Args:
            table: The table.
            view: What of it, and in which format.
            ranged: Whether only a byte range is wanted: of one snapshot, whatever comes since.

        Raises:
            InvalidParameters: If the table has no such view.
        """
        async with self._making:
            found = await self._find(table, view, ranged=ranged)
            found.used = time.monotonic()
            return found.result, FileBlob(os.open(found.path, os.O_RDONLY), found.result.size)

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()

    async def _find(self, table: Name, view: View, *, ranged: bool) -> _Snapshot:
        kept = self._kept.get((table, view))
        if kept is not None and kept.answers(ranged=ranged):
            return kept
        if view == _WHOLE:
            return await self._write(table, view, partial(self._write_table, table))
        whole = await self._find(table, _WHOLE, ranged=ranged)
        view.check(whole.result.columns)
        return await self._write(table, view, partial(_write_view, view, whole))

    async def _write(self, table: Name, view: View, write: Callable[[Path], Draft]) -> _Snapshot:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="webfoot-system-")
        path = Path(self._folder.name) / f"{next(self._numbers)}.{view.extension}"
        draft = await asyncio.to_thread(write, path)
        now = time.time()
        result = Result(
            key="",
            run="",
            extension=view.extension,
            etag=draft.etag,
            size=draft.size,
            rows=draft.rows,
            columns=draft.columns,
            seconds=0.0,
            created=now,
            expires=now + _FRESH_S,
            executions=1,
        )
        before = self._kept.pop((table, view), None)
        made = self._kept[table, view] = _Snapshot(result, path, time.monotonic())
        gone = [] if before is None else [before]
        while len(self._kept) > _KEPT:
            gone.append(self._kept.popitem(last=False)[1])
        for snapshot in gone:
            # Who reads it has it open.
            snapshot.path.unlink(missing_ok=True)
        return made


def _write_view(view: View, whole: _Snapshot, target: Path) -> Draft:
    # Half a second that a server does without until it is asked for.
    from webfoot import database  # noqa: PLC0415
    from webfoot.formats import write_view  # noqa: PLC0415

    with database.opened() as connection:
        return write_view(view, whole.path, whole.result.columns, target, connection)
