"""Old results stand in for new ones that take their time, where the author allows it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.test_views import RESULT

from webfoot import udf
from webfoot.definition import definition_of
from webfoot.engine import Answer, Engine
from webfoot.errors import UdfFailed
from webfoot.results import Call, Result
from webfoot.server.stand_ins import StandIns

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from webfoot.definition import Udf

NEW = Answer(replace(RESULT, run="new"), ran=True)


@dataclass
class FakeEngine:
    """Has one old result, and runs that end when they are told to."""

    old: Result | None = None
    ended: list[str] = field(default_factory=list)

    async def latest(self, _: Call) -> Result | None:
        return self.old

    async def run(self, done: asyncio.Event, error: Exception | None = None) -> Answer:
        try:
            await done.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("done")
        if error is not None:
            raise error
        return NEW


@udf(stale="1m")
def lenient() -> None: ...


def known(function: object) -> Udf:
    found = definition_of(function)
    assert found is not None
    return found


def old(expired_s: float) -> Result:
    return replace(RESULT, run="old", expires=time.time() - expired_s)


async def answer(
    engine: FakeEngine, running: Coroutine[Any, Any, Answer], within_s: float = math.inf
) -> Answer | None:
    stand_ins = StandIns(cast("Engine", engine), soon_s=0.01)
    coming, until = asyncio.ensure_future(running), asyncio.get_running_loop().time() + within_s
    return await stand_ins.answer(known(lenient), Call("lenient", "1", "{}"), coming, until)


def test_a_result_that_comes_soon_is_the_answer() -> None:
    async def main() -> None:
        engine, done = FakeEngine(old(1)), asyncio.Event()
        done.set()
        assert await answer(engine, engine.run(done)) == NEW

    asyncio.run(main())


def test_an_old_one_stands_in_and_the_run_goes_on() -> None:
    async def main() -> None:
        engine, done = FakeEngine(old(30)), asyncio.Event()
        found = await answer(engine, engine.run(done))
        assert found == Answer(cast("Result", engine.old), ran=False)
        assert engine.ended == []
        done.set()
        await asyncio.sleep(0.01)
        assert engine.ended == ["done"]

    asyncio.run(main())


@pytest.mark.parametrize("found", [None, old(3600)], ids=["none", "too old"])
def test_without_one_the_answer_is_waited_for(found: Result | None) -> None:
    async def main() -> None:
        engine, done = FakeEngine(found), asyncio.Event()
        waiting = asyncio.ensure_future(answer(engine, engine.run(done)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        done.set()
        assert await waiting == NEW

    asyncio.run(main())


def test_an_error_that_comes_soon_is_told() -> None:
    async def main() -> None:
        engine, done = FakeEngine(old(1)), asyncio.Event()
        done.set()
        with pytest.raises(UdfFailed, match="no"):
            await answer(engine, engine.run(done, UdfFailed("no")))

    asyncio.run(main())


def test_an_error_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        engine, done = FakeEngine(old(1)), asyncio.Event()
        await answer(engine, engine.run(done, UdfFailed("it broke")))
        done.set()
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.messages == ["while an old result stood in: it broke"]


@pytest.mark.parametrize("within_s", [0.0, 0.005, 0.02], ids=["over", "before soon", "after"])
def test_an_old_one_stands_in_before_who_waits_is_told_to_go(within_s: float) -> None:
    async def main() -> None:
        engine, done = FakeEngine(old(30)), asyncio.Event()
        found = await answer(engine, engine.run(done), within_s)
        assert found == Answer(cast("Result", engine.old), ran=False)
        done.set()

    asyncio.run(main())


def test_without_one_nothing_is_had_in_time_and_the_run_goes_on() -> None:
    async def main() -> None:
        engine, done = FakeEngine(), asyncio.Event()
        assert await answer(engine, engine.run(done), 0.02) is None
        assert engine.ended == []
        done.set()
        await asyncio.sleep(0.01)
        assert engine.ended == ["done"]

    asyncio.run(main())
