"""What a runner runs, and the one way to run it, in whatever process that is."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import tempfile
import time
import typing
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webfoot.errors import Error, MemoryExceeded, StorageFull, UdfFailed
from webfoot.formats import write_view
from webfoot.registry import author_traceback
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import write

if TYPE_CHECKING:
    from webfoot.database import Database
    from webfoot.definition import Udf
    from webfoot.results import Column, Draft
    from webfoot.sources import Code
    from webfoot.views import View


@dataclass(frozen=True)
class UdfJob:
    """Run a UDF and write its table.

    Args:
        udf: The UDF, as the registry gives it: with the code it is part of.
        arguments: Canonical arguments.
        timeout_s: How long it may take, in seconds.
        memory_bytes: How much memory it may use.
    """

    udf: Udf
    arguments: str
    timeout_s: float
    memory_bytes: int

    @property
    def code(self) -> Code:
        """The snapshot that the UDF is part of."""
        if self.udf.code is None:
            raise TypeError(f"{self.udf.name} was not loaded by a registry; get it from one")
        return self.udf.code


@dataclass(frozen=True)
class ViewJob:
    """Write a view of a result; see `UdfJob` for the limits.

    Args:
        view: The view.
        source: The result's Parquet file.
        columns: The result's schema.
    """

    view: View
    source: Path
    columns: tuple[Column, ...]
    timeout_s: float
    memory_bytes: int


Job = UdfJob | ViewJob


def execute(job: Job, target: Path, database: Database) -> Draft:
    """Run `job` here and now.

    Raises:
        Error: Whatever happened, with the author's traceback.
    """
    started = time.perf_counter()
    try:
        if isinstance(job, ViewJob):
            with database.connection() as connection:
                draft = write_view(job.view, job.source, job.columns, target, connection)
        else:
            draft = _call(job, target, database)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException as error:
        target.unlink(missing_ok=True)
        raise _as_error(error, job) from error
    return replace(draft, seconds=time.perf_counter() - started)


def _call(job: UdfJob, target: Path, database: Database) -> Draft:
    with ExitStack() as stack:
        connection = _once(lambda: stack.enter_context(database.connection(httpfs=True)))
        arguments = job.udf.parameters.restore(job.arguments)
        for name, kind in job.udf.parameters.injected.items():
            if kind == "connection":
                arguments[name] = connection()
            else:
                arguments[name] = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        value = job.udf.function(**arguments)
        if inspect.isawaitable(value) or isinstance(value, AsyncIterator):
            value = _wait_for(value, stack.enter_context(asyncio.Runner()))
        batches = to_batches(value, _returns(job.udf), lambda sql: connection().sql(sql))
        return write(batches, target)


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
        known = error
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        known = StorageFull(f"the disk is full: {error}")
    elif isinstance(error, MemoryError):
        known = MemoryExceeded("it ran out of memory", limit_bytes=job.memory_bytes)
    else:
        # The message of a KeyError, say, means little without its type.
        known = UdfFailed(f"{type(error).__name__}: {error}".rstrip(": "))
    if isinstance(job, UdfJob):
        known.traceback = author_traceback(error, job.code)
    return known
