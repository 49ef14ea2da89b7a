"""Calls become results: one run per call, however many ask for it, in however many processes.

    call → key → a fresh entry? → one flight per key → claim in the store → runner → publish

Everything here is about *when* to run. What runs, where, and how bytes are kept are other modules'.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from webfoot import runs as run_records
from webfoot.asking import fanout_of, read_query_string
from webfoot.errors import (
    Error,
    FanoutLimit,
    InvalidParameters,
    RunCancelled,
    RunError,
    ServerBusy,
    StorageFull,
)
from webfoot.fanout import (
    MOST_INPUTS,
    WAITING_AT_ONCE,
    Circles,
    as_completed,
    collect,
    make_fanout,
)
from webfoot.lineage import Tally, lineage_of, new_lineage
from webfoot.masking import mask_arguments
from webfoot.nesting import Plan, audience_of, calls_of
from webfoot.quantities import shorten
from webfoot.results import Call, Failure, Fanout, Query, Result, digest
from webfoot.runners import Answered
from webfoot.runners.jobs import QueryJob, QueryLimits, StitchJob, UdfJob, ViewJob
from webfoot.runs import Run

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from pathlib import Path

    from webfoot.access.principal import Principal
    from webfoot.asking import QueryString
    from webfoot.definition import Udf
    from webfoot.fanout import Inputs
    from webfoot.lineage import Lineage
    from webfoot.registry import Registry
    from webfoot.results import Draft, Known, Question, Reach, Usage
    from webfoot.runners import Descent, Load, Runner
    from webfoot.runs import Runs
    from webfoot.settings import Settings
    from webfoot.store import Store
    from webfoot.views import View

# A failure answers for its call this long: DuckDB's four tries take half a second, Polars' nearly
# ten, and a person who has mended the UDF has a new version, whose calls are others.
FAILURE_S = 10.0
# A run that nobody waits for is kept going this long: a client that timed out tries again at once
# (DuckDB within 0.4 s, over a new connection). What it has called stops with it.
LINGER_S = 1.5
# A reader of byte ranges comes back within this time for its next one...
RANGE_PAUSE_S = 30.0
# ...and has read all it wants after this time at the latest.
RANGE_READ_S = 600.0
# A result whose askers had all gone answers the next to ask, even stale, this long.
UNCLAIMED_S = 30.0
# Of SQL, and of its parameters, a record tells so much, in characters.
_MOST_TOLD = 10_000


@dataclass(frozen=True)
class Answer:
    """A result, and what it took.

    Args:
        result: The result.
        ran: Whether a run was made for, or joined by, this request.
        waited_s: How long the request waited for it, in seconds.
    """

    result: Result
    ran: bool = False
    waited_s: float = 0.0


class _Flight:
    """One run under way, and how many wait for it."""

    def __init__(self, task: asyncio.Task[Result]) -> None:
        self.task = task
        self.waiting = 0
        self._ending: asyncio.TimerHandle | None = None

    def join(self) -> None:
        self.waiting += 1
        if self._ending is not None:
            self._ending.cancel()

    def leave(self, linger_s: float) -> None:
        self.waiting -= 1
        if self.waiting == 0 and not self.task.done():
            self._ending = asyncio.get_running_loop().call_later(linger_s, self.task.cancel)


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
        self._flights: dict[str, _Flight] = {}
        self._circles = Circles()
        # The runs under way, by the keys of their calls.
        self._running: dict[str, str] = {}
        # How many calls of the fan-outs under way have ended.
        self._progress: dict[str, int] = {}
        self._listeners: list[Callable[[Run, Lineage], None]] = []
        # When runs landed whose askers had all gone: the next to ask takes the result.
        self._unclaimed: dict[str, float] = {}

    async def use(self, registry: Registry) -> None:
        """Answer from now on with these UDFs; runs under way go on with theirs."""
        self.registry = registry
        await self._runner.use(registry)

    def listen(self, listener: Callable[[Run, Lineage], None]) -> None:
        """Have a function told of every run that has ended, and where it came from."""
        self._listeners.append(listener)

    def load(self) -> Load:
        """How busy its runner is."""
        return self._runner.load()

    async def close(self) -> None:
        """Cancel what runs."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._runner.close()

    def call(self, udf: Udf, query: Iterable[tuple[str, str]], asker: Principal) -> Call:
        """The call that `asker` makes with a query string.

        Raises:
            InvalidParameters: If it makes none.
        """
        with _about(udf):
            arguments = udf.parameters.from_text(query)
        return Call(udf.name, udf.version, arguments, audience_of(udf, asker))

    def call_with(self, udf: Udf, values: Mapping[str, Any], asker: Principal) -> Call:
        """The call that parameters make which are given as values; see `call`."""
        with _about(udf):
            arguments = udf.parameters.from_values(values)
        return Call(udf.name, udf.version, arguments, audience_of(udf, asker))

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
        return self.call(udf, asked.pairs, asker)

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
        return self._settings.cache if udf.options.cache_s is None else udf.options.cache_s

    async def stored(self, call: Question | Query, *, ranged: bool = False) -> Result | None:
        """The result of a call, a fan-out or a query, if the store has it; see `result`.

        Raises:
            Error: Why the last run failed, if that was a moment ago.
        """
        return await self._known(call.key, ranged=ranged)

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
        began = time.time()
        known = None if rerun else await self.stored(call, ranged=ranged)
        if known is not None:
            return Answer(known)
        place = lineage or self.request(Tally())
        # A fan-out of results that must all be new is no other that may take old ones, even if that
        # one is made later.
        anew = rerun and isinstance(call, Fanout)
        flight, since = (f"{call.key} anew", math.inf) if anew else (call.key, began)
        own = False

        async def make() -> Result:
            nonlocal own
            own = True
            if isinstance(call, Fanout):
                run = partial(self._make_fanout, udf, call, place, rerun)
            else:
                run = partial(self._run_udf, udf, call, place)
            return await self._claimed(call.key, run, ranged, since, rerun)

        with self._circles.waiting(place.key, call.key, udf.name):
            try:
                result = await self._join(flight, make, place.linger_s)
            except FanoutLimit:
                if own:
                    raise
                # That was the limit of who had asked first: this one has its own.
                result = await self._join(flight, make, place.linger_s)
        return Answer(result, ran=True, waited_s=time.time() - began)

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
        staged = self._store.stage(descent.run, "parquet")
        key, asked = descent.path[-1], (job.asker, job.arguments)
        plan = Plan(job, job.udf.name, key, self.lifetime(job.udf), lineage, *asked)
        calls = calls_of(self, plan, descent.run)
        try:
            with self._circles.known(descent.path):
                log = self.runs.log_path(descent.run)
                draft = await self._runner.run(job, staged, log, calls)
            if not draft.stored:
                await self._store.put(draft, "parquet", staged)
        finally:
            _remove(staged)
        return replace(draft, stored=True)

    def lineage_of(self, descent: Descent) -> Lineage:
        """The lineage of a run that another process has handed over."""
        return lineage_of(descent, self.registry, self._settings.depth)

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

    def running(self, call: Question) -> str | None:
        """The id of the run that is under way for a call; None if there is none here."""
        return self._running.get(call.key)

    def progress(self, question: Question) -> int:
        """How many calls of a fan-out have ended; 0 if it is not under way here."""
        return self._progress.get(question.key, 0)

    async def give_up(self, call: Question) -> None:
        """Stop the run that is under way here for a call, if there is one."""
        flight = self._flights.get(call.key)
        if flight is not None:
            flight.task.cancel()
            await asyncio.wait((flight.task,))

    async def latest(self, call: Question) -> Result | None:
        """The newest result of a call, fresh or not; None if there is none."""
        result = await self._find(call.key)
        return result if result is not None and await self._there(result) else None

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
        lineage = lineage or self.request(Tally())
        run = partial(self._run_query, query, lineage)
        return await self._made(query.key, run, lineage.linger_s, ranged=ranged, rerun=rerun)

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
        lineage = replace(self.request(tally or Tally()), depth=1)
        name = udf.name if udf else ""
        run = partial(self._write_view, name, result, view, audience, lineage)
        return await self._made(view.key(result), run, lineage.linger_s)

    async def _made(
        self,
        key: str,
        run: Callable[[Known], Awaitable[Result]],
        linger_s: float,
        *,
        ranged: bool = False,
        rerun: bool = False,
    ) -> Answer:
        """What is stored under `key`, or what `run` makes of it."""
        began = time.time()
        known = None if rerun else await self._known(key, ranged=ranged)
        if known is not None:
            return Answer(known)

        async def make() -> Result:
            return await self._claimed(key, run, ranged, began, rerun)

        made = await self._join(key, make, linger_s)
        return Answer(made, ran=True, waited_s=time.time() - began)

    async def peek(self, call: Question | Query, view: View) -> Result | None:
        """What a request could be answered with now, without running anything, for every reader.

        None while ranges of a replaced result may still be read: a new reader is then better served
        with the whole new one than told about ranges that would be the old one's.
        """
        result = await self._find(call.key)
        if result is None or not result.fresh(time.time()) or await self._held(result.before):
            return None
        shown: Result | None = result
        if not view.canonical:
            shown = None
            with contextlib.suppress(InvalidParameters):
                view.check(result.columns)
                shown = await self._find(view.key(result))
        return shown if shown is not None and await self._there(shown) else None

    async def _find(self, key: str) -> Result | None:
        """The newest result of `key`, fresh or not, there or evicted."""
        return (await self._store.find(key)).result

    async def _known(self, key: str, *, ranged: bool) -> Result | None:
        """What answers a new request, if anything; a remembered failure is raised."""
        before = await self._store.find(key)
        known = await self._choose(before, ranged, -math.inf)
        if known is None:
            self._refuse(before, -math.inf)
        return known

    async def _choose(self, before: Known, ranged: bool, since: float) -> Result | None:
        """The result, made after `since`, that answers a new request."""
        result = before.result
        if result is None or result.created <= since:
            return None
        if ranged and await self._held(result.before):
            return result.before
        if not await self._usable(result, ranged=ranged):
            return None
        self._unclaimed.pop(result.key, None)
        return result

    def _refuse(self, before: Known, since: float) -> None:
        """Raise a failure that is remembered, newer than the result and than `since`."""
        failure, result, now = before.failure, before.result, time.time()
        if (
            failure is not None
            and failure.fresh(now)
            # A clock that was set back must not prolong it.
            and failure.created < now + FAILURE_S
            and failure.created > max(since, result.created if result else since)
        ):
            raise Error.from_problem(failure.problem)

    async def _usable(self, result: Result, *, ranged: bool) -> bool:
        if not await self._there(result):
            return False
        if result.fresh(time.time()) or (ranged and await self._held(result)):
            return True
        return time.monotonic() - self._unclaimed.get(result.key, -math.inf) < UNCLAIMED_S

    async def _there(self, result: Result) -> bool:
        return await self._store.last_used(result) > 0

    async def _held(self, result: Result | None) -> bool:
        """Whether somebody may be in the middle of reading ranges of `result`."""
        if result is None:
            return False
        now = time.time()
        idle = abs(now - await self._store.last_used(result))
        return idle < RANGE_PAUSE_S and now - result.expires < RANGE_READ_S

    async def _join(
        self, key: str, make: Callable[[], Awaitable[Result]], linger_s: float
    ) -> Result:
        """Wait for the one flight of `key`, which goes on when this request is cancelled."""
        while (flight := self._flights.get(key)) is not None and flight.task.cancelling():
            await asyncio.wait([flight.task])  # Too late to join it.
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(make()))
            flight.task.add_done_callback(lambda _: self._land(key))
        flight.join()
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if flight.task.cancelled() and not (asker and asker.cancelling()):
                raise RunCancelled("the run was stopped before it ended; try again") from None
            raise
        finally:
            flight.leave(linger_s)

    def _land(self, key: str) -> None:
        flight = self._flights.pop(key)
        now = time.monotonic()
        landed = {old: at for old, at in self._unclaimed.items() if now - at < UNCLAIMED_S}
        landed.pop(key, None)
        if not flight.task.cancelled() and flight.task.exception() is None and not flight.waiting:
            landed[key] = now
        self._unclaimed = landed

    async def _claimed(
        self,
        key: str,
        run: Callable[[Known], Awaitable[Result]],
        ranged: bool,
        began: float,
        rerun: bool,
    ) -> Result:
        """Run, unless another process has done so while this one waited for its turn."""
        since = began if rerun else -math.inf
        try:
            async with self._store.claim(key):
                before = await self._store.find(key)
                known = await self._choose(before, ranged, since)
                if known is not None:
                    return known
                self._refuse(before, since)
                result = before.result
                # Stale already, but made since this request was: it was waiting for that run.
                if result is not None and result.created > began and await self._there(result):
                    return result
                return await run(before)
        except StorageFull:
            await self._store.relieve()
            raise

    async def _run_udf(self, udf: Udf, call: Call, lineage: Lineage, before: Known) -> Result:
        options = udf.options
        job = UdfJob(
            udf=udf,
            arguments=call.arguments,
            timeout_s=options.timeout_s or lineage.timeout_s,
            memory_bytes=options.memory_bytes or self._settings.memory,
            asker=call.audience,
        )
        asked = call.audience, call.arguments
        plan = Plan(job, udf.name, call.key, self.lifetime(udf), lineage, *asked)
        return await self._run(plan, before)

    async def _make_fanout(
        self, udf: Udf, fanout: Fanout, lineage: Lineage, rerun: bool, before: Known
    ) -> Result:
        """Every input's call, then one table of their results."""
        with _about(udf):
            below = lineage.below(fanout.key)
            below.budget.take(len(fanout.calls))
            kept: list[Result] = []
            asking = self._ask_all(udf, fanout.calls, below, rerun)
            async with aclosing(self._counted(fanout.key, asking)) as told:
                keep = partial(self._keep, kept)
                sources, expires = await collect(fanout, told, keep, FAILURE_S)
            # Those that came first may have been evicted while the last ones ran.
            if not all([await self._store.keep(result) for result in kept]):
                raise ServerBusy(
                    "results were evicted before they could be put together; try again, or make the"
                    " store larger"
                )
        job = StitchJob(
            udf=udf,
            sources=tuple(sources),
            names=fanout.names,
            errors=fanout.partial,
            timeout_s=lineage.timeout_s,
            memory_bytes=self._settings.memory,
        )
        lifetime = max(expires - time.time(), 0.0)
        asked = fanout.audience, f"{len(sources)} inputs"
        plan = Plan(job, udf.name, fanout.key, lifetime, lineage, *asked)
        return await self._run(plan, before)

    async def _counted(
        self, key: str, told: AsyncGenerator[tuple[int, Result | Error]]
    ) -> AsyncGenerator[tuple[int, Result | Error]]:
        async with aclosing(told):
            self._progress[key] = 0
            try:
                async for item in told:
                    self._progress[key] += 1
                    yield item
            finally:
                del self._progress[key]

    async def _keep(self, kept: list[Result], result: Result) -> Path:
        """The file of a result, noted as in use and in `kept`."""
        kept.append(result)
        await self._store.keep(result)
        return await self._store.local_path(result)

    async def answers_below(
        self, udf: Udf, arguments: Sequence[str], audience: Principal, lineage: Lineage
    ) -> AsyncGenerator[Answered]:
        """What comes of calls that a run makes, as it comes; see `webfoot.runners.Calls`."""
        lineage.budget.take(len(arguments))
        calls = [Call(udf.name, udf.version, text, audience) for text in arguments]
        async with aclosing(self._ask_all(udf, calls, lineage, rerun=False)) as told:
            async for number, answer in told:
                if isinstance(answer, Error):
                    problem = answer.problem() | {"traceback": answer.traceback}
                    yield Answered(number, problem=problem)
                else:
                    await self._store.keep(answer)
                    yield Answered(number, await self._store.local_path(answer))

    async def _ask_all(
        self, udf: Udf, calls: Sequence[Call], lineage: Lineage, rerun: bool
    ) -> AsyncGenerator[tuple[int, Result | Error]]:
        """Ask for the results of many calls; they come as they complete.

        Calls that are the same are asked for once, so that they have the same answer.
        """
        places: dict[Call, list[int]] = {}
        for number, call in enumerate(calls):
            places.setdefault(call, []).append(number)
        distinct = list(places)

        async def ask(which: int) -> Result | Error:
            try:
                asked = self.result(udf, distinct[which], rerun=rerun, lineage=lineage)
                return (await asked).result
            except Error as error:
                return error

        busy = WAITING_AT_ONCE if udf.options.waits else self._runner.calls_at_once
        async with aclosing(as_completed(ask, len(distinct), busy)) as completed:
            async for which, answer in completed:
                for number in places[distinct[which]]:
                    yield number, answer

    async def _run_query(self, query: Query, lineage: Lineage, before: Known) -> Result:
        settings = self._settings
        called = (udf for udf in lineage.registry.values() if query.reach.has_udf(udf.name))
        limits = QueryLimits(
            settings.sql_rows, settings.sql_size, settings.sql_timeout, settings.sql_memory
        )
        job = QueryJob(
            query=query,
            registry=lineage.registry,
            lifetimes={udf.name: self.lifetime(udf) for udf in called},
            lake=settings.lake,
            limits=limits,
        )
        given = json.loads(query.parameters) if len(query.parameters) <= _MOST_TOLD else "…"
        told = {"sql": shorten(query.sql, _MOST_TOLD), "parameters": given}
        plan = Plan(job, "", query.key, 0.0, lineage, query.audience, json.dumps(told))
        return await self._run(plan, before)

    async def file_below(self, udf: Udf, query: str, asker: Principal, lineage: Lineage) -> Path:
        """The Parquet file that a query string is answered with, for a run of SQL that asks."""
        asked = read_query_string(query.encode(), "parquet")
        # On a thread: it may be thousands of calls.
        question = await asyncio.to_thread(self.question, udf, asked, asker)
        if isinstance(question, Call):
            lineage.budget.take(1)
        result = (await self.result(udf, question, lineage=lineage)).result
        audience, tally = question.audience, lineage.tally
        shown = (await self.view(udf, result, asked.view, audience, tally)).result
        await self._store.keep(shown)
        return await self._store.local_path(shown)

    async def _write_view(
        self,
        name: str,
        result: Result,
        view: View,
        audience: Principal,
        lineage: Lineage,
        before: Known,
    ) -> Result:
        # Opened, it is checked, and noted as in use: it will not be evicted under the worker.
        blob = await self._store.open(result)
        if blob is None:
            raise ServerBusy("the result was evicted while it was asked for; try again")
        blob.close()
        source = await self._store.local_path(result)
        limits = self._settings.timeout, self._settings.memory
        job = ViewJob(view, source, result.columns, *limits)
        asked = audience, f"{view.extension} of run {result.run}"
        plan = Plan(job, name, view.key(result), math.inf, lineage, *asked)
        return await self._run(plan, before)

    async def _run(self, plan: Plan, before: Known) -> Result:
        """One run: into the staging area, then published, or remembered as a failure."""
        job, key, lineage = plan.job, plan.key, plan.lineage
        extension = job.view.extension if isinstance(job, ViewJob) else "parquet"
        run = Run(
            id=run_records.new_id(),
            udf=plan.name,
            arguments=mask_arguments(plan.arguments)
            if plan.kind in ("call", "query")
            else plan.arguments,
            started=time.time(),
            seconds=0.0,
            kind=plan.kind,
            trace=lineage.trace,
            parent=lineage.parent,
            tenant=plan.audience.tenant,
            principal=plan.audience.id,
        )
        staged = self._store.stage(run.id, extension)
        executions = 1 + before.executions
        self._running[key] = run.id
        usage: Usage | None = None
        try:
            calls = calls_of(self, plan, run.id)
            draft = await self._runner.run(job, staged, self.runs.log_path(run.id), calls)
            usage = draft.usage
            # Others first, who have waited for its process: that must not stand idle meanwhile.
            await asyncio.sleep(0)
            now = time.time()
            result = Result(
                key=key,
                run=run.id,
                extension=extension,
                etag=draft.etag,
                size=draft.size,
                rows=draft.rows,
                columns=draft.columns,
                seconds=usage.seconds,
                created=now,
                expires=now + plan.lifetime_s,
                executions=executions,
                before=await self._replaced(before.result, draft.etag, now),
                failed=draft.failed,
                truncated=draft.truncated,
            )
            await self._store.publish(result, None if draft.stored else staged)
        except Error as error:
            _remove(staged)
            error.usage = error.usage or usage
            await self._fail(error, run, plan, executions)
            raise
        except BaseException:
            _remove(staged)
            raise
        finally:
            self._running.pop(key, None)
        self._record(replace(run, rows=result.rows, bytes=result.size), usage, lineage)
        return result

    async def _replaced(self, earlier: Result | None, etag: str, now: float) -> Result | None:
        """What readers of ranges go on with when a result of other bytes takes its place."""
        if earlier is None:
            return None
        if await self._held(earlier.before):
            return earlier.before  # Nobody has begun to read ranges of `earlier` itself.
        ended = replace(earlier, before=None, expires=min(earlier.expires, now))
        return ended if ended.etag != etag and await self._held(ended) else None

    async def _fail(self, error: Error, run: Run, plan: Plan, executions: int) -> None:
        error.udf, error.run = run.udf or None, run.id
        now = time.time()
        problem = error.problem() | {"traceback": error.traceback}
        # Some depend on who asked, and say nothing of the call.
        passing = isinstance(error, RunCancelled | FanoutLimit)
        if isinstance(error, RunError | InvalidParameters) and not passing:
            failure = Failure(plan.key, problem, now, now + FAILURE_S, executions)
            await self._store.remember(failure)
        # What was too busy may have been one that it called.
        if error.usage or not isinstance(error, ServerBusy):
            self._record(replace(run, problem=problem), error.usage, plan.lineage)

    def _record(self, run: Run, usage: Usage | None, lineage: Lineage) -> None:
        """Keep how a run went, and add what it has cost to what its request has."""
        run = replace(run, seconds=time.time() - run.started)
        if usage is not None:
            run = run.took(usage)
        self.runs.record(run)
        lineage.tally.add(run)
        for listener in self._listeners:
            listener(run, lineage)


@contextlib.contextmanager
def _about(udf: Udf) -> Iterator[None]:
    try:
        yield
    except Error as error:
        error.udf = udf.name
        raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
