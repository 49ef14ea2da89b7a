"""The result of what is asked: stored, or made; or where to wait for it."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from webfoot.jobs import Job
from webfoot.results import Query, is_whole
from webfoot.server.conditions import read_range
from webfoot.server.holding import in_time
from webfoot.server.requests import wants_rerun
from webfoot.server.stand_ins import StandIns
from webfoot.server.transfer import unless_gone
from webfoot.views import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive

    from webfoot.engine import Answer, Engine
    from webfoot.lineage import Admit
    from webfoot.results import Result
    from webfoot.server.exchanges import Exchange
    from webfoot.server.holding import Holding
    from webfoot.server.problems import Reply
    from webfoot.server.questions import Asked
    from webfoot.server.requests import Request
    from webfoot.store import Store


class Obtained(NamedTuple):
    """A result, and what it took.

    Args:
        result: The result.
        timing: What it took, for `Server-Timing`.
        stale: Whether it stands in for a newer one.
        warm: Whether this server has answered SQL before.
    """

    result: Result
    timing: bytes = b"hit"
    stale: bool = False
    warm: bool = False


class Results:
    """Gives what requests ask for.

    Args:
        engine: Makes results.
        store: Has them.
        holding: Sends on who has waited long enough.
        admit: Counts what SQL calls.
    """

    def __init__(self, engine: Engine, store: Store, holding: Holding, admit: Admit) -> None:
        self._engine = engine
        self._store = store
        self._holding = holding
        self._admit = admit
        self._stand_ins = StandIns(engine)
        # Whether SQL has been asked before: the first waits for what it takes to be imported.
        self._warm = False

    async def peek(self, asked: Asked, headers: Mapping[str, str]) -> Result | None:
        """What a GET would be answered with now, if that is sure; see `Engine.peek`."""
        if isinstance(asked.call, Job):
            result = asked.call.result
            there = result is not None and await self._store.last_used(result) > 0
            return result if there and asked.view.canonical else None
        if wants_rerun(headers):
            return None
        return await self._engine.peek(asked.call, View("parquet"))

    async def peek_view(self, asked: Asked, result: Result, view: View) -> Result | None:
        """A view of what `peek` gave, likewise."""
        if view.canonical:
            return result
        assert not isinstance(asked.call, Job), "of a job, only the result itself is peeked at"
        return await self._engine.peek(asked.call, view)

    async def obtain(self, request: Request, asked: Asked, receive: Receive) -> Obtained | Reply:
        """The result, stored or made; or where to wait for it.

        Raises:
            Error: Why there is none.
        """
        if isinstance(asked.call, Job):
            return await self._wait_for(asked.call, request, receive)
        ranged = read_range(request.headers.get("range")) is not None
        rerun = not ranged and wants_rerun(request.headers)
        if isinstance(asked.call, Query):
            warm, self._warm = self._warm, True
            lineage = replace(self._engine.request(request.exchange.tally), admit=self._admit)
            asking = self._engine.answer(asked.call, ranged=ranged, rerun=rerun, lineage=lineage)
            answer = await unless_gone(receive, asking)
            _note_answer(request.exchange, answer, stale=False)
            return Obtained(answer.result, _timing(answer), warm=warm)
        assert asked.udf is not None, "only SQL is asked of none"
        stored = None if rerun else await self._engine.stored(asked.call, ranged=ranged)
        if stored is not None:
            request.exchange.cache = "hit"
            return Obtained(stored)
        # A job has no word for "anew", nor for inputs that make no call.
        may_go_on = not rerun and is_whole(asked.call)
        if may_go_on and (job := await self._holding.begin(asked.udf, asked.call)) is not None:
            return await self._wait_for(job, request, receive)
        until = self._holding.until(request) if may_go_on else math.inf
        lineage = self._engine.request(request.exchange.tally)
        running = self._engine.result(
            asked.udf, asked.call, ranged=ranged, rerun=rerun, lineage=lineage
        )
        coming = asyncio.ensure_future(running)
        if asked.view.spreadsheet and asked.udf.options.stale_s and not rerun:
            waiting = self._stand_ins.answer(asked.udf, asked.call, coming, until)
        else:
            waiting = in_time(coming, until)
        try:
            came = await unless_gone(receive, waiting)
        except BaseException:
            coming.cancel()
            raise
        if came is None:
            return await self._holding.become_job(asked.call, request, coming)
        stale = not came.ran and not came.result.fresh(time.time())
        _note_answer(request.exchange, came, stale=stale)
        return Obtained(came.result, _timing(came), stale)

    async def view(
        self, request: Request, asked: Asked, result: Result, view: View, receive: Receive
    ) -> Result:
        """A view of what `obtain` gave.

        Raises:
            Error: Why there is none.
        """
        if view.canonical:
            return result
        audience, tally = asked.call.audience, request.exchange.tally
        derived = self._engine.view(asked.udf, result, view, audience, tally)
        return (await unless_gone(receive, derived)).result

    async def _wait_for(self, job: Job, request: Request, receive: Receive) -> Obtained | Reply:
        """What comes of a job; or where to go on waiting for it."""
        request.exchange.cache = "hit" if job.over else "joined"
        job = await unless_gone(receive, self._holding.wait(job, request))
        if not job.over:
            return self._holding.send_on(job, request)
        return Obtained(await self._holding.result_of(job))


def _note_answer(exchange: Exchange, answer: Answer, *, stale: bool) -> None:
    """Note where an answer came from."""
    if answer.ran:
        exchange.cache = "miss" if exchange.tally.runs else "joined"
    else:
        exchange.cache = "stale" if stale else "hit"
    exchange.waited_s = answer.waited_s


def _timing(answer: Answer) -> bytes:
    run, total = answer.result.seconds * 1000, answer.waited_s * 1000
    return b"run;dur=%.1f, wait;dur=%.1f" % (run, max(total - run, 0))
