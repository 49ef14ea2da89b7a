"""Runs that are to be made: what runs, within which limits, and what their records will say."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.quantities import shorten
from webfoot.runners.jobs import QueryJob, QueryLimits, StitchJob, UdfJob, ViewJob

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from webfoot.access.principal import Principal
    from webfoot.definition import Udf
    from webfoot.lineage import Lineage
    from webfoot.results import Call, Fanout, Query, Result
    from webfoot.runners.jobs import Job, Source
    from webfoot.runs import Kind
    from webfoot.settings import Settings
    from webfoot.views import View

# Of SQL, and of its parameters, a record tells so much, in characters.
_MOST_TOLD = 10_000


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

    @property
    def extension(self) -> str:
        """The kind of file that it writes."""
        return self.job.view.extension if isinstance(self.job, ViewJob) else "parquet"


class Plans:
    """Plans runs.

    Args:
        settings: Limits that UDFs do not set themselves.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def lifetime(self, udf: Udf) -> float:
        """How long results of `udf` are fresh, in seconds."""
        return self._settings.cache if udf.options.cache_s is None else udf.options.cache_s

    def call(self, udf: Udf, call: Call, lineage: Lineage) -> Plan:
        """The run of a call."""
        job = UdfJob(
            udf=udf,
            arguments=call.arguments,
            timeout_s=udf.options.timeout_s or lineage.timeout_s,
            memory_bytes=udf.options.memory_bytes or self._settings.memory,
            asker=call.audience,
        )
        return self.job(job, call.key, lineage)

    def job(self, job: UdfJob, key: str, lineage: Lineage) -> Plan:
        """The run of a call that is a job already; `key` is the call's."""
        lifetime_s = self.lifetime(job.udf)
        return Plan(job, job.udf.name, key, lifetime_s, lineage, job.asker, job.arguments)

    def stitch(
        self,
        udf: Udf,
        fanout: Fanout,
        sources: Sequence[Source],
        expires: float,
        lineage: Lineage,
    ) -> Plan:
        """What puts the results of a fan-out together.

        Args:
            udf: The UDF that was called.
            fanout: The fan-out.
            sources: What came of each input.
            expires: Until when all of them are fresh, in seconds since 1970.
            lineage: What has led to it.
        """
        job = StitchJob(
            udf=udf,
            sources=tuple(sources),
            names=fanout.names,
            errors=fanout.partial,
            timeout_s=lineage.timeout_s,
            memory_bytes=self._settings.memory,
        )
        lifetime_s = max(expires - time.time(), 0.0)
        asked = fanout.audience, f"{len(sources)} inputs"
        return Plan(job, udf.name, fanout.key, lifetime_s, lineage, *asked)

    def query(self, query: Query, lineage: Lineage) -> Plan:
        """The run of a text of SQL."""
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
        return Plan(job, "", query.key, 0.0, lineage, query.audience, json.dumps(told))

    def view(
        self,
        name: str,
        view: View,
        result: Result,
        source: Path,
        audience: Principal,
        lineage: Lineage,
    ) -> Plan:
        """What writes a view of a result.

        Args:
            name: The UDF whose result it is; empty for a query's.
            view: The view.
            result: The result.
            source: Its Parquet file.
            audience: For whom it is.
            lineage: What has led to it.
        """
        limits = self._settings.timeout, self._settings.memory
        job = ViewJob(view, source, result.columns, *limits)
        told = f"{view.extension} of run {result.run}"
        return Plan(job, name, view.key(result), math.inf, lineage, audience, told)
