"""`/jobs`: calls that go on when nobody waits for them.

A job's result, `/jobs/{id}.parquet`, is answered where all results are: see `webfoot.server.data`.
"""

from __future__ import annotations

import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from webfoot.access.principal import Principal
from webfoot.errors import InvalidParameters
from webfoot.results import Refused
from webfoot.server.address import base_url_of
from webfoot.server.bounds import MOST_BODY_BYTES
from webfoot.server.fanouts import from_records, read_json
from webfoot.server.transfer import read_body
from webfoot.server.visits import visit_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.engine import Engine
    from webfoot.jobs import Job
    from webfoot.jobs.running import Jobs
    from webfoot.registry import Registry
    from webfoot.results import Question
    from webfoot.settings import Settings

_EXAMPLE = '{"udf": "contours", "parameters": {"interval": 25}}'
_FIELDS = ("udf", "parameters", "inputs", "partial")
_MOST_KEY = 255
# How much of what a run printed is told.
_LOG_LINES = 40
# How long a cancelled run may take to end before its state is told as it is.
_STOPPING_S = 2.0


def job_routes(jobs: Jobs, engine: Engine, settings: Settings) -> APIRouter:
    """The routes of jobs."""
    router = APIRouter(include_in_schema=False)

    @router.post("/jobs")
    async def submit(request: Request) -> Response:
        once = request.headers.get("idempotency-key")
        if once is not None and not 0 < len(once) <= _MOST_KEY:
            raise InvalidParameters(
                f"an Idempotency-Key has 1 to {_MOST_KEY} characters, this one has {len(once)}"
            )
        body = await read_body(request.receive, MOST_BODY_BYTES)
        visit = visit_of(request.scope)
        read = partial(read_question, engine, visit.registry, visit.principal, body)
        question = await run_in_threadpool(read)
        own = None if once is None else _own(once, visit.principal)
        job = await jobs.submit(question, once=own)
        return await _tell(job, request, HTTPStatus.ACCEPTED)

    @router.api_route("/jobs/{id}", methods=["GET", "HEAD"])
    async def show(id: str, request: Request) -> Response:  # noqa: A002  # the path's name for it
        return await _tell(await find(id, request), request, HTTPStatus.OK)

    @router.delete("/jobs/{id}")
    async def cancel(id: str, request: Request) -> Response:  # noqa: A002  # likewise
        job = await find(id, request)
        await jobs.cancel(job)
        return await _tell(await jobs.wait(job, _STOPPING_S), request, HTTPStatus.OK)

    async def find(id: str, request: Request) -> Job:  # noqa: A002  # likewise
        return await jobs.get(id, visit_of(request.scope).principal)

    async def _tell(job: Job, request: Request, status: HTTPStatus) -> Response:
        where = f"{base_url_of(request.scope)}/jobs/{job.id}"
        told = _describe(job, where)
        if settings.debug:
            told["log"] = jobs.log(job).splitlines()[-_LOG_LINES:]
            told["problem"] = jobs.problem(job)
        headers = {"cache-control": "no-store"}
        if status == HTTPStatus.ACCEPTED:
            headers["location"] = where
        if not job.over:
            headers["retry-after"] = "1"
        return JSONResponse(told, status, headers)

    return router


def _describe(job: Job, where: str) -> dict[str, Any]:
    result = job.result
    return {
        "id": job.id,
        "udf": job.udf,
        "state": job.state,
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "elapsed": None if job.started is None else (job.ended or time.time()) - job.started,
        "progress": {"done": job.done, "total": len(job.arguments)},
        "url": where,
        "result": None if result is None else f"{where}.parquet",
        "run": None if result is None else result.run,
        "rows": None if result is None else result.rows,
        "bytes": None if result is None else result.size,
        "seconds": None if result is None else result.seconds,
        "problem": job.problem,
    }


def _own(once: str, asker: Principal) -> str:
    """An idempotency key as nobody else's."""
    return f"client {Principal(asker.id, asker.tenant).text()} {once}"


def read_question(engine: Engine, registry: Registry, asker: Principal, body: bytes) -> Question:
    """The calls that a body asks for.

    Args:
        engine: Makes them.
        registry: The UDFs that there are for who asks.
        asker: Who asks.
        body: The body.

    Raises:
        InvalidParameters: If it asks for none.
        UdfNotFound: If there is no such UDF.
    """
    asked = _read_object(body)
    udf = registry.find(_typed(asked, "udf", str))
    if "inputs" not in asked:
        parameters = _typed(asked, "parameters", dict) if "parameters" in asked else {}
        return engine.call_with(udf, parameters, asker)
    inputs = _typed(asked, "inputs", list)
    if "parameters" in asked or not all(isinstance(item, dict) for item in inputs):
        raise InvalidParameters(
            f"inputs must be a list of objects, and take the place of parameters: {_EXAMPLE}"
        )
    if asked.get("partial", "allow") != "allow":
        raise InvalidParameters(f"partial: must be 'allow', got {asked['partial']!r}")
    question = from_records(engine, udf, inputs, asker, may_fail="partial" in asked)
    for index, item in enumerate(question.inputs):
        if isinstance(item, Refused):
            raise InvalidParameters(f"input {index} makes no call: {item.error.detail}")
    return question


def _read_object(body: bytes) -> Mapping[str, Any]:
    asked = read_json(body, _EXAMPLE)
    if not isinstance(asked, dict):
        raise InvalidParameters(f"the body must be an object such as {_EXAMPLE}")
    for name in asked:
        if name not in _FIELDS:
            raise InvalidParameters(f"{name}: is no part of a job; known: {', '.join(_FIELDS)}")
    return asked


def _typed(asked: Mapping[str, Any], name: str, kind: type) -> Any:
    value = asked.get(name)
    if not isinstance(value, kind):
        raise InvalidParameters(f"{name}: must be there as in {_EXAMPLE}, got {value!r}")
    return value
