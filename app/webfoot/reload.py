"""Notice when a folder's Python files change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import watchfiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# An editor's save is several events within a few milliseconds.
_SETTLE_MS = 60
_STEP_MS = 20
# What brings no event (a folder renamed, a network mount, a save before watching began) is found
# by a look this often.
_LOOK_MS = 500


async def changes(folder: Path) -> AsyncIterator[None]:
    """Yield after each save below `folder`, and now and then: look whether anything changed."""
    while True:
        watched = _inode(folder)
        if watched is None:
            await asyncio.sleep(_LOOK_MS / 1000)
            continue
        watching = watchfiles.awatch(
            folder,
            # No default filter: it would ignore every folder below one called `.venv`, say.
            watch_filter=lambda _, path: path.endswith(".py"),
            debounce=_SETTLE_MS,
            step=_STEP_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
        )
        async for _ in watching:
            yield
            if _inode(folder) != watched:  # It was removed, or another took its place.
                break


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except OSError:
        return None
