"""Views, queries, and what becomes of who joins a call. The runner is a fake."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.places import IN_A_FOLDER, started

from webfoot.access.principal import ANONYMOUS, EVERYBODY
from webfoot.engine import Answer
from webfoot.errors import FanoutLimit, InvalidParameters, QueryFailed, ServerBusy
from webfoot.results import Reach
from webfoot.views import View

if TYPE_CHECKING:
    from pathlib import Path

    from tests.places import Place

    from webfoot.results import Draft
    from webfoot.runners import Calls
    from webfoot.runners.jobs import Job


def test_who_joins_a_run_that_came_to_its_limit_has_a_run_of_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place.runner.run

    async def limited(job: Job, target: Path, log: Path, calls: Calls) -> Draft:
        draft = await run(job, target, log, calls)
        if draft.rows == 1:  # As many as the number of the run.
            raise FanoutLimit("that was one call too many")
        return draft

    monkeypatch.setattr(place.runner, "run", limited)

    async def ask() -> list[object]:
        place.runner.go.clear()
        asking = [asyncio.create_task(place.ask()) for _ in range(2)]
        await started(place.runner)
        await asyncio.sleep(0.05)
        place.runner.go.set()
        return [type(answer) for answer in await asyncio.gather(*asking, return_exceptions=True)]

    assert set(asyncio.run(ask())) == {FanoutLimit, Answer}
    assert place.runner.runs == 2


def test_views_are_one_run_each_and_are_kept(place: Place) -> None:
    async def ask() -> None:
        result = (await place.ask()).result
        hourly = place.udf("hourly")
        answers = await asyncio.gather(
            *(place.engine.view(hourly, result, View("csv"), EVERYBODY) for _ in range(20))
        )
        assert len({answer.result.etag for answer in answers}) == 1
        assert not (await place.engine.view(hourly, result, View("csv"), EVERYBODY)).ran
        assert (
            await place.engine.view(hourly, result, View("parquet"), EVERYBODY)
        ).result == result
        with pytest.raises(InvalidParameters):
            await place.engine.view(hourly, result, View("csv", columns=("no",)), EVERYBODY)

    asyncio.run(ask())
    assert place.runner.runs == 2


def test_a_view_goes_before_new_requests_and_is_never_one_too_many(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths = []
    run = place.runner.run

    async def noting(job: Job, target: Path, log: Path, calls: Calls) -> Draft:
        depths.append(calls.descent.depth)
        return await run(job, target, log, calls)

    monkeypatch.setattr(place.runner, "run", noting)

    async def ask() -> None:
        result = (await place.ask()).result
        await place.engine.view(place.udf("hourly"), result, View("csv"), EVERYBODY)

    asyncio.run(ask())
    # As a call of a run: see `webfoot.runners.slots`.
    assert depths == [0, 1]


@IN_A_FOLDER
def test_a_view_of_evicted_bytes_is_to_be_asked_again(place: Place) -> None:
    async def ask() -> None:
        result = (await place.ask()).result
        (await place.store.local_path(result)).unlink()
        with pytest.raises(ServerBusy):
            await place.engine.view(place.udf("hourly"), result, View("csv"), EVERYBODY)

    asyncio.run(ask())
    assert place.runner.runs == 1


def test_sql_is_run_for_each_reader_and_shared_by_those_at_once(place: Place) -> None:
    engine = place.engine

    async def ask() -> None:
        query = engine.query("SELECT 1", "[]", None, Reach(), ANONYMOUS)
        together = await asyncio.gather(*(engine.answer(query) for _ in range(5)))
        (run,) = {answer.result.run for answer in together}
        assert await engine.peek(query, View("parquet")) is None
        # Who reads ranges goes on with the bytes that he began with, whoever asks meanwhile.
        assert (await engine.answer(query, ranged=True)).result.run == run
        assert (await engine.answer(query)).result.run != run
        assert (await engine.answer(query, ranged=True)).result.run == run

    asyncio.run(ask())
    assert place.runner.runs == 2


def test_a_query_that_fails_names_no_udf(place: Place) -> None:
    place.runner.error = QueryFailed("there is no table a")
    with pytest.raises(QueryFailed) as caught:
        asyncio.run(
            place.engine.answer(place.engine.query("FROM a", "[]", None, Reach(), ANONYMOUS))
        )
    assert caught.value.udf is None
    assert caught.value.run
