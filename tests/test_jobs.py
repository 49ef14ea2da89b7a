"""Jobs beside an engine whose runs end when a test says so."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from webfoot import jobs as jobs_module
from webfoot.errors import Conflict, ServerBusy, UdfTimeout
from webfoot.jobs import Jobs
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.places import Place

    from webfoot.jobs import Job

    Play = Callable[[Callable[[Jobs], Awaitable[None]]], None]


def jobs_of(place: Place, folder: Path, **given: float) -> Jobs:
    return Jobs(folder, place.engine, Settings(workers=2, **given))  # type: ignore[arg-type]  # floats


async def until(jobs: Jobs, job: Job, *states: str) -> Job:
    patient_until = time.monotonic() + 20
    while (found := jobs.find(job.id)) is None or found.state not in states:
        assert time.monotonic() < patient_until, "it never came"
        await asyncio.sleep(0.005)
    return found


@pytest.fixture
def play(place: Place, tmp_path: Path) -> Play:
    """Runs a test's coroutine with jobs that are closed afterwards."""

    def run(scene: Callable[[Jobs], Awaitable[None]]) -> None:
        async def whole() -> None:
            jobs = jobs_of(place, tmp_path / "jobs", timeout=5, job_timeout=50)
            try:
                await scene(jobs)
            finally:
                await jobs.close()

        asyncio.run(whole())

    return run


def test_a_job_and_requests_for_the_same_call_are_one_run(place: Place, play: Play) -> None:
    async def scene(jobs: Jobs) -> None:
        job = jobs.submit(place.call())
        answer, _ = await asyncio.gather(place.ask(), until(jobs, job, "done"))
        done = await until(jobs, job, "done")
        assert done.result == answer.result
        assert await jobs.done(done) == 1

    play(scene)
    assert place.runner.runs == 1


def test_a_job_that_waits_for_a_busy_server_goes_on(place: Place, play: Play) -> None:
    tried = 0

    async def scene(jobs: Jobs) -> None:
        answer = place.engine.result

        async def busy(*given: object, **named: object) -> object:
            nonlocal tried
            tried += 1
            if tried < 3:
                raise ServerBusy("full", retry_after_s=0)
            return await answer(*given, **named)  # type: ignore[arg-type]  # as it was called

        place.engine.result = busy  # type: ignore[method-assign, assignment]  # a server that is full
        await until(jobs, jobs.submit(place.call()), "done")

    play(scene)
    assert tried == 3


@pytest.mark.parametrize(("limit_s", "ends_as"), [(5.0, "done"), (50.0, "failed")])
def test_a_job_that_joined_a_shorter_run_has_its_own_time(
    place: Place, play: Play, limit_s: float, ends_as: str
) -> None:
    tried: list[object] = []

    async def scene(jobs: Jobs) -> None:
        answer = place.engine.result

        async def slow(*given: object, rerun: bool, **named: object) -> object:
            tried.append(rerun)
            if not rerun:
                raise UdfTimeout("too long", timeout_s=limit_s)
            return await answer(*given, rerun=rerun, **named)  # type: ignore[arg-type]  # likewise

        place.engine.result = slow  # type: ignore[method-assign, assignment]  # one that took too long
        await until(jobs, jobs.submit(place.call()), ends_as)

    play(scene)
    assert tried == ([False, True] if ends_as == "done" else [False])


def test_a_job_of_a_request_has_a_request_s_time_and_one_that_was_asked_for_its_own(
    place: Place, play: Play
) -> None:
    async def scene(jobs: Jobs) -> None:
        assert jobs.attended(place.call()).timeout_s == 5
        assert jobs.submit(place.call()).timeout_s == 50

    play(scene)


def test_a_request_s_job_ends_when_nobody_comes_back(place: Place, play: Play) -> None:
    place.runner.go.clear()

    async def scene(jobs: Jobs) -> None:
        left = jobs.attended(place.call(), back_s=0.05)
        kept = jobs.attended(place.call(n=2), back_s=0.05)
        own = jobs.submit(place.call(n=3))

        async def hold() -> None:
            for _ in range(8):
                assert not (await jobs.wait(kept, 0.03)).over

        await asyncio.gather(hold(), until(jobs, left, "cancelled"))
        await until(jobs, kept, "cancelled")
        found = jobs.find(own.id)
        assert found is not None
        assert found.state == "running"
        place.runner.go.set()
        await until(jobs, own, "done")

    play(scene)


