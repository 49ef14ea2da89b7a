"""The calls that runs make: each a place further down its run's lineage."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.asking import audience_of
from webfoot.errors import RunError, UdfNotFound
from webfoot.runners import Answered, Descent
from webfoot.runners.jobs import QueryJob, UdfJob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from webfoot.access.principal import Principal
    from webfoot.definition import Udf
    from webfoot.engine.plans import Plan
    from webfoot.lineage import Lineage
    from webfoot.results import Query


@dataclass(frozen=True)
class Answering:
    """What answers the calls of runs.

    Args:
        calls: Tells what comes of each of many calls, given as canonical arguments, as it comes.
        file: Finds the Parquet file that a query string is answered with.
    """

    calls: Callable[[Udf, Sequence[str], Principal, Lineage], AsyncGenerator[Answered]]
    file: Callable[[Udf, str, Principal, Lineage], Awaitable[Path]]


def calls_of(answering: Answering, plan: Plan, run: str) -> RunCalls:
    """What makes the calls of a run; see `RunCalls`."""
    if isinstance(plan.job, QueryJob):
        return QueryCalls(answering, plan, run, plan.job.query)
    return RunCalls(answering, plan, run)


class RunCalls:
    """Makes the calls of one run; see `webfoot.runners.Calls`.

    Args:
        answering: Answers them.
        plan: The run.
        run: Its id.
    """

    def __init__(self, answering: Answering, plan: Plan, run: str) -> None:
        self._answering = answering
        self._plan = plan
        self._run = run

    @property
    def descent(self) -> Descent:
        """The run's place."""
        lineage = self._plan.lineage
        return Descent(
            run=self._run,
            trace=lineage.trace,
            depth=lineage.depth,
            path=(*lineage.path, self._plan.key),
            calls=lineage.budget.left,
            timeout_s=lineage.timeout_s,
            sampled=lineage.tally.sampled,
        )

    def made_elsewhere(self, calls: int, cost: Mapping[str, float]) -> None:
        """Count them."""
        self._plan.lineage.budget.count(calls)
        self._plan.lineage.tally.add_all(cost)

    async def answers(self, udf: str, arguments: Sequence[str]) -> AsyncGenerator[Answered]:
        """Have them answered."""
        below = self._below()
        found = below.registry.find(udf)
        job, name = self._plan.job, self._plan.name
        is_told = isinstance(job, UdfJob) and job.udf.parameters.personal
        if found.parameters.personal and not is_told:
            raise RunError(
                f"{udf} is told who asks, and {name}, which calls it, is not: its result is kept"
                f" for others, too; give {name} a parameter who: webfoot.Principal"
            )
        audience = audience_of(found, self._plan.audience)
        told = self._answering.calls(found, arguments, audience, below)
        async with aclosing(told) as answers:
            async for answered in answers:
                yield answered

    def _below(self) -> Lineage:
        return self._plan.lineage.below(self._plan.key, self._run)


class QueryCalls(RunCalls):
    """Makes the calls of one run of SQL: of UDFs in its reach, with query strings.

    Args:
        answering: Answers them.
        plan: The run.
        run: Its id.
        query: The query.
    """

    def __init__(self, answering: Answering, plan: Plan, run: str, query: Query) -> None:
        super().__init__(answering, plan, run)
        self._query = query

    async def answers(self, udf: str, arguments: Sequence[str]) -> AsyncGenerator[Answered]:
        """Have them answered."""
        below = self._below()
        # The run refuses them by itself; but what it says is not believed.
        if not self._query.reach.has_udf(udf):
            raise UdfNotFound(f"there is no UDF {udf!r}", udf=udf)
        found, asker = below.registry.find(udf), self._query.audience
        if found.parameters.personal and asker == asker.among_all():
            # It has become so since the query was asked.
            raise RunError(f"{udf} is told who asks since a moment ago; ask again")
        for index, query in enumerate(arguments):
            # To whoever asks SQL, it is a call of their own.
            async with below.admit(udf):
                file = await self._answering.file(found, query, asker, below)
            yield Answered(index, file)
