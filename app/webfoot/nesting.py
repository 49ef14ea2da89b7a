"""The calls that a run makes, which the engine answers: each a place further down its lineage."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from webfoot.errors import UdfNotFound
from webfoot.runners import Answered
from webfoot.runners.jobs import QueryJob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from webfoot.engine import Engine
    from webfoot.lineage import Lineage
    from webfoot.results import Query
    from webfoot.runners.jobs import Job


def calls_of(engine: Engine, job: Job, lineage: Lineage, key: str, run: str) -> RunCalls:
    """What makes the calls of a run; see `RunCalls`."""
    if isinstance(job, QueryJob):
        return QueryCalls(engine, lineage, job.query, run)
    return RunCalls(engine, lineage, key, run)


class RunCalls:
    """Makes the calls of one run; see `webfoot.runners.Calls`.

    Args:
        engine: Answers them.
        lineage: What has led to the run.
        key: The key of its call.
        run: Its id.
    """

    def __init__(self, engine: Engine, lineage: Lineage, key: str, run: str) -> None:
        self.depth = lineage.depth
        self._engine = engine
        self._lineage = lineage
        self._key = key
        self._run = run

    async def answers(self, udf: str, arguments: Sequence[str]) -> AsyncGenerator[Answered]:
        """Ask the engine."""
        below = self._lineage.below(self._key, self._run)
        found = below.registry.find(udf)
        async with aclosing(self._engine.answers_below(found, arguments, below)) as answers:
            async for answered in answers:
                yield answered


class QueryCalls(RunCalls):
    """Makes the calls of one run of SQL: of UDFs in its reach, with query strings.

    Args:
        engine: Answers them.
        lineage: What has led to the run.
        query: The query.
        run: The run's id.
    """

    def __init__(self, engine: Engine, lineage: Lineage, query: Query, run: str) -> None:
        super().__init__(engine, lineage, query.key, run)
        self._reach = query.reach

    async def answers(self, udf: str, arguments: Sequence[str]) -> AsyncGenerator[Answered]:
        """Ask the engine."""
        below = self._lineage.below(self._key, self._run)
        # The run refuses them by itself; but what it says is not believed.
        if not self._reach.has_udf(udf):
            raise UdfNotFound(f"there is no UDF {udf!r}", udf=udf)
        found = below.registry.find(udf)
        for index, query in enumerate(arguments):
            yield Answered(index, await self._engine.file_below(found, query, below))
