"""Old results that answer a spreadsheet while new ones are made, if the author allows it.

A spreadsheet gives up after some seconds and then shows nothing; a person at it would rather have
yesterday's numbers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from webfoot.engine import Answer

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from webfoot.definition import Udf
    from webfoot.engine import Engine
    from webfoot.results import Question

# Google does not say when IMPORTDATA gives up; people report eight seconds as safe.
SOON_S = 6.0

_log = logging.getLogger(__name__)


class StandIns:
    """Finds what may stand in for a result that takes its time.

    Args:
        engine: Has the old results.
        soon_s: How long a spreadsheet may wait for a new one, in seconds.
    """

    def __init__(self, engine: Engine, soon_s: float = SOON_S) -> None:
        self._engine = engine
        self._soon_s = soon_s
        # Runs that go on although their askers have an answer; without this, they might be lost.
        self._going_on: set[asyncio.Task[Answer]] = set()

    async def answer(
        self, udf: Udf, call: Question, running: Coroutine[Any, Any, Answer]
    ) -> Answer:
        """What `running` gives if it does so soon, or else an old result; if there is none, wait.

        Args:
            udf: The UDF; its author says how old a result may be.
            call: The call.
            running: The way to its new result, which goes on unless this is cancelled.
        """
        task = asyncio.ensure_future(running)
        try:
            done, _ = await asyncio.wait((task,), timeout=self._soon_s)
            if not done and (old := await self._old(udf, call)) is not None:
                self._going_on.add(task)
                task.add_done_callback(self._ended)
                return old
            return await task
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _old(self, udf: Udf, call: Question) -> Answer | None:
        result = await self._engine.latest(call)
        if result is None or time.time() - result.expires > udf.options.stale_s:
            return None
        return Answer(result)

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._going_on.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("while an old result stood in: %s", error)
