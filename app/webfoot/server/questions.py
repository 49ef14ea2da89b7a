"""What a request for a table asks, understood: of which UDF, job or SQL, and how it is wanted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from webfoot.asking import read_query_string, split_query, take_options
from webfoot.errors import InvalidParameters
from webfoot.jobs import Job
from webfoot.server.bounds import MOST_BODY_BYTES
from webfoot.server.fanouts import accepted_extension, from_body
from webfoot.server.permissions import check_format
from webfoot.server.queries import read_query
from webfoot.server.requests import check_folders
from webfoot.server.transfer import read_body
from webfoot.views import read_view

if TYPE_CHECKING:
    from starlette.types import Receive

    from webfoot.definition import Udf
    from webfoot.engine import Engine
    from webfoot.registry import Registry
    from webfoot.results import Query, Question
    from webfoot.server.holding import Holding
    from webfoot.server.requests import Request
    from webfoot.server.visits import Visit
    from webfoot.settings import Settings
    from webfoot.views import View

_REMEMBERED = 10_000
# Longer queries are read anew each time: remembered, they would fill the memory.
_MOST_REMEMBERED_BYTES = 1_000


@dataclass(frozen=True)
class Asked:
    """A call's result, a job's, or a query's.

    Args:
        udf: The UDF that is called; None for SQL.
        call: What is asked.
        view: How its result is wanted.
        private: Whether the answer is for its asker alone.
    """

    udf: Udf | None
    call: Question | Job | Query
    view: View
    private: bool


class Questions:
    """Understands requests; those that are made again are remembered.

    Args:
        engine: Has the UDFs.
        holding: Has the jobs.
        settings: How much SQL may take.
    """

    def __init__(self, engine: Engine, holding: Holding, settings: Settings) -> None:
        self._engine = engine
        self._holding = holding
        self._settings = settings
        self._understood: dict[tuple[Visit, str, str, bytes], Asked] = {}
        self._understood_by: Registry | None = None

    async def of_address(self, request: Request, visit: Visit) -> Asked:
        """What is asked by a path and its query string.

        Raises:
            Error: If that is nothing, or nothing that has sense.
        """
        if request.job:
            return await self._of_job(request, visit)
        if request.sql:
            asked_sql = read_query(request, visit, self._engine, self._settings)
            return Asked(None, asked_sql.query, asked_sql.view, visit.private)
        registry = self._engine.registry
        if self._understood_by is not registry or len(self._understood) > _REMEMBERED:
            self._understood, self._understood_by = {}, registry
        if request.partitions:
            check_folders(visit.registry.find(request.name), request.partitions)
        key = (visit, request.name, request.extension, request.query)
        asked = self._understood.get(key)
        if asked is None:
            udf, asker = visit.registry.find(request.name), visit.principal
            text = read_query_string(request.query, request.extension)
            if text.fanout:
                # On a thread, and forgotten: it may be thousands of calls.
                question = await asyncio.to_thread(self._engine.question, udf, text, asker)
                return Asked(udf, question, text.view, visit.private)
            question = self._engine.question(udf, text, asker)
            asked = Asked(udf, question, text.view, visit.private)
            if len(request.query) <= _MOST_REMEMBERED_BYTES:
                self._understood[key] = asked
        return asked

    async def of_inputs(self, request: Request, visit: Visit, receive: Receive) -> Asked:
        """A fan-out whose inputs are in the body, which is read if the rest has sense.

        Raises:
            Error: If they are none.
        """
        udf = visit.registry.find(request.name)
        own, others = split_query(request.query)
        # As it is written elsewhere, too: in the query of a POST, nothing is the UDF's.
        own += [(f"_{name}", text) for name, text in others if name == "partial"]
        others = [pair for pair in others if pair[0] != "partial"]
        if others:
            raise InvalidParameters(f"{others[0][0]}: a POST has its parameters in the body")
        options, own = take_options(own)
        view = read_view(accepted_extension(request.headers.get("accept", "")), own)
        media_type = request.headers.get("content-type", "").split(";")[0].strip()
        body = await read_body(receive, MOST_BODY_BYTES)
        read = partial(from_body, self._engine, udf, options, media_type, body)
        fanout = await asyncio.to_thread(read, visit.principal)
        return Asked(udf, fanout, view, visit.private)

    async def _of_job(self, request: Request, visit: Visit) -> Asked:
        job = await self._holding.find(request.job, visit.principal)
        own, others = split_query(request.query)
        if others:
            raise InvalidParameters(f"{others[0][0]}: a job has its parameters already")
        udf = visit.registry.find(job.udf)
        check_format(visit.asker, job.udf, request.extension)
        return Asked(udf, job, read_view(request.extension, own), visit.private)


def note_asked(request: Request, asked: Asked) -> None:
    """Note what a request is about, for its record."""
    exchange, call = request.exchange, asked.call
    exchange.udf = asked.udf.name if asked.udf else ""
    exchange.extension = asked.view.extension
    # A job's is that of the request which has made it.
    exchange.key = "" if isinstance(call, Job) else call.key
