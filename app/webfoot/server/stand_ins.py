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
from webfoot.server.holding import SOON_S, in_time

if TYPE_CHECKING:
    from webfoot.definition import Udf
    from webfoot.engine import Engine
    from webfoot.results import Question

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
        self, udf: Udf, call: Question, coming: asyncio.Task[Answer], until: float
    ) -> Answer | None:
        """The new result if it comes soon, or else an old one; if there is none, see `in_time`.

        One after the other: a server that stands still past both times still looks for an old one.

        Args:
            udf: The UDF; its author says how old a result may be.
            call: The call.
            coming: Its new result, which is kept on its way here if an old one stands in.
            until: How long the spreadsheet waits in all, in the event loop's time.
        """
        soon = min(asyncio.get_running_loop().time() + self._soon_s, until)
        answer = await in_time(coming, soon)
        if answer is not None:
            return answer
        if (old := await self._old(udf, call)) is not None:
            self._going_on.add(coming)
            coming.add_done_callback(self._ended)
            return old
        return await in_time(coming, until)

    async def _old(self, udf: Udf, call: Question) -> Answer | None:
        result = await self._engine.latest(call)
        if result is None or time.time() - result.expires > udf.options.stale_s:
            return None
        return Answer(result)

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._going_on.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("while an old result stood in: %s", error)
