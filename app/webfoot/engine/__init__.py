"""Calls become results: one run per call, however many ask for it, in however many processes.

    call → key → a fresh entry? → one flight per key → claim in the store → runner → publish
                 (freshness)      (flights)            (flights)            (plans, running)

Many calls are asked for in `many`; those that runs make in turn are in `nesting` and `circles`.
Everything here is about *when* to run. What runs, where, and how bytes are kept are other modules'.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from webfoot.asking import audience_of, call_of, call_with, fanout_of, read_query_string
from webfoot.engine.circles import Circles
from webfoot.engine.flights import Answer, Flights
from webfoot.engine.freshness import Freshness, Unclaimed, Wanted
from webfoot.engine.many import Many, file_of
from webfoot.engine.nesting import Answering, calls_of
from webfoot.engine.plans import Plans
from webfoot.engine.running import Running
from webfoot.errors import FanoutLimit, ServerBusy
from webfoot.fanout import MOST_INPUTS, make_fanout
from webfoot.lineage import Tally, lineage_of, new_lineage
from webfoot.results import Call, Fanout, Query, Result, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from pathlib import Path

    from webfoot.access.principal import Principal
    from webfoot.asking import QueryString
    from webfoot.definition import Udf
    from webfoot.fanout import Inputs
    from webfoot.lineage import Lineage
    from webfoot.registry import Registry
    from webfoot.results import Draft, Known, Question, Reach
    from webfoot.runners import Descent, Load, Runner
    from webfoot.runners.jobs import UdfJob
    from webfoot.runs import Run, Runs
    from webfoot.settings import Settings
    from webfoot.store import Store
    from webfoot.views import View

__all__ = ["Answer", "Engine"]

# A run that nobody waits for is kept going this long: a client that timed out tries again at once
# (DuckDB within 0.4 s, over a new connection). What it has called stops with it.
LINGER_S = 1.5


class Engine:
    """Answers calls from the store, and runs what is not there.

    Args:
        registry: The UDFs.
        store: Where results live.
        runner: Where calls run.
        runs: The records of runs.
        settings: Limits that UDFs do not set themselves.
    """

    def __init__(
        self, registry: Registry, store: Store, runner: Runner, runs: Runs, settings: Settings
    ) -> None:
        self.registry = registry
        self.runs = runs
        self._store = store
        self._runner = runner
        self._settings = settings
        unclaimed = Unclaimed()
        self._freshness = Freshness(store, unclaimed)
        self._flights = Flights(store, self._freshness, unclaimed)
        self._circles = Circles()
        self._plans = Plans(settings)
        self._many = Many(self.result, store, runner)
        calls = partial(calls_of, Answering(self._many.answers, self._file_below))
        self._running = Running(store, runner, runs, self._freshness, calls)

    async def use(self, registry: Registry) -> None:
        """Answer from now on with these UDFs; runs under way go on with theirs."""
        self.registry = registry
        await self._runner.use(registry)

    def listen(self, listener: Callable[[Run, Lineage], None]) -> None:
        """Have a function told of every run that has ended, and where it came from."""
        self._running.listen(listener)

    def load(self) -> Load:
        """How busy its runner is."""
        return self._runner.load()

    async def close(self) -> None:
        """Cancel what runs."""
        await self._flights.close()
        await self._runner.close()

    def call(self, udf: Udf, query: Iterable[tuple[str, str]], asker: Principal) -> Call:
        """The call that `asker` makes with a query string; see `call_of`."""
        return call_of(udf, query, asker)

    def call_with(self, udf: Udf, values: Mapping[str, Any], asker: Principal) -> Call:
        """The call that parameters make which are given as values; see `call_of`."""
        return call_with(udf, values, asker)

    def fanout(self, udf: Udf, inputs: Inputs, asker: Principal) -> Fanout:
        """The fan-out that many inputs make; see `make_fanout`."""
        return make_fanout(udf, inputs, audience_of(udf, asker), self._most_inputs)

    def question(self, udf: Udf, asked: QueryString, asker: Principal) -> Question:
        """What `asker` asks with a query string, taken apart; see `call` and `fanout`.

        Raises:
            InvalidParameters: If it asks nothing that has sense.
        """
        if asked.fanout:
            return fanout_of(udf, asked, audience_of(udf, asker), self._most_inputs)
        return call_of(udf, asked.pairs, asker)

    def query(
        self, sql: str, parameters: str, limit: int | None, reach: Reach, asker: Principal
    ) -> Query:
        """The query that a text of SQL makes now; see `Query`.

        Which UDFs it names is known when it is parsed, where it runs: if one in its reach is told
        who asks, it is the asker's alone.
        """
        version = digest(self.registry.code.digest, repr(self._settings.lake))
        told = any(
            udf.parameters.personal and reach.has_udf(udf.name) for udf in self.registry.values()
        )
        audience = asker if told else asker.among_all()
        return Query(sql, parameters, limit, reach, version, audience)

    @property
    def _most_inputs(self) -> int:
        return min(MOST_INPUTS, self._settings.calls)

    def lifetime(self, udf: Udf) -> float:
        """How long results of `udf` are fresh, in seconds."""
        return self._plans.lifetime(udf)

    def root(self, timeout_s: float) -> Lineage:
        """The lineage of what nobody has led to.

        Args:
            timeout_s: How long each run may take if its UDF does not say, in seconds.
        """
        return new_lineage(self.registry, self._settings.calls, self._settings.depth, timeout_s)

    def request(self, tally: Tally) -> Lineage:
        """The lineage of a request of somebody who may try again; `tally` gets what it costs."""
        limits = self._settings.calls, self._settings.depth, self._settings.timeout
        return replace(new_lineage(self.registry, *limits, tally), linger_s=LINGER_S)

    def lineage_of(self, descent: Descent) -> Lineage:
        """The lineage of a run that another process has handed over."""
        return lineage_of(descent, self.registry, self._settings.depth)

    def stored(
        self, call: Question | Query, *, ranged: bool = False
    ) -> Coroutine[Any, Any, Result | None]:
        """The result of a call, a fan-out or a query, if the store has it; see `result`.

        Raises:
            Error: Why the last run failed, if that was a moment ago.
        """
        # Most requests end here: no coroutine more than it takes.
        return self._freshness.known(call.key, ranged=ranged)

    def peek(self, call: Question | Query, view: View) -> Coroutine[Any, Any, Result | None]:
        """What a request could be answered with now, without running anything, for every reader.

        None while ranges of a replaced result may still be read: a new reader is then better served
        with the whole new one than told about ranges that would be the old one's.
        """
        return self._freshness.peek(call.key, view)

    async def latest(self, call: Question) -> Result | None:
        """The newest result of a call, fresh or not; None if there is none."""
        return await self._freshness.latest(call.key)

    async def result(
        self,
        udf: Udf,
        call: Question,
        *,
        ranged: bool = False,
        rerun: bool = False,
        lineage: Lineage | None = None,
    ) -> Answer:
        """The result of a call, or a fan-out, run if need be.

        Args:
            udf: The UDF.
            call: The call.
            ranged: Whether only a byte range is wanted. One read makes many such requests, and they
                must all see the same bytes, even when the result has expired or was replaced since.
            rerun: Whether a fresh result will not do.
            lineage: What has led to the call; None for a request whose costs nobody asks for.

        Raises:
            Error: Why there is none.
        """
        wanted = Wanted.now(call.key, ranged=ranged, rerun=rerun)
        known = None if rerun else await self.stored(call, ranged=ranged)
        if known is not None:
            return Answer(known)
        if rerun and isinstance(call, Fanout):
            # One of results that must all be new is no other that may take old ones, even if that
            # one is made later.
            wanted = replace(wanted, since=math.inf)
        place = lineage or self.request(Tally())
        own = False

        async def run(before: Known) -> Result:
            nonlocal own
            own = True
            if isinstance(call, Fanout):
                return await self._run_fanout(udf, call, place, rerun, before)
            return await self._running.run(self._plans.call(udf, call, place), before)

        with self._circles.waiting(place.key, call.key, udf.name):
            try:
                result = await self._flights.join(wanted, run, place.linger_s)
            except FanoutLimit:
                if own:
                    raise
                # That was the limit of who had asked first: this one has its own.
                result = await self._flights.join(wanted, run, place.linger_s)
        return Answer(result, ran=True, waited_s=time.time() - wanted.asked)

    async def answer(
        self,
        query: Query,
        *,
        ranged: bool = False,
        rerun: bool = False,
        lineage: Lineage | None = None,
    ) -> Answer:
        """The rows of a query; see `result`.

        They are fresh for nobody else: a query may rest on the time, or on files that change, and
        is fast where the results of its UDFs are stored. Only those share them who ask while it
        runs, and who are reading ranges of them.

        Args:
            query: The query.
            ranged: See `result`.
            rerun: Likewise.
            lineage: Where it comes from; a request of its own if not given.
        """
        place = lineage or self.request(Tally())

        async def run(before: Known) -> Result:
            return await self._running.run(self._plans.query(query, place), before)

        wanted = Wanted.now(query.key, ranged=ranged, rerun=rerun)
        return await self._flights.answer(wanted, run, place.linger_s)

    async def view(
        self,
        udf: Udf | None,
        result: Result,
        view: View,
        audience: Principal,
        tally: Tally | None = None,
    ) -> Answer:
        """A view of a result, derived for its audience if it has not been yet; see `result`.

        Args:
            udf: The UDF whose result it is; None for a query's.
            result: The result.
            view: The view.
            audience: For whom the result is.
            tally: Gets what it costs.
        """
        view.check(result.columns)
        if view.canonical:
            return Answer(result)
        # Before new requests, and whatever waits: what it takes to make the result was taken.
        place = replace(self.request(tally or Tally()), depth=1)
        name = udf.name if udf else ""

        async def run(before: Known) -> Result:
            # Opened, it is checked, and noted as in use: it will not be evicted under the worker.
            blob = await self._store.open(result)
            if blob is None:
                raise ServerBusy("the result was evicted while it was asked for; try again")
            blob.close()
            source = await self._store.local_path(result)
            plan = self._plans.view(name, view, result, source, audience, place)
            return await self._running.run(plan, before)

        return await self._flights.answer(Wanted.now(view.key(result)), run, place.linger_s)

    async def run_for(self, job: UdfJob, descent: Descent, lineage: Lineage) -> Draft:
        """Make a run that an engine in another process has claimed, and will publish.

        Args:
            job: What runs.
            descent: Its place.
            lineage: That of the run, which adds up what it leads to.

        Returns:
            What it has written, which the store has.

        Raises:
            Error: Why there is nothing.
        """
        plan = self._plans.job(job, descent.path[-1], lineage)
        with self._circles.known(descent.path):
            return await self._running.run_for_another(plan, descent.run)

    def running(self, call: Question) -> str | None:
        """The id of the run that is under way for a call; None if there is none here."""
        return self._running.find(call.key)

    def progress(self, question: Question) -> int:
        """How many calls of a fan-out have ended; 0 if it is not under way here."""
        return self._many.progress(question.key)

    async def give_up(self, call: Question) -> None:
        """Stop the run that is under way here for a call, if there is one."""
        await self._flights.stop(call.key)

    async def _run_fanout(
        self, udf: Udf, fanout: Fanout, lineage: Lineage, rerun: bool, before: Known
    ) -> Result:
        """Every input's call, then one table of their results."""
        sources, expires = await self._many.collect(udf, fanout, lineage, rerun=rerun)
        plan = self._plans.stitch(udf, fanout, sources, expires, lineage)
        return await self._running.run(plan, before)

    async def _file_below(self, udf: Udf, query: str, asker: Principal, lineage: Lineage) -> Path:
        """The Parquet file that a query string is answered with, for a run of SQL that asks."""
        asked = read_query_string(query.encode(), "parquet")
        # On a thread: it may be thousands of calls.
        question = await asyncio.to_thread(self.question, udf, asked, asker)
        if isinstance(question, Call):
            lineage.budget.take(1)
        result = (await self.result(udf, question, lineage=lineage)).result
        audience, tally = question.audience, lineage.tally
        shown = (await self.view(udf, result, asked.view, audience, tally)).result
        return await file_of(shown, self._store)
