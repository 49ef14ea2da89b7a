"""The one way to run a job, in whatever process that is."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import inspect
import json
import os
import tempfile
import typing
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webfoot.database.attaching import attachable
from webfoot.errors import (
    Error,
    RunError,
    ServerBusy,
    StorageFull,
    UdfFailed,
    UdfNotFound,
    UdfUnavailable,
)
from webfoot.files import is_disk_full
from webfoot.formats import write_view
from webfoot.registry import author_traceback
from webfoot.runners.exceeded import memory_exceeded, time_exceeded
from webfoot.runners.jobs import QueryJob, StitchJob, UdfJob, ViewJob
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import write
from webfoot.tables.stitching import Part, stitch

if TYPE_CHECKING:
    from webfoot.database.calls import CallDatabase
    from webfoot.definition import Udf
    from webfoot.results import Draft
    from webfoot.runners import Finder
    from webfoot.runners.jobs import Job
    from webfoot.runners.meters import Meter


# An error is told in a response: a megabyte of it helps nobody.
_MOST_TEXT = 10_000
# Inputs of these types are columns of theirs; others, enums say, are told as JSON has them.
_TOLD_AS_THEY_ARE = (datetime.date, datetime.time, Decimal)


def execute(
    job: Job,
    target: Path,
    database: CallDatabase,
    meter: Meter,
    finder: Finder | None = None,
) -> Draft:
    """Run `job` here and now.

    Args:
        job: The job.
        target: Where its file is written.
        database: What the calls of this process share.
        meter: Tells what it took.
        finder: Makes the calls of SQL.

    Raises:
        Error: Whatever happened, with the author's traceback and what it took.
    """
    own_pid = os.getpid()
    try:
        if isinstance(job, ViewJob):
            with database.own_connection(job.memory_bytes) as connection:
                draft = write_view(job.view, job.source, job.columns, target, connection)
        elif isinstance(job, StitchJob):
            draft = stitch(list(_parts(job)), target, errors=job.errors)
            failed = sum(source.problem is not None for source in job.sources)
            draft = replace(draft, failed=failed)
        elif isinstance(job, QueryJob):
            draft = _query(job, target, finder)
        else:
            draft = _call(job, target, database)
    except BaseException as error:
        _leave_if_forked(own_pid)
        target.unlink(missing_ok=True)
        known = _as_error(error, job)
        known.usage = meter()
        raise known from error
    return replace(draft, usage=meter())


def _query(job: QueryJob, target: Path, finder: Finder | None) -> Draft:
    # What locks SQL in is imported by those who ask SQL.
    from webfoot.querying.running import run_query  # noqa: PLC0415

    def find(name: str, query: str, seconds: float) -> Path:
        if finder is None:
            raise Error(f"{name} cannot be called here: nobody makes the calls of this query")
        try:
            return finder.file(name, query, seconds)
        except TimeoutError:
            raise time_exceeded(job) from None

    return run_query(job, target, find)


def _parts(job: StitchJob) -> Iterator[Part]:
    """The sources with the values of their inputs."""
    for source in job.sources:
        values: dict[str, Any] = dict.fromkeys(job.names)
        if source.arguments is not None:
            plain = json.loads(source.arguments)
            typed = job.udf.parameters.restore(source.arguments)
            for name in job.names:
                is_told = isinstance(typed[name], _TOLD_AS_THEY_ARE)
                values[name] = typed[name] if is_told else plain[name]
        yield Part(values, source.path, source.problem)


def _call(job: UdfJob, target: Path, database: CallDatabase) -> Draft:
    with ExitStack() as stack:
        connection = _once(
            lambda: stack.enter_context(database.connection(job.memory_bytes, httpfs=True))
        )
        arguments = job.udf.parameters.restore(job.arguments)
        for name, kind in job.udf.parameters.injected.items():
            if kind == "connection":
                arguments[name] = connection()
            elif kind == "principal":
                arguments[name] = job.asker
            else:
                arguments[name] = Path(stack.enter_context(_folder_beside(target)))
                stack.enter_context(attachable(arguments[name]))
        own_pid = os.getpid()
        try:
            value = job.udf.function(**arguments)
        finally:
            _leave_if_forked(own_pid)
        if inspect.isawaitable(value) or isinstance(value, AsyncIterator):
            value = _wait_for(value, stack.enter_context(asyncio.Runner()))
        batches = to_batches(value, _returns(job.udf), lambda sql: connection().sql(sql))
        return write(replace(batches, stream=_unforked(batches.stream, own_pid)), target)


def _folder_beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder by whose name the runner knows whose it was, if the run is killed."""
    return tempfile.TemporaryDirectory(
        prefix=f"{target.stem}-", dir=target.parent, ignore_cleanup_errors=True
    )


