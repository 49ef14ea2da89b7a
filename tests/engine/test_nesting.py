"""The calls that a run of SQL makes: what a query string asks, of what is in its reach."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from tests.places import FakeRunner, Place

from webfoot.access.principal import ANONYMOUS, Principal
from webfoot.errors import FanoutLimit, InvalidParameters, RunError, UdfNotFound
from webfoot.lineage import Tally, new_lineage
from webfoot.results import Reach
from webfoot.runners.jobs import QueryJob, StitchJob, UdfJob, ViewJob

if TYPE_CHECKING:
    from pathlib import Path

    from webfoot.lineage import Lineage
    from webfoot.results import Draft
    from webfoot.runners import Calls
    from webfoot.runners.jobs import Job

Ask = Callable[..., "Asking"]


@dataclass
class Asking(FakeRunner):
    """Makes calls in a run of SQL."""

    asked: tuple[str, list[str]] = ("hourly", ["n=1"])
    files: list[bytes] = field(default_factory=list)
    jobs: list[type] = field(default_factory=list)

    async def run(self, job: Job, target: Path, log: Path, calls: Calls) -> Draft:
        self.jobs.append(type(job))
        if isinstance(job, QueryJob):
            async with aclosing(calls.answers(*self.asked)) as answers:
                async for answered in answers:
                    assert answered.path is not None
                    self.files.append(answered.path.read_bytes())
        return await super().run(job, target, log, calls)


@pytest.fixture
def ask(place: Place) -> Ask:
    """Runs SQL that calls a UDF with query strings, and gives what came of them."""

    runner = Asking()
    place.run_with(runner)

    def run(
        udf: str, *queries: str, reach: Reach | None = None, asker: Principal = ANONYMOUS
    ) -> Asking:
        runner.asked, runner.files, runner.jobs = (udf, list(queries)), [], []
        query = place.engine.query("SELECT 1", "[]", None, reach or Reach(), asker)
        asyncio.run(place.engine.answer(query))
        return runner

    return run


def test_a_query_string_is_a_call_like_any_other(ask: Ask, place: Place) -> None:
    known = asyncio.run(place.read("hourly"))
    runner = ask("hourly", "n=1", "n=2")
    assert runner.files[0] == known
    assert runner.jobs == [QueryJob, UdfJob]


def test_views_and_fan_outs_are_made_as_for_a_request(ask: Ask) -> None:
    assert ask("hourly", "n=1&_limit=1").jobs == [QueryJob, UdfJob, ViewJob]
    assert ask("hourly", "_each=n&n=5&n=6").jobs == [QueryJob, UdfJob, UdfJob, StitchJob]


@pytest.mark.parametrize("query", ["n=many", "m=1", "_limit=many", "_for=sheets", "_each=m&m=1"])
def test_what_asks_nothing_that_has_sense_is_refused(ask: Ask, query: str) -> None:
    with pytest.raises(InvalidParameters):
        ask("hourly", query)


def test_what_is_out_of_reach_is_refused_whatever_the_run_says(ask: Ask) -> None:
    reach = Reach(frozenset({"live"}))
    assert ask("live", "n=1", reach=reach).jobs == [QueryJob, UdfJob]
    with pytest.raises(UdfNotFound):
        ask("hourly", "n=1", reach=reach)
    with pytest.raises(UdfNotFound):
        ask("nothing", "n=1")


def tell_who_asks(place: Place, name: str) -> None:
    """As if the UDF had been saved with a parameter for it."""
    udf, registry = place.udf(name), place.engine.registry
    told = replace(udf, parameters=replace(udf.parameters, injected={"who": "principal"}))
    place.engine.registry = replace(registry, udfs={**registry.udfs, name: told})


def test_what_is_shared_calls_nothing_that_is_told_who_asks(place: Place) -> None:
    place.run_with(Asking())
    query = place.engine.query("SELECT 1", "[]", None, Reach(), ANONYMOUS)
    tell_who_asks(place, "hourly")
    with pytest.raises(RunError, match="hourly is told who asks"):
        asyncio.run(place.engine.answer(query))


def test_who_asks_sql_is_who_its_calls_are_told(place: Place) -> None:
    engine = place.engine
    ann, bob = Principal("key:a", "red"), Principal("key:b", "red")

    def audiences(reach: Reach) -> tuple[Principal, bool]:
        queries = [engine.query("SELECT 1", "[]", None, reach, who) for who in (ann, bob)]
        return queries[0].audience, queries[0].key == queries[1].key

    assert audiences(Reach()) == (ann.among_all(), True)
    tell_who_asks(place, "hourly")
    assert audiences(Reach()) == (ann, False)
    assert audiences(Reach(frozenset({"live"}))) == (ann.among_all(), True)


def test_calls_of_sql_count_as_others_do(
    ask: Ask, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def request(tally: Tally) -> Lineage:
        return new_lineage(place.engine.registry, 2, 16, 1.0, tally)

    monkeypatch.setattr(place.engine, "request", request)
    ask("hourly", "n=1", "n=2")
    with pytest.raises(FanoutLimit):
        ask("hourly", "n=3", "n=4", "n=5")
