"""What of a real store answers, beside a runner that is a fake."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.places import IN_A_FOLDER

from webfoot import engine as engines
from webfoot.access.principal import EVERYBODY
from webfoot.engine import freshness
from webfoot.errors import InvalidParameters, UdfFailed
from webfoot.store.local import _PUBLISH
from webfoot.views import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.places import Place


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Move the clock, by which the times of files stay what they are."""
    moved = time.time() + seconds
    monkeypatch.setattr(time, "time", lambda: moved)


def test_a_fresh_result_is_answered_without_a_run(place: Place) -> None:
    async def ask() -> tuple[bool, bool]:
        first, second = await place.ask(), await place.ask()
        assert first.result.run == second.result.run
        return first.ran, second.ran

    assert asyncio.run(ask()) == (True, False)


def test_results_outlive_the_server(make_place: Callable[[], Place]) -> None:
    asyncio.run(make_place().ask())
    later = make_place()
    asyncio.run(later.ask())
    assert later.runner.runs == 0


def test_an_expired_result_is_run_again_and_executions_are_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> list[int]:
        first = await place.ask("brief")
        again = await place.ask("brief")
        pass_time(monkeypatch, 101)
        later = await place.ask("brief")
        return [answer.result.executions for answer in (first, again, later)]

    assert asyncio.run(ask()) == [1, 1, 2]


def test_for_ever_never_expires(place: Place) -> None:
    result = asyncio.run(place.ask("eternal")).result
    assert result.expires == math.inf
    assert result.fresh(time.time() + 10**9)


def test_whole_reads_of_an_uncached_udf_run_each_time(place: Place) -> None:
    async def ask() -> list[bytes]:
        return [await place.read("live") for _ in range(3)]

    assert asyncio.run(ask()) == [b"run 1", b"run 2", b"run 3"]


def test_range_reads_of_an_uncached_udf_are_one_run(place: Place) -> None:
    async def ask() -> set[bytes]:
        return {await place.read("live", ranged=True) for _ in range(5)}

    assert asyncio.run(ask()) == {b"run 1"}


def test_range_readers_keep_their_bytes_while_others_rerun(place: Place) -> None:
    """However often the result is replaced meanwhile."""

    async def ask() -> tuple[list[bytes], list[bytes]]:
        ranged, whole = [await place.read("live", ranged=True)], []
        for _ in range(3):
            whole.append(await place.read("live"))
            ranged.append(await place.read("live", ranged=True))
        return ranged, whole

    ranged, whole = asyncio.run(ask())
    assert ranged == [b"run 1"] * 4
    assert whole == [b"run 2", b"run 3", b"run 4"]


@IN_A_FOLDER
@pytest.mark.parametrize("name", ["hourly", "eternal"])
def test_range_readers_keep_their_bytes_when_a_fresh_result_is_rerun(
    place: Place, name: str
) -> None:
    async def ask() -> list[bytes]:
        first = await place.read(name, ranged=True)
        # The result has been there for an hour; its reader has just begun.
        result = (await place.ask(name)).result
        aged = replace(result, created=result.created - 3600)
        place.store._write(_PUBLISH, aged)
        await place.ask(name, rerun=True)
        assert await place.head(name) is None
        return [first, await place.read(name, ranged=True), await place.read(name)]

    assert asyncio.run(ask()) == [b"run 1", b"run 1", b"run 2"]


