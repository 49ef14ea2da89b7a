"""One run: into the staging area, then published, or remembered as a failure; and its record."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from webfoot import runs as run_records
from webfoot.errors import (
    Error,
    FanoutLimit,
    InvalidParameters,
    RunCancelled,
    RunError,
    ServerBusy,
)
from webfoot.masking import mask_arguments
from webfoot.results import Result
from webfoot.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from webfoot.engine.freshness import Freshness
    from webfoot.engine.plans import Plan
    from webfoot.lineage import Lineage
    from webfoot.results import Draft, Known, Usage
    from webfoot.runners import Calls, Runner
    from webfoot.runs import Runs
    from webfoot.store import Store


class Running:
    """Makes runs.

    Args:
        store: Where results are published.
        runner: Where they run.
        runs: Keeps their records.
        freshness: Remembers failures, and what readers of ranges go on with.
        calls_of: What makes the calls of a plan's run, given its id.
    """

    def __init__(
        self,
        store: Store,
        runner: Runner,
        runs: Runs,
        freshness: Freshness,
        calls_of: Callable[[Plan, str], Calls],
    ) -> None:
        self._store = store
        self._runner = runner
        self._runs = runs
        self._freshness = freshness
        self._calls_of = calls_of
        # The runs under way, by the keys of their calls.
        self._under_way: dict[str, str] = {}
        self._listeners: list[Callable[[Run, Lineage], None]] = []

    def listen(self, listener: Callable[[Run, Lineage], None]) -> None:
        """Have a function told of every run that has ended, and where it came from."""
        self._listeners.append(listener)

    def find(self, key: str) -> str | None:
        """The id of the run that is under way for a key; None if there is none."""
        return self._under_way.get(key)

    async def run(self, plan: Plan, before: Known) -> Result:
        """Make a run, and publish what it gives.

        Args:
            plan: The run.
            before: What the store has under its key.

        Raises:
            Error: Why there is nothing.
        """
        run = _begin(plan)
        staged = self._store.stage(run.id, plan.extension)
        executions = 1 + before.executions
        self._under_way[plan.key] = run.id
        usage: Usage | None = None
        try:
            draft = await self._draft(plan, run.id, staged)
            usage = draft.usage
            # Others first, who have waited for its process: that must not stand idle meanwhile.
            await asyncio.sleep(0)
            now = time.time()
            result = Result(
                key=plan.key,
                run=run.id,
                extension=plan.extension,
                etag=draft.etag,
                size=draft.size,
                rows=draft.rows,
                columns=draft.columns,
                seconds=usage.seconds,
                created=now,
                expires=now + plan.lifetime_s,
                executions=executions,
                before=await self._freshness.replaced(before.result, draft.etag, now),
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
            self._under_way.pop(plan.key, None)
        self._record(replace(run, rows=result.rows, bytes=result.size), usage, plan.lineage)
        return result

    async def run_for_another(self, plan: Plan, run: str) -> Draft:
        """Make a run that an engine in another process has claimed, and will publish.

        Args:
            plan: The run.
            run: Its id.

        Returns:
            What it has written, which the store has.

        Raises:
            Error: Why there is nothing.
        """
        staged = self._store.stage(run, plan.extension)
        try:
            draft = await self._draft(plan, run, staged)
            if not draft.stored:
                await self._store.put(draft, plan.extension, staged)
        finally:
            _remove(staged)
        return replace(draft, stored=True)

    async def _draft(self, plan: Plan, run: str, staged: Path) -> Draft:
        log, calls = self._runs.log_path(run), self._calls_of(plan, run)
        return await self._runner.run(plan.job, staged, log, calls)

    async def _fail(self, error: Error, run: Run, plan: Plan, executions: int) -> None:
        error.udf, error.run = run.udf or None, run.id
        problem = error.problem() | {"traceback": error.traceback}
        # Some depend on who asked, and say nothing of the call.
        passing = isinstance(error, RunCancelled | FanoutLimit)
        if isinstance(error, RunError | InvalidParameters) and not passing:
            await self._freshness.remember(plan.key, problem, executions)
        # What was too busy may have been one that it called.
        if error.usage or not isinstance(error, ServerBusy):
            self._record(replace(run, problem=problem), error.usage, plan.lineage)

    def _record(self, run: Run, usage: Usage | None, lineage: Lineage) -> None:
        """Keep how a run went, and add what it has cost to what its request has."""
        run = replace(run, seconds=time.time() - run.started)
        if usage is not None:
            run = run.took(usage)
        self._runs.record(run)
        lineage.tally.add(run)
        for listener in self._listeners:
            listener(run, lineage)


def _begin(plan: Plan) -> Run:
    """The record of a run that begins now."""
    # Of other kinds, they are words of ours.
    is_given = plan.kind in ("call", "query")
    return Run(
        id=run_records.new_id(),
        udf=plan.name,
        arguments=mask_arguments(plan.arguments) if is_given else plan.arguments,
        started=time.time(),
        seconds=0.0,
        kind=plan.kind,
        trace=plan.lineage.trace,
        parent=plan.lineage.parent,
        tenant=plan.audience.tenant,
        principal=plan.audience.id,
    )


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
