"""Many calls at once: what they are, how many are under way, what comes of them; and no circles."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from webfoot.errors import Error, FanoutLimit, InvalidParameters, input_failed
from webfoot.results import Call, Fanout, Refused, Result
from webfoot.runners.jobs import Source

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Sequence,
    )
    from pathlib import Path

    from webfoot.access.principal import Principal
    from webfoot.definition import Udf

# How many calls of one fan-out are under way if they only wait.
WAITING_AT_ONCE = 64
# A thousand inputs take the server some hundredths of a second to read, and a megabyte to hold.
MOST_INPUTS = 10_000
# Of inputs that are wrong, so many are told; the others are counted.
_MOST_TOLD = 100
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Inputs:
    """What a fan-out is made from.

    Args:
        arguments: For each input: gives canonical arguments, or raises why there are none.
        count: How many they are, known before any is looked at.
        names: The parameters to tell beside the rows.
        partial: Whether inputs may fail.
    """

    arguments: Iterable[Callable[[], str]]
    count: int
    names: Sequence[str]
    partial: bool


def make_fanout(udf: Udf, inputs: Inputs, audience: Principal, most: int) -> Fanout:
    """The fan-out that many inputs make.

    Args:
        udf: The UDF.
        inputs: The inputs.
        audience: For whom it is.
        most: How many there may be.

    Raises:
        InvalidParameters: If there are none, or too many; or, unless partial, if one makes no
            call: its records say which.
    """
    if not inputs.count:
        raise InvalidParameters("there are no inputs; send one or more")
    if inputs.count > most:
        raise InvalidParameters(
            f"{inputs.count} inputs are more than one request may have, which is {most}; send them"
            " in parts"
        )
    read = [_read(udf, arguments, audience) for arguments in inputs.arguments]
    wrong = [(index, item.error) for index, item in enumerate(read) if isinstance(item, Refused)]
    if wrong and not inputs.partial:
        index, first = wrong[0]
        more = f"; {len(wrong) - 1} more inputs are wrong" if len(wrong) > 1 else ""
        told = wrong[:_MOST_TOLD]
        faults = [{"index": index, **fault} for index, error in told for fault in error.errors]
        error = InvalidParameters(f"input {index}: {first.detail}{more}", errors=faults)
        error.udf = udf.name
        raise error
    asked = tuple(read), tuple(inputs.names), inputs.partial
    return Fanout(udf.name, udf.version, *asked, audience)


def _read(udf: Udf, arguments: Callable[[], str], audience: Principal) -> Call | Refused:
    try:
        return Call(udf.name, udf.version, arguments(), audience)
    except InvalidParameters as error:
        return Refused(error)


async def collect(
    fanout: Fanout,
    told: AsyncIterator[tuple[int, Result | Error]],
    locate: Callable[[Result], Awaitable[Path]],
    failure_s: float,
) -> tuple[list[Source], float]:
    """What came of each input of a fan-out, and until when the first of them is fresh.

    Args:
        fanout: The fan-out.
        told: What comes of its calls, each with its number among them.
        locate: Finds the file of a result.
        failure_s: How long a failure answers for its call, in seconds.

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
            expires = min(expires, time.time() + failure_s)
        else:
            given = json.loads(arguments)
            shown = {name: given[name] for name in fanout.names}
            failed = input_failed(number, shown, answer, among=len(sources))
            failed.run, failed.traceback = answer.run, answer.traceback
            raise failed
    return sources, expires


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


class Circles:
    """Who waits for whom, so that no call waits for itself by way of others."""

    def __init__(self) -> None:
        self._waits: dict[str, Counter[str]] = {}

    @contextlib.contextmanager
    def waiting(self, waiter: str | None, key: str, name: str) -> Iterator[None]:
        """Note that the call `waiter` waits for the call `key`.

        Args:
            waiter: Key of who waits; None for a request, for which nobody waits.
            key: Key of what is waited for.
            name: The UDF that is waited for.

        Raises:
            FanoutLimit: If that one, or what it waits for, waits for `waiter`.
        """
        if waiter is None:
            yield
            return
        if waiter == key or waiter in self._reached(key):
            raise FanoutLimit(
                f"{name!r} is called in a circle: it waits for its own result; call it with other"
                " parameters"
            )
        waits = self._waits.setdefault(waiter, Counter())
        waits[key] += 1
        try:
            yield
        finally:
            waits[key] -= 1
            if not waits[key]:
                del waits[key]
            if not waits:
                self._waits.pop(waiter, None)

    @contextlib.contextmanager
    def known(self, path: Sequence[str]) -> Iterator[None]:
        """Note that each call of `path` waits for the next, in another process."""
        with contextlib.ExitStack() as stack:
            for waiter, key in itertools.pairwise(path):
                stack.enter_context(self.waiting(waiter, key, ""))
            yield

    def _reached(self, key: str) -> set[str]:
        reached: set[str] = set()
        # Most calls wait for nothing.
        waiting = list(self._waits.get(key, ()))
        while waiting:
            current = waiting.pop()
            if current not in reached:
                reached.add(current)
                waiting.extend(itertools.chain(self._waits.get(current, ())))
        return reached
