"""Many results at once: asked for side by side, told as they come, put in order for a fan-out."""

from __future__ import annotations

import asyncio
import json
import math
import time
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from webfoot.asking import about
from webfoot.engine.freshness import FAILURE_S
from webfoot.errors import Error, ServerBusy, input_failed
from webfoot.results import Call, Result
from webfoot.runners import Answered
from webfoot.runners.jobs import Source

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from webfoot.access.principal import Principal
    from webfoot.definition import Udf
    from webfoot.engine import Answer
    from webfoot.lineage import Lineage
    from webfoot.results import Fanout
    from webfoot.runners import Runner
    from webfoot.store import Store

# How many calls of one fan-out are under way if they only wait.
WAITING_AT_ONCE = 64
_Item = TypeVar("_Item")


class Ask(Protocol):
    """Gives the result of one call; see `Engine.result`."""

    async def __call__(self, udf: Udf, call: Call, *, rerun: bool, lineage: Lineage) -> Answer:
        """Ask for it."""


class Many:
    """Asks for many results at once.

    Args:
        ask: Gives each.
        store: Where they are.
        runner: Says how many calls keep it busy.
    """

    def __init__(self, ask: Ask, store: Store, runner: Runner) -> None:
        self._ask = ask
        self._store = store
        self._runner = runner
        # How many calls of the fan-outs under way have ended.
        self._progress: dict[str, int] = {}

    def progress(self, key: str) -> int:
        """How many calls of a fan-out have ended; 0 if it is not under way here."""
        return self._progress.get(key, 0)

    async def collect(
        self, udf: Udf, fanout: Fanout, lineage: Lineage, *, rerun: bool
    ) -> tuple[list[Source], float]:
        """What comes of each input of a fan-out, and until when the first of them is fresh.

        Args:
            udf: The UDF.
            fanout: The fan-out.
            lineage: What has led to it.
            rerun: Whether fresh results will not do.

        Raises:
            FanoutFailed: If a call fails and the fan-out may not be partial.
            FanoutLimit: If these are too many calls.
            ServerBusy: If the store is too small for all of the results.
        """
        with about(udf):
            below = lineage.below(fanout.key)
            below.budget.take(len(fanout.calls))
            kept: list[Result] = []
            asking = self._ask_all(udf, fanout.calls, below, rerun)
            async with aclosing(self._counted(fanout.key, asking)) as told:
                sources, expires = await _collect(fanout, told, partial(self._keep, kept))
            # Those that came first may have been evicted while the last ones ran.
            if not all([await self._store.keep(result) for result in kept]):
                raise ServerBusy(
                    "results were evicted before they could be put together; try again, or make the"
                    " store larger"
                )
        return sources, expires

    async def answers(
        self, udf: Udf, arguments: Sequence[str], audience: Principal, lineage: Lineage
    ) -> AsyncGenerator[Answered]:
        """What comes of calls that a run makes, as it comes; see `webfoot.runners.Calls`."""
        lineage.budget.take(len(arguments))
        calls = [Call(udf.name, udf.version, text, audience) for text in arguments]
        async with aclosing(self._ask_all(udf, calls, lineage, rerun=False)) as told:
            async for number, answer in told:
                if isinstance(answer, Error):
                    problem = answer.problem() | {"traceback": answer.traceback}
                    yield Answered(number, problem=problem)
                else:
                    yield Answered(number, await file_of(answer, self._store))

    async def _counted(
        self, key: str, told: AsyncGenerator[tuple[int, Result | Error]]
    ) -> AsyncGenerator[tuple[int, Result | Error]]:
        async with aclosing(told):
            self._progress[key] = 0
            try:
                async for item in told:
                    self._progress[key] += 1
                    yield item
            finally:
                del self._progress[key]

    async def _keep(self, kept: list[Result], result: Result) -> Path:
        """The file of a result, noted as in use and in `kept`."""
        kept.append(result)
        return await file_of(result, self._store)

    async def _ask_all(
        self, udf: Udf, calls: Sequence[Call], lineage: Lineage, rerun: bool
    ) -> AsyncGenerator[tuple[int, Result | Error]]:
        """Ask for the results of many calls; they come as they complete.

        Calls that are the same are asked for once, so that they have the same answer.
        """
        places: dict[Call, list[int]] = {}
        for number, call in enumerate(calls):
            places.setdefault(call, []).append(number)
        distinct = list(places)

        async def ask(which: int) -> Result | Error:
            try:
                asked = self._ask(udf, distinct[which], rerun=rerun, lineage=lineage)
                return (await asked).result
            except Error as error:
                return error

        busy = WAITING_AT_ONCE if udf.options.waits else self._runner.calls_at_once
        async with aclosing(as_completed(ask, len(distinct), busy)) as completed:
            async for which, answer in completed:
                for number in places[distinct[which]]:
                    yield number, answer


async def file_of(result: Result, store: Store) -> Path:
    """The file of a result, noted as in use; see `Store.local_path`."""
    await store.keep(result)
    return await store.local_path(result)


async def as_completed(
    ask: Callable[[int], Awaitable[_Item]], count: int, at_once: int
) -> AsyncGenerator[tuple[int, _Item]]:
    """Ask for the items 0 to `count` - 1, and give each with its number as it comes.

    Args:
        ask: Gives one item; what it raises ends them all.
        count: How many there are.
        at_once: How many are asked for at a time.
    """
    numbers = iter(range(count))
    come: asyncio.Queue[tuple[int, _Item] | Exception] = asyncio.Queue()

    async def work() -> None:
        try:
            for number in numbers:
                come.put_nowait((number, await ask(number)))
        except Exception as error:  # noqa: BLE001  # raised where items are waited for
            come.put_nowait(error)

    workers = [asyncio.ensure_future(work()) for _ in range(min(at_once, count))]
    try:
        for _ in range(count):
            item = await come.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _collect(
    fanout: Fanout,
    told: AsyncIterator[tuple[int, Result | Error]],
    locate: Callable[[Result], Awaitable[Path]],
) -> tuple[list[Source], float]:
    """What came of each input of a fan-out, and until when the first of them is fresh.

    Args:
        fanout: The fan-out.
        told: What comes of its calls, each with its number among them.
        locate: Finds the file of a result.

    Raises:
        FanoutFailed: If a call fails and the fan-out may not be partial.
    """
    sources = [
        Source(item.arguments)
        if isinstance(item, Call)
        else Source(None, problem=item.error.problem())
        for item in fanout.inputs
    ]
    numbers = [n for n, item in enumerate(fanout.inputs) if isinstance(item, Call)]
    expires = math.inf
    async for which, answer in told:
        number = numbers[which]
        arguments = sources[number].arguments or "{}"
        if isinstance(answer, Result):
            sources[number] = Source(arguments, await locate(answer))
            expires = min(expires, answer.expires)
        elif fanout.partial:
            sources[number] = Source(arguments, problem=answer.problem())
            expires = min(expires, time.time() + FAILURE_S)
        else:
            given = json.loads(arguments)
            shown = {name: given[name] for name in fanout.names}
            failed = input_failed(number, shown, answer, among=len(sources))
            failed.run, failed.traceback = answer.run, answer.traceback
            raise failed
    return sources, expires
