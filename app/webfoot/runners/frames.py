"""What the server and its workers say to each other: JSON with its length before it.

JSON, not pickle: a worker runs other people's code, and the server must not run what it sends.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webfoot.access.principal import Principal
from webfoot.datasets import Dataset
from webfoot.errors import Error
from webfoot.results import Column, Draft, Query, Reach, Usage
from webfoot.runners import Answered
from webfoot.runners.jobs import QueryJob, QueryLimits, Source, StitchJob, UdfJob, ViewJob
from webfoot.views import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.registry import Registry
    from webfoot.runners.jobs import Job

_LENGTH = struct.Struct("!I")
LENGTH_BYTES = _LENGTH.size
# The exit code of a worker that can no longer talk.
LOST = 77


def pack(message: Mapping[str, Any]) -> bytes:
    """One message as a frame."""
    # What an author put into an error may be anything.
    body = json.dumps(message, default=str).encode()
    return _LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> dict[str, Any]:
    """The message of a frame's body."""
    message: dict[str, Any] = json.loads(body)
    return message


def length(head: bytes) -> int:
    """How long the body is that follows `head`."""
    return int(_LENGTH.unpack(head)[0])


def write_job(job: Job, target: Path, log: Path) -> dict[str, Any]:
    """A job, for a worker that has loaded its code."""
    message = {
        "do": "run",
        "target": str(target),
        "log": str(log),
        "memory_bytes": job.memory_bytes,
        "shared": False,
    }
    if isinstance(job, UdfJob):
        asked = {"udf": job.udf.name, "arguments": job.arguments}
        return message | asked | {"asker": job.asker.plain()}
    if isinstance(job, StitchJob):
        sources = [
            [source.arguments, source.path and str(source.path), source.problem]
            for source in job.sources
        ]
        return message | {
            "stitch": sources,
            "of": job.udf.name,
            "names": list(job.names),
            "errors": job.errors,
        }
    if isinstance(job, QueryJob):
        return message | _write_query(job)
    columns = [[column.name, column.type] for column in job.columns]
    return message | {"view": asdict(job.view), "source": str(job.source), "columns": columns}


def read_job(message: Mapping[str, Any], registry: Registry | None) -> Job:
    """The job that `write_job` wrote; its time limit stays with the server."""
    limits = float("inf"), message["memory_bytes"]
    if "udf" in message and registry is not None:
        udf = registry.find(message["udf"])
        asker = Principal.from_plain(message["asker"])
        return UdfJob(udf, message["arguments"], *limits, asker)
    if "stitch" in message and registry is not None:
        sources = tuple(
            Source(arguments, Path(path) if path else None, problem)
            for arguments, path, problem in message["stitch"]
        )
        udf, names = registry.find(message["of"]), tuple(message["names"])
        return StitchJob(udf, sources, names, message["errors"], *limits)
    if "query" in message and registry is not None:
        return _read_query(message, registry)
    view = dict(message["view"])
    view["columns"] = tuple(view["columns"])
    view["order"] = tuple((name, down) for name, down in view["order"])
    columns = tuple(Column(*pair) for pair in message["columns"])
    source = Path(message["source"])
    return ViewJob(View(**view), source, columns, *limits)


def _write_query(job: QueryJob) -> dict[str, Any]:
    query = job.query
    return {
        "query": [query.sql, query.parameters, query.limit],
        "reach": [
            None if names is None else sorted(names)
            for names in (query.reach.udfs, query.reach.datasets)
        ],
        "version": query.version,
        "asker": query.audience.plain(),
        "lifetimes": dict(job.lifetimes),
        "lake": [[dataset.name, dataset.location] for dataset in job.lake],
        "limits": asdict(job.limits),
    }


def _read_query(message: Mapping[str, Any], registry: Registry) -> QueryJob:
    sql, parameters, limit = message["query"]
    udfs, datasets = (None if names is None else frozenset(names) for names in message["reach"])
    asker = Principal.from_plain(message["asker"])
    return QueryJob(
        Query(sql, parameters, limit, Reach(udfs, datasets), message["version"], asker),
        registry,
        message["lifetimes"],
        tuple(Dataset(*pair) for pair in message["lake"]),
        QueryLimits(**message["limits"]),
    )


def write_answered(answered: Answered) -> dict[str, Any]:
    """What came of a call, for the worker whose run made it."""
    path = None if answered.path is None else str(answered.path)
    return {"index": answered.index, "path": path, "problem": answered.problem}


def read_answered(message: Mapping[str, Any]) -> Answered:
    """What `write_answered` wrote."""
    path = message["path"]
    return Answered(message["index"], Path(path) if path else None, message["problem"])


def write_draft(draft: Draft) -> dict[str, Any]:
    """A draft, for the server."""
    columns = [[column.name, column.type] for column in draft.columns]
    return {**vars(draft), "columns": columns, "usage": vars(draft.usage)}


def read_draft(message: Mapping[str, Any]) -> Draft:
    """The draft that `write_draft` wrote."""
    columns = tuple(Column(*pair) for pair in message["columns"])
    return Draft(**{**message, "columns": columns, "usage": Usage(**message["usage"])})


def write_error(error: Error) -> dict[str, Any]:
    """An error that a job has ended with, for the server."""
    return {
        "problem": error.problem() | {"traceback": error.traceback},
        "usage": None if error.usage is None else vars(error.usage),
    }


def read_error(message: Mapping[str, Any]) -> Error:
    """The error that `write_error` wrote."""
    error = Error.from_problem(message["problem"])
    error.usage = None if message["usage"] is None else Usage(**message["usage"])
    return error