def test_range_readers_keep_their_bytes_across_expiry(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # When they read last is told by a file, whose time does not move with the clock.
    monkeypatch.setattr(freshness, "RANGE_PAUSE_S", 600)

    async def ask() -> list[bytes]:
        first = await place.read("brief", ranged=True)
        pass_time(monkeypatch, 101)
        expired = await place.read("brief", ranged=True)
        whole = await place.read("brief")
        return [first, expired, whole, await place.read("brief", ranged=True)]

    assert asyncio.run(ask()) == [b"run 1", b"run 1", b"run 2", b"run 1"]


def test_range_readers_keep_their_bytes_when_a_rerun_fails(place: Place) -> None:
    async def ask() -> list[bytes]:
        first = await place.read("live", ranged=True)
        place.runner.error = UdfFailed("no")
        with pytest.raises(UdfFailed):
            await place.read("live")
        return [first, await place.read("live", ranged=True)]

    assert asyncio.run(ask()) == [b"run 1", b"run 1"]


def test_the_hold_ends_when_its_readers_pause(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "RANGE_PAUSE_S", 0.3)

    async def ask() -> list[bytes]:
        first = await place.read("live", ranged=True)
        await asyncio.sleep(0.4)
        return [first, await place.read("live", ranged=True)]

    assert asyncio.run(ask()) == [b"run 1", b"run 2"]


def test_the_hold_ends_at_the_latest(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "RANGE_READ_S", 0.3)

    async def ask() -> bytes:
        until = time.monotonic() + 20
        while (data := await place.read("live", ranged=True)) == b"run 1":
            await asyncio.sleep(0.02)
            assert time.monotonic() < until
        return data

    assert asyncio.run(ask()) == b"run 2"


def test_the_hold_on_a_replaced_result_ends_though_it_was_fresh_for_ever(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "RANGE_READ_S", 0.3)

    async def ask() -> bytes:
        await place.read("eternal", ranged=True)
        await place.ask("eternal", rerun=True)
        until = time.monotonic() + 20
        while (data := await place.read("eternal", ranged=True)) == b"run 1":
            await asyncio.sleep(0.02)
            assert time.monotonic() < until
        return data

    assert asyncio.run(ask()) == b"run 2"


def test_head_tells_what_is_fresh_and_never_runs(place: Place) -> None:
    async def ask() -> None:
        assert await place.head() is None
        result = (await place.ask()).result
        assert await place.head() == result
        view = View("csv")
        assert await place.engine.peek(place.call(), view) is None
        derived = await place.engine.view(place.udf("hourly"), result, view, EVERYBODY)
        assert await place.engine.peek(place.call(), view) == derived.result
        assert await place.engine.peek(place.call(), View("csv", columns=("no",))) is None

    asyncio.run(ask())
    assert place.runner.runs == 2


@IN_A_FOLDER
def test_head_tells_nothing_of_evicted_bytes(place: Place) -> None:
    async def ask() -> None:
        result = (await place.ask()).result
        (await place.store.local_path(result)).unlink()
        assert await place.head() is None
        again = await place.ask()
        assert again.ran
        assert again.result.executions == 2

    asyncio.run(ask())


def test_head_is_told_nothing_while_an_older_result_is_read(place: Place) -> None:
    async def ask() -> None:
        await place.read("hourly", ranged=True)
        assert await place.head() is not None
        await place.ask(rerun=True)
        assert await place.head() is None

    asyncio.run(ask())


def test_a_failure_is_one_run_for_retries_then_forgotten(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "FAILURE_S", 60)
    place.runner.error = UdfFailed("no data today")

    async def ask() -> None:
        for _ in range(4):
            with pytest.raises(UdfFailed, match="no data today") as caught:
                await place.ask("live")
            assert caught.value.udf == "live"
            assert caught.value.run
        assert place.runner.runs == 1
        pass_time(monkeypatch, 61)
        place.runner.error = None
        assert (await place.ask("live")).result.executions == 2

    asyncio.run(ask())
    assert place.runner.runs == 2


def test_a_failure_is_remembered_for_every_server(make_place: Callable[[], Place]) -> None:
    one, two = make_place(), make_place()
    one.runner.error = InvalidParameters("the least is above the most")

    async def ask() -> None:
        for place in (one, two):
            with pytest.raises(InvalidParameters, match="least"):
                await place.ask()

    asyncio.run(ask())
    assert two.runner.runs == 0


def test_a_success_ends_the_memory_of_a_failure(place: Place) -> None:
    async def ask() -> None:
        place.runner.error = UdfFailed("no")
        with pytest.raises(UdfFailed):
            await place.ask("live")
        place.runner.error = None
        await place.ask("live", rerun=True)
        await place.ask("live")

    asyncio.run(ask())
    assert place.runner.runs == 3


def test_a_failed_rerun_leaves_the_fresh_result(place: Place) -> None:
    async def ask() -> None:
        first = await place.ask()
        place.runner.error = UdfFailed("no")
        with pytest.raises(UdfFailed):
            await place.ask(rerun=True)
        assert (await place.ask()).result.run == first.result.run

    asyncio.run(ask())


def test_a_clock_set_back_does_not_prolong_a_failure(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.runner.error = UdfFailed("no")

    async def ask() -> None:
        with pytest.raises(UdfFailed):
            await place.ask()
        pass_time(monkeypatch, -3600)
        place.runner.error = None
        await place.ask()

    asyncio.run(ask())


def test_rerun_runs_a_fresh_call_again(place: Place) -> None:
    async def ask() -> list[int]:
        await place.ask()
        rerun = await place.ask(rerun=True)
        return [rerun.result.executions, (await place.ask()).result.executions]

    assert asyncio.run(ask()) == [2, 2]


def test_an_abandoned_result_is_handed_to_the_next_asker_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LINGER_S", 60)

    async def ask() -> list[int]:
        await place.abandon("live")
        return [(await place.ask("live")).result.executions for _ in range(2)]

    assert asyncio.run(ask()) == [1, 2]


def test_an_abandoned_result_does_not_stay_for_ever(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LINGER_S", 60)
    monkeypatch.setattr(freshness, "UNCLAIMED_S", 0.1)

    async def ask() -> int:
        await place.abandon("live")
        await asyncio.sleep(0.2)
        executions = (await place.ask("live")).result.executions
        assert place.engine._freshness._unclaimed._since == {}
        return executions

    assert asyncio.run(ask()) == 2


def test_what_nobody_comes_for_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    unclaimed = freshness.Unclaimed()
    unclaimed.add("old")
    assert "old" in unclaimed
    monkeypatch.setattr(freshness, "UNCLAIMED_S", 0.0)
    unclaimed.add("new")
    assert list(unclaimed._since) == ["new"]
