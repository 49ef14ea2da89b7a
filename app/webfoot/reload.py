"""Notice when a folder's Python files change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import watchfiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# An editor's save is several events within a few milliseconds.
_SETTLE_MS = 60
_STEP_MS = 20


async def changes(folder: Path) -> AsyncIterator[None]:
    """Yield once after each save below `folder`."""
    watching = watchfiles.awatch(
        folder, watch_filter=watchfiles.PythonFilter(), debounce=_SETTLE_MS, step=_STEP_MS
    )
    async for _ in watching:
        yield
