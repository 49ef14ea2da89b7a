"""A run that is to be made, and the calls that it makes: each a place further down its lineage."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.errors import RunError, UdfNotFound
from webfoot.runners import Answered, Descent
from webfoot.runners.jobs import QueryJob, StitchJob, UdfJob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from webfoot.access.principal import Principal
    from webfoot.definition import Udf
    from webfoot.engine import Engine
    from webfoot.lineage import Lineage
    from webfoot.results import Query
    from webfoot.runners.jobs import Job
    from webfoot.runs import Kind


@dataclass(frozen=True)
class Plan:
    """A run that is to be made.

    Args:
        job: What runs.
        name: The UDF, whose run it is called; empty for SQL.
        key: Under what its result is kept.
        lifetime_s: How long that is fresh, in seconds.
        lineage: What has led to it.
        audience: For whom its result is.
        arguments: What its record says that it was given.
    """

    job: Job
    name: str
    key: str
    lifetime_s: float
    lineage: Lineage
    audience: Principal
    arguments: str

    @property
    def kind(self) -> Kind:
        """What kind of run it is."""
        if isinstance(self.job, UdfJob):
            return "call"
        if isinstance(self.job, QueryJob):
            return "query"
        return "fan-out" if isinstance(self.job, StitchJob) else "view"


def audience_of(udf: Udf, asker: Principal) -> Principal:
    """For whom the results of a call are that `asker` makes."""
    return asker if udf.parameters.personal else asker.among_all()


def calls_of(engine: Engine, plan: Plan, run: str) -> RunCalls:
    """What makes the calls of a run; see `RunCalls`."""
    if isinstance(plan.job, QueryJob):
        return QueryCalls(engine, plan, run, plan.job.query)
    return RunCalls(engine, plan, run)


class RunCalls:
    """Makes the calls of one run; see `webfoot.runners.Calls`.

    Args:
        engine: Answers them.
        plan: The run.
        run: Its id.
    """

    def __init__(self, engine: Engine, plan: Plan, run: str) -> None:
        self._engine = engine
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
        )

    def made_elsewhere(self, calls: int, cost: Mapping[str, float]) -> None:
        """Count them."""
        self._plan.lineage.budget.count(calls)
        self._plan.lineage.tally.add_all(cost)

    async def answers(self, udf: str, arguments: Sequence[str]) -> AsyncGenerator[Answered]:
        """Ask the engine."""
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
        told = self._engine.answers_below(found, arguments, audience, below)
        async with aclosing(told) as answers:
            async for answered in answers:
                yield answered

    def _below(self) -> Lineage:
        return self._plan.lineage.below(self._plan.key, self._run)


class QueryCalls(RunCalls):
    """Makes the calls of one run of SQL: of UDFs in its reach, with query strings.

    Args:
        engine: Answers them.
        plan: The run.
        run: Its id.
        query: The query.
    """

    def __init__(self, engine: Engine, plan: Plan, run: str, query: Query) -> None:
        super().__init__(engine, plan, run)
        self._query = query

    async def answers(self, udf: str, arguments: Sequence[str]) -> AsyncGenerator[Answered]:
        """Ask the engine."""
        below = self._below()
        # The run refuses them by itself; but what it says is not believed.
        if not self._query.reach.has_udf(udf):
            raise UdfNotFound(f"there is no UDF {udf!r}", udf=udf)
        found, asker = below.registry.find(udf), self._query.audience
        if found.parameters.personal and asker == asker.among_all():
            # It has become so since the query was asked.
            raise RunError(f"{udf} is told who asks since a moment ago; ask again")
        for index, query in enumerate(arguments):
            yield Answered(index, await self._engine.file_below(found, query, asker, below))
