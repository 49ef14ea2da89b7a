"""How runs end, what is told of them, and what they cost. The runner is a fake."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.places import IN_A_FOLDER, started

from webfoot.access.principal import EVERYBODY
from webfoot.errors import Error, RunCancelled, ServerBusy, StorageFull, UdfFailed
from webfoot.lineage import Tally
from webfoot.results import Usage
from webfoot.views import View

if TYPE_CHECKING:
    from pathlib import Path

    from tests.places import Place


@pytest.mark.parametrize(
    "error", [ServerBusy("full"), RunCancelled("stopping"), StorageFull("full")]
)
def test_what_is_no_fault_of_the_call_is_not_remembered(place: Place, error: Error) -> None:
    async def ask() -> None:
        place.runner.error = error
        with pytest.raises(type(error)):
            await place.ask()
        place.runner.error = None
        await place.ask()

    asyncio.run(ask())
    assert place.runner.runs == 2


def test_runs_are_recorded_with_their_ends(place: Place) -> None:
    async def ask() -> tuple[str, str]:
        answer = await place.ask()
        place.runner.error = UdfFailed("no")
        with pytest.raises(UdfFailed) as caught:
            await place.ask("live")
        assert caught.value.run is not None
        return answer.result.run, caught.value.run

    succeeded, failed = (place.engine.runs.find(run) for run in asyncio.run(ask()))
    assert succeeded is not None
    assert (succeeded.udf, succeeded.arguments, succeeded.rows) == ("hourly", '{"n":1}', 1)
    assert failed is not None
    assert failed.problem is not None
    assert failed.problem["detail"] == "no"


@IN_A_FOLDER
def test_nothing_is_left_in_the_staging_area(place: Place, tmp_path: Path) -> None:
    async def ask() -> None:
        await place.ask()
        place.runner.error = UdfFailed("no")
        with pytest.raises(UdfFailed):
            await place.ask("live")

    asyncio.run(ask())
    left = [path.name for path in (tmp_path / "store/staging").glob("*/*")]
    assert left == ["alive"]


@IN_A_FOLDER
def test_a_removed_store_is_made_again(place: Place, tmp_path: Path) -> None:
    async def ask() -> None:
        await place.ask()
        subprocess.run(["rm", "-r", tmp_path / "store"], check=True)  # noqa: ASYNC221  # nothing else runs
        assert (await place.ask()).ran
        assert not (await place.ask()).ran

    asyncio.run(ask())


@IN_A_FOLDER
def test_a_store_that_cannot_be_written_fails_the_call_and_says_so(
    place: Place, tmp_path: Path
) -> None:
    async def ask() -> None:
        objects = tmp_path / "store/objects"
        os.rename(objects, tmp_path / "aside")  # noqa: PTH104  # Path would do the same
        objects.write_text("in the way")
        with pytest.raises(Error, match="the store cannot be written"):
            await place.ask()
        objects.unlink()
        await place.ask()

    asyncio.run(ask())


# What runs cost.


def costs(place: Place) -> list[tuple[str, int, int | None]]:
    """Kind, milliseconds and memory of all runs that were recorded."""
    return [(run.kind, run.billed_ms, run.memory_bytes) for run in place.engine.runs.all()]


def test_a_run_is_recorded_with_what_it_took(place: Place) -> None:
    result = asyncio.run(place.ask()).result
    [run] = place.engine.runs.all()
    assert (run.kind, run.rows, run.bytes) == ("call", result.rows, result.size)
    assert (run.billed_ms, run.cpu_s, run.memory_bytes) == (31, 0.01, 1 << 30)
    assert result.seconds == 0.0301


def test_who_made_the_run_pays_for_it(place: Place) -> None:
    async def ask() -> list[Tally]:
        tallies = [Tally() for _ in range(4)]
        udf, call = place.udf("hourly"), place.call()
        place.runner.go.clear()
        askers = [
            asyncio.ensure_future(
                place.engine.result(udf, call, lineage=place.engine.request(tally))
            )
            for tally in tallies[:3]
        ]
        await started(place.runner)
        place.runner.go.set()
        await asyncio.gather(*askers)
        await place.engine.result(udf, call, lineage=place.engine.request(tallies[3]))
        return tallies

    tallies = asyncio.run(ask())
    # Which of them came first depends on how long the store takes to say that it has nothing.
    (maker,) = [tally for tally in tallies[:3] if tally.runs]
    others = [tally for tally in tallies if tally is not maker]
    assert (maker.runs, maker.billed_ms, maker.memory_bytes) == (1, 31, 1 << 30)
    assert maker.gb_seconds == pytest.approx(0.031)
    assert {(tally.runs, tally.billed_ms) for tally in others} == {(0, 0)}
    assert place.engine.runs.all()[0].trace == maker.trace


def test_a_view_is_a_run_too(place: Place) -> None:
    async def ask() -> Tally:
        tally = Tally()
        result = (await place.ask()).result
        for _ in range(2):
            await place.engine.view(place.udf("hourly"), result, View("csv"), EVERYBODY, tally)
        return tally

    tally = asyncio.run(ask())
    assert costs(place) == [("call", 31, 1 << 30), ("view", 31, 1 << 30)]
    assert (tally.runs, tally.billed_ms) == (1, 31)
    assert place.engine.runs.all()[1].arguments.startswith("csv of run ")


def test_a_run_that_fails_costs_what_it_took(place: Place) -> None:
    place.runner.error = UdfFailed("no")
    place.runner.error.usage = Usage(2.0, 1.0, 5)
    with pytest.raises(UdfFailed):
        asyncio.run(place.ask())
    assert costs(place) == [("call", 2000, 5)]


def test_a_run_whose_result_cannot_be_kept_costs_what_it_took(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise StorageFull("the disk is full")

    monkeypatch.setattr(place.store, "publish", refuse)
    with pytest.raises(StorageFull):
        asyncio.run(place.ask())
    assert costs(place) == [("call", 31, 1 << 30)]


@pytest.mark.parametrize("usage", [None, Usage(1.0)], ids=["itself", "one that it called"])
def test_what_was_too_busy_is_recorded_only_if_it_ran(place: Place, usage: Usage | None) -> None:
    place.runner.error = ServerBusy("too many")
    place.runner.error.usage = usage
    with pytest.raises(ServerBusy):
        asyncio.run(place.ask())
    assert costs(place) == ([] if usage is None else [("call", 1000, None)])