def test_requests_for_one_call_are_one_job_until_it_has_ended(place: Place, play: Play) -> None:
    async def scene(jobs: Jobs) -> None:
        place.runner.go.clear()
        first = jobs.attended(place.call())
        assert jobs.attended(place.call()).id == first.id
        place.runner.go.set()
        await until(jobs, first, "done")
        assert jobs.attended(place.call()).id != first.id
        assert jobs.find(first.id) is not None

    play(scene)


def test_a_key_is_for_one_job(place: Place, play: Play) -> None:
    async def scene(jobs: Jobs) -> None:
        first = jobs.submit(place.call(), once="key")
        assert jobs.submit(place.call(), once="key").id == first.id
        with pytest.raises(Conflict, match=first.id):
            jobs.submit(place.call(n=2), once="key")
        await until(jobs, first, "done")
        assert jobs.submit(place.call(), once="key").state == "done"

    play(scene)


def test_no_more_jobs_than_can_run_ask_at_once(place: Place, play: Play) -> None:
    async def scene(jobs: Jobs) -> None:
        place.runner.go.clear()
        made = [jobs.submit(place.call(n=n)) for n in range(20)]
        await until(jobs, made[0], "running")
        await asyncio.sleep(0.05)
        states = [found.state for job in made if (found := jobs.find(job.id))]
        assert states.count("running") == 4
        assert states.count("queued") == 16
        jobs.cancel(made[-1])
        place.runner.go.set()
        for job in made[:-1]:
            await until(jobs, job, "done")
        await until(jobs, made[-1], "cancelled")

    play(scene)
    assert place.runner.runs == 19


def test_jobs_of_a_server_that_stopped_go_on_in_the_next_and_those_of_the_living_stay(
    place: Place,
    make_place: Callable[[], Place],
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        place.runner.go.clear()
        first, living = (jobs_of(place, tmp_path / "jobs") for _ in range(2))
        left, kept = first.submit(place.call()), living.submit(place.call(n=2))
        await until(first, left, "running")
        await first.close()
        other = make_place()
        second = jobs_of(other, tmp_path / "jobs")
        second.resume()
        await until(second, left, "done")
        found = second.find(kept.id)
        assert found is not None
        assert found.state == "running"
        assert other.runner.runs == 1
        place.runner.go.set()
        await until(living, kept, "done")
        await living.close()
        await second.close()

    asyncio.run(scene())


def test_old_jobs_are_forgotten(place: Place, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "_KEPT", 3)
    monkeypatch.setattr(jobs_module, "_SWEEP_EACH", 1)

    async def scene(jobs: Jobs) -> None:
        made = []
        for n in range(8):
            made.append(jobs.submit(place.call(n=n)))
            await until(jobs, made[-1], "done")
        there = [jobs.find(job.id) is not None for job in made]
        assert there == [False] * 4 + [True] * 4
        jobs._file.run("UPDATE jobs SET ended = 1 WHERE id = ?", made[-1].id)
        jobs.submit(place.call(n=9))
        assert jobs.find(made[-1].id) is None

    play(scene)


def test_a_job_of_a_udf_that_is_gone_fails(place: Place, tmp_path: Path) -> None:
    async def scene() -> None:
        place.runner.go.clear()
        first = jobs_of(place, tmp_path / "jobs")
        job = first.submit(place.call())
        await until(first, job, "running")
        await first.close()
        first = jobs_of(place, tmp_path / "jobs")
        renamed = "UPDATE jobs SET record = replace(record, 'hourly', 'gone')"
        first._file.run(renamed)
        first.resume()
        failed = await until(first, job, "failed")
        assert failed.problem is not None
        assert failed.problem["code"] == "udf-not-found"
        assert first.log(failed) == ""
        assert await first.done(failed) == 0
        await first.close()

    asyncio.run(scene())