def _unforked(items: Iterator[Any], own_pid: int) -> Iterator[Any]:
    ended = object()
    while True:
        try:
            item = next(items, ended)
        finally:
            _leave_if_forked(own_pid)
        if item is ended:
            return
        yield item


def _leave_if_forked(own_pid: int) -> None:
    """End a child that the author's code forked and let return: there is one result to write."""
    if os.getpid() != own_pid:
        os._exit(0)


def _once(make: typing.Callable[[], Any]) -> typing.Callable[[], Any]:
    made: list[Any] = []

    def get() -> Any:
        if not made:
            made.append(make())
        return made[0]

    return get


def _wait_for(value: Any, runner: asyncio.Runner) -> Any:
    async def settled() -> Any:
        return await value

    if inspect.isawaitable(value):
        value = runner.run(settled())
    return _drain(value, runner) if isinstance(value, AsyncIterator) else value


def _drain(items: AsyncIterator[Any], runner: asyncio.Runner) -> Iterator[Any]:
    async def following() -> Any:
        return await anext(items)

    with contextlib.suppress(StopAsyncIteration):
        while True:
            yield runner.run(following())


def _returns(udf: Udf) -> object:
    """The return annotation, if it can be resolved: it is only a help."""
    try:
        return typing.get_type_hints(udf.function).get("return")
    except Exception:  # noqa: BLE001  # names under `if TYPE_CHECKING` are missing at run time
        return None


def _as_error(error: BaseException, job: Job) -> Error:
    if isinstance(error, Error):
        known = _from_below(error) if isinstance(job, UdfJob) else error
    elif isinstance(error, OSError) and is_disk_full(error):
        known = StorageFull(f"the disk is full: {_cut(str(error))}")
    elif os.strerror(errno.ENOSPC) in _text(error):  # DuckDB's errors have no number.
        known = StorageFull(f"the disk is full: {_cut(_text(error))}")
    elif isinstance(error, MemoryError):
        known = memory_exceeded(job, "asked for more memory than the machine has")
    else:
        # The message of a KeyError, say, means little without its type.
        known = UdfFailed(_cut(f"{type(error).__name__}: {_text(error)}".rstrip(": ")))
    if isinstance(job, UdfJob):
        known.traceback = _cut(author_traceback(error, job.code))
    return known


def _from_below(error: Error) -> Error:
    """An error of a UDF that this one has called, as this one's: it must name both."""
    if error.udf is None and not isinstance(error, UdfNotFound | UdfUnavailable):
        return error
    # Once, however deep a UDF has called itself.
    told = error.udf is None or error.detail.startswith(f"{error.udf}: ")
    detail = error.detail if told else _cut(f"{error.udf}: {error.detail}")
    if not isinstance(error, RunError | ServerBusy | StorageFull):
        # It was this UDF that gave the wrong parameters, and not who called this UDF.
        return UdfFailed(detail)
    problem = error.problem() | {"detail": detail, "udf": None, "run": None}
    return Error.from_problem(problem)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # an author's class may do anything
        return ""


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"
