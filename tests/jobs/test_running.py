"""Jobs beside an engine whose runs end when a test says so."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.places import started
from tests.s3_server import KEYS, moto_server

from webfoot import engine as engines
from webfoot.access.principal import EVERYBODY
from webfoot.errors import Conflict, JobNotFound, ServerBusy, UdfTimeout
from webfoot.jobs import new_job
from webfoot.jobs.bucket import BucketRecords
from webfoot.jobs.folder import FolderRecords
from webfoot.jobs.running import Jobs
from webfoot.results import Call
from webfoot.settings import Settings
from webfoot.store.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.places import Place
    from tests.s3_server import S3Server

    from webfoot.engine import Answer
    from webfoot.jobs import Job
    from webfoot.jobs.records import JobRecords

    Open = Callable[[], JobRecords]
    Play = Callable[[Callable[[Jobs], Awaitable[None]]], None]


def jobs_of(place: Place, records: JobRecords, **given: float) -> Jobs:
    # Tests do not wait for what a server looks for each second.
    records.look_s = 0.02
    return Jobs(records, place.engine, Settings(workers=2, **given))  # type: ignore[arg-type]  # floats


async def until(jobs: Jobs, job: Job, *states: str) -> Job:
    patient_until = time.monotonic() + 20
    while (found := await jobs.get(job.id, EVERYBODY)).state not in states:
        assert time.monotonic() < patient_until, "it never came"
        await asyncio.sleep(0.005)
    return found


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def open_records(
    request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Opens the records of one store, as several servers may."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as opened:
        if request.param == "folder":
            yield lambda: FolderRecords(tmp_path / "jobs")
            return
        place = s3.make_place()

        def open_bucket() -> BucketRecords:
            bucket = Bucket(place, s3.access)
            opened.callback(bucket.close)
            return BucketRecords(bucket)

        yield open_bucket


@pytest.fixture
def play(place: Place, open_records: Open) -> Play:
    """Runs a test's coroutine with jobs that are closed afterwards."""

    def run(scene: Callable[[Jobs], Awaitable[None]]) -> None:
        async def whole() -> None:
            jobs = jobs_of(place, open_records(), timeout=5, job_timeout=50)
            try:
                await scene(jobs)
            finally:
                await jobs.close()

        asyncio.run(whole())

    return run


def test_a_job_and_requests_for_the_same_call_are_one_run(place: Place, play: Play) -> None:
    async def scene(jobs: Jobs) -> None:
        job = await jobs.submit(place.call())
        answer, _ = await asyncio.gather(place.ask(), until(jobs, job, "done"))
        done = await until(jobs, job, "done")
        assert done.result == answer.result
        assert done.done == 1

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
        await until(jobs, await jobs.submit(place.call()), "done")

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
        await until(jobs, await jobs.submit(place.call()), ends_as)

    play(scene)
    assert tried == ([False, True] if ends_as == "done" else [False])


def test_a_job_of_a_request_has_a_request_s_time_and_one_that_was_asked_for_its_own(
    place: Place, play: Play
) -> None:
    async def scene(jobs: Jobs) -> None:
        assert (await jobs.attended(place.call())).timeout_s == 5
        assert (await jobs.submit(place.call())).timeout_s == 50

    play(scene)


@pytest.mark.parametrize("asked", ["here", "elsewhere"])
def test_a_request_s_job_goes_on_while_somebody_waits_and_ends_when_nobody_does(
    place: Place, open_records: Open, asked: str
) -> None:
    async def scene() -> None:
        place.runner.go.clear()
        running = jobs_of(place, open_records())
        waiting = running if asked == "here" else jobs_of(place, open_records())
        left = await running.attended(place.call(), back_s=1)
        own = await running.submit(place.call(n=2))
        # Last: from now on it must be waited for.
        kept = await running.attended(place.call(n=3), back_s=4)
        for _ in range(11):
            assert not (await waiting.wait(kept, 0.5)).over
        assert (await until(running, left, "cancelled")).back_s == 1
        assert (await running.get(own.id, EVERYBODY)).state == "running"
        place.runner.go.set()
        await until(running, own, "done")
        await until(running, kept, "done")
        for jobs in {running, waiting}:
            await jobs.close()

    asyncio.run(scene())


def test_who_waits_says_so_again_before_it_is_forgotten(
    place: Place, open_records: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: asyncio.Queue[float] = asyncio.Queue()

    async def scene() -> None:
        records = open_records()
        jobs = jobs_of(place, records)
        # Nobody runs it.
        job = await records.add(new_job(place.call(), 60, back_s=0.5), None)

        async def say(_: Job, seconds: float) -> None:
            said.put_nowait(seconds)

        monkeypatch.setattr(records, "wait_for", say)
        waiting = asyncio.ensure_future(jobs.wait(job, 50))
        for _ in range(3):
            assert await said.get() == 1.0
        waiting.cancel()
        await jobs.close()

    asyncio.run(scene())


def test_requests_for_one_call_are_one_job_until_it_has_ended(place: Place, play: Play) -> None:
    async def scene(jobs: Jobs) -> None:
        place.runner.go.clear()
        first = await jobs.attended(place.call())
        assert (await jobs.attended(place.call())).id == first.id
        place.runner.go.set()
        await until(jobs, first, "done")
        assert (await jobs.attended(place.call())).id != first.id
        assert await jobs.get(first.id, EVERYBODY) is not None

    play(scene)


def test_a_key_is_for_one_job(place: Place, play: Play) -> None:
    async def scene(jobs: Jobs) -> None:
        first = await jobs.submit(place.call(), once="key")
        assert (await jobs.submit(place.call(), once="key")).id == first.id
        with pytest.raises(Conflict, match=first.id):
            await jobs.submit(place.call(n=2), once="key")
        await until(jobs, first, "done")
        assert (await jobs.submit(place.call(), once="key")).state == "done"

    play(scene)


def test_no_more_jobs_than_can_run_ask_at_once(place: Place, play: Play) -> None:
    async def scene(jobs: Jobs) -> None:
        place.runner.go.clear()
        made = [await jobs.submit(place.call(n=n)) for n in range(20)]
        for job in made[:4]:
            await until(jobs, job, "running")
        await asyncio.sleep(0.05)
        states = [(await jobs.get(job.id, EVERYBODY)).state for job in made]
        assert states.count("running") == 4
        assert states.count("queued") == 16
        await jobs.cancel(made[-1])
        place.runner.go.set()
        for job in made[:-1]:
            await until(jobs, job, "done")
        await until(jobs, made[-1], "cancelled")

    play(scene)
    assert place.runner.runs == 19


def test_jobs_of_a_server_that_stopped_go_on_in_the_next_and_those_of_the_living_stay(
    place: Place, make_place: Callable[[], Place], open_records: Open
) -> None:
    async def scene() -> None:
        place.runner.go.clear()
        first, living = (jobs_of(place, open_records()) for _ in range(2))
        left, kept = await first.submit(place.call()), await living.submit(place.call(n=2))
        await until(first, left, "running")
        await until(living, kept, "running")
        await first.close()
        other = make_place()
        second = jobs_of(other, open_records())
        await second.resume()
        await until(second, left, "done")
        assert (await second.get(kept.id, EVERYBODY)).state == "running"
        assert other.runner.runs == 1
        place.runner.go.set()
        await until(living, kept, "done")
        await living.close()
        await second.close()

    asyncio.run(scene())


def test_a_job_is_taken_over_once_and_only_from_a_server_that_stopped(open_records: Open) -> None:
    async def scene() -> None:
        one, two, three = (open_records() for _ in range(3))
        jobs = [new_job(Call("hourly", "version", "{}"), 60) for _ in range(3)]
        for job in jobs:
            await one.add(job, None)
        assert not await two.take_over(jobs[0])
        assert {job.id for job in await two.unfinished()} == {job.id for job in jobs}
        await one.keep(replace(jobs[1], state="done", ended=1.0))
        await one.close()
        assert await two.take_over(jobs[0])
        for job in jobs[:2]:
            assert not await two.take_over(job)
            assert not await three.take_over(job)
        assert {job.id for job in await three.unfinished()} == {jobs[0].id, jobs[2].id}
        assert await three.take_over(jobs[2])
        for records in (two, three):
            await records.close()

    asyncio.run(scene())


def test_a_server_leaves_jobs_of_udfs_that_it_has_not_to_others(
    place: Place, open_records: Open
) -> None:
    """Folders may share a store."""

    async def scene() -> None:
        another = open_records()
        job = await another.add(new_job(Call("elsewhere", "version", "{}"), 60), None)
        await another.close()
        jobs = jobs_of(place, open_records())
        await jobs.resume()
        assert (await jobs.wait(job, 0.2)).state == "queued"
        third = open_records()
        assert await third.take_over(job)
        await jobs.close()
        await third.close()

    asyncio.run(scene())


def test_one_job_of_a_server_that_stopped_is_taken_up_by_one_that_is_asked_to(
    place: Place, make_place: Callable[[], Place], open_records: Open
) -> None:
    async def scene() -> None:
        place.runner.go.clear()
        first, living = (jobs_of(place, open_records()) for _ in range(2))
        left, other = [await first.submit(place.call(n=n)) for n in (1, 2)]
        ended = await first.submit(Call("gone", "version", "{}"))
        kept = await living.submit(place.call(n=3))
        await until(first, ended, "failed")
        await until(first, other, "running")
        await first.close()
        here, there = make_place(), make_place()
        second, third = jobs_of(here, open_records()), jobs_of(there, open_records())
        await asyncio.gather(*(jobs.take_up(left.id) for jobs in (second, third)))
        for job in (ended, kept):
            await second.take_up(job.id)
        await until(third, left, "done")
        await second.take_up(left.id)
        assert here.runner.runs + there.runner.runs == 1
        await until(second, kept, "running")
        await until(second, other, "running")
        await until(second, ended, "failed")
        place.runner.go.set()
        await until(living, kept, "done")
        for jobs in (living, second, third):
            await jobs.close()

    asyncio.run(scene())


def test_servers_cancel_and_wait_for_each_other_s_jobs(place: Place, open_records: Open) -> None:
    async def scene() -> None:
        place.runner.go.clear()
        one, other = (jobs_of(place, open_records()) for _ in range(2))
        first, second = [await one.submit(place.call(n=n)) for n in (1, 2)]
        await until(one, second, "running")
        await other.cancel(second)
        assert (await other.wait(second, 20)).state == "cancelled"
        waiting = asyncio.ensure_future(other.wait(first, 20))
        place.runner.go.set()
        assert (await waiting).state == "done"
        await one.close()
        await other.close()

    asyncio.run(scene())


def test_a_job_that_is_sent_elsewhere_runs_there_and_not_here(
    place: Place, make_place: Callable[[], Place], open_records: Open
) -> None:
    async def scene() -> None:
        sent: asyncio.Queue[str] = asyncio.Queue()

        async def send(job: Job) -> None:
            sent.put_nowait(job.id)

        here = Jobs(open_records(), place.engine, Settings(workers=2), send)
        there = jobs_of(make_place(), open_records())
        job = await here.submit(place.call())
        assert (await here.submit(place.call(), once="a key")).id != job.id
        assert (await here.get(job.id, EVERYBODY)).state == "queued"
        ended = await there.run(await there.get(await sent.get(), EVERYBODY), 20)
        assert (ended.id, ended.state) == (job.id, "done")
        assert await here.get(job.id, EVERYBODY) == ended
        # Delivered twice.
        assert await there.run(ended, 20) == ended
        assert place.runner.runs == 0
        await here.close()
        await there.close()

    asyncio.run(scene())


def test_a_run_under_way_here_makes_way_for_the_job_elsewhere(
    place: Place, open_records: Open
) -> None:
    async def scene() -> None:
        place.runner.go.clear()

        async def send(_: Job) -> None:
            assert place.runner.cancelled == 1

        here = Jobs(open_records(), place.engine, Settings(workers=2), send)
        asked = asyncio.ensure_future(place.ask())
        await asyncio.sleep(0.1)
        assert place.runner.runs == 1
        asked.cancel()
        await here.attended(place.call())
        assert place.runner.cancelled == 1
        await here.close()

    asyncio.run(scene())


def test_a_job_that_runs_out_of_the_platform_s_time_fails(place: Place, play: Play) -> None:
    place.runner.go.clear()

    async def scene(jobs: Jobs) -> None:
        admitted = await jobs.admit(place.call())
        jobs._begin(admitted)
        await started(place.runner)
        job = await jobs.run(admitted, 0.1)
        assert job.state == "failed"
        assert (job.problem or {})["code"] == "deadline-reached"

    play(scene)
    assert place.runner.cancelled == 1


def test_a_job_of_a_udf_that_is_gone_fails(play: Play) -> None:
    async def scene(jobs: Jobs) -> None:
        job = await jobs.submit(Call("gone", "version", "{}"))
        failed = await until(jobs, job, "failed")
        assert failed.problem is not None
        assert failed.problem["code"] == "udf-not-found"
        assert jobs.log(failed) == ""

    play(scene)


@pytest.mark.parametrize("id", ["0123456789abcdef", "", "../store", "a/b"])
def test_an_id_that_stands_for_nothing_is_not_found(play: Play, id: str) -> None:  # noqa: A002  # it is one
    async def scene(jobs: Jobs) -> None:
        with pytest.raises(JobNotFound):
            await jobs.get(id, EVERYBODY)

    play(scene)


@pytest.fixture
def _no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends a run with the last request that waits for it: where one is to go on, none may leave."""
    monkeypatch.setattr(engines, "LINGER_S", 0)


async def asking(place: Place, name: str = "hourly") -> asyncio.Task[Answer]:
    """A request whose run has begun."""
    before = place.runner.runs
    coming = asyncio.ensure_future(place.ask(name))
    await started(place.runner, before + 1)
    return coming


@pytest.mark.usefixtures("_no_linger")
@pytest.mark.parametrize("name", ["hourly", "live"])
def test_a_request_s_job_waits_for_its_run_and_not_for_its_turn(
    place: Place, play: Play, name: str
) -> None:
    async def scene(jobs: Jobs) -> None:
        place.runner.go.clear()
        others = [await jobs.submit(place.call(n=n)) for n in range(10, 14)]
        await started(place.runner, 4)
        coming = await asking(place, name)
        job = await jobs.attended(place.call(name), 60, coming)
        assert (await until(jobs, job, "running", "done")).state == "running"
        place.runner.go.set()
        for made in (job, *others):
            await until(jobs, made, "done")
        assert (await jobs.get(job.id, EVERYBODY)).result == (await coming).result

    play(scene)
    assert (place.runner.runs, place.runner.cancelled) == (5, 0)


@pytest.mark.usefixtures("_no_linger")
@pytest.mark.parametrize("kept", [True, False], ids=["waiting", "not yet waiting"])
def test_a_request_s_run_ends_with_its_job(
    place: Place, open_records: Open, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    async def scene() -> None:
        place.runner.go.clear()
        records = open_records()
        jobs = jobs_of(place, records)
        keep, keeping = records.keep, asyncio.Event()
        go_on = asyncio.Event()
        if kept:
            go_on.set()

        async def keep_slowly(job: Job) -> None:
            keeping.set()
            if job.state == "running":
                await go_on.wait()
            await keep(job)

        monkeypatch.setattr(records, "keep", keep_slowly)
        job = await jobs.attended(place.call(), 60, await asking(place))
        await keeping.wait()
        if kept:
            await until(jobs, job, "running")
        await jobs.cancel(job)
        await until(jobs, job, "cancelled")
        await place.landed()
        await jobs.close()

    asyncio.run(asyncio.wait_for(scene(), 60))
    assert (place.runner.runs, place.runner.cancelled) == (1, 1)


@pytest.mark.usefixtures("_no_linger")
def test_a_request_that_cannot_become_a_job_gives_up_its_run(
    place: Place, open_records: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        place.runner.go.clear()
        records = open_records()
        jobs = jobs_of(place, records)

        async def add(_: Job, once: str | None) -> Job:
            raise ServerBusy(f"no bucket for {once}")

        monkeypatch.setattr(records, "add", add)
        with pytest.raises(ServerBusy):
            await jobs.attended(place.call(), 60, await asking(place))
        await place.landed()
        await jobs.close()

    asyncio.run(asyncio.wait_for(scene(), 60))
    assert place.runner.cancelled == 1


@pytest.mark.usefixtures("_no_linger")
def test_a_job_that_is_kept_is_begun_whatever_fails_after_that(
    place: Place, open_records: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        place.runner.go.clear()
        records = open_records()
        jobs = jobs_of(place, records)

        async def wait_for(_: Job, seconds: float) -> None:
            raise ServerBusy(f"no bucket for {seconds} s")

        coming = await asking(place)
        with monkeypatch.context() as failing:
            failing.setattr(records, "wait_for", wait_for)
            with pytest.raises(ServerBusy):
                await jobs.attended(place.call(), 60, coming)
        again = await jobs.attended(place.call(), 60, asyncio.ensure_future(place.ask()))
        place.runner.go.set()
        await until(jobs, again, "done")
        await jobs.close()

    asyncio.run(asyncio.wait_for(scene(), 60))
    assert (place.runner.runs, place.runner.cancelled) == (1, 0)


@pytest.mark.usefixtures("_no_linger")
@pytest.mark.parametrize("ends_as", ["done", "cancelled"])
def test_a_run_here_goes_on_for_the_job_that_another_server_has_made_of_its_call(
    place: Place, make_place: Callable[[], Place], open_records: Open, ends_as: str
) -> None:
    async def scene() -> None:
        place.runner.go.clear()
        elsewhere = make_place()
        here, there = (jobs_of(of, open_records()) for of in (place, elsewhere))
        coming = await asking(place)
        job = await there.attended(place.call(), 60)
        await until(there, job, "running")
        for waiting in (coming, asyncio.ensure_future(place.ask())):
            assert (await here.attended(place.call(), 60, waiting)).id == job.id
        # Time enough to end it, if nobody kept it.
        await asyncio.sleep(0.05)
        if ends_as == "done":
            place.runner.go.set()
        else:
            await there.cancel(job)
        await until(here, job, ends_as)
        await place.landed()
        for jobs in (here, there):
            await jobs.close()
        assert elsewhere.runner.runs == 0

    asyncio.run(asyncio.wait_for(scene(), 60))
    assert (place.runner.runs, place.runner.cancelled) == (1, int(ends_as == "cancelled"))


@pytest.mark.parametrize("made", ["by it", "before"])
def test_a_request_s_run_makes_way_for_a_job_elsewhere_whoever_has_made_that(
    place: Place, open_records: Open, made: str
) -> None:
    async def scene() -> None:
        async def send(_: Job) -> None: ...

        here, other = (
            Jobs(open_records(), place.engine, Settings(workers=2), send) for _ in range(2)
        )
        if made == "before":
            await other.attended(place.call())
        place.runner.go.clear()
        coming = await asking(place)
        await here.attended(place.call(), 60, coming)
        assert place.runner.cancelled == 1
        await asyncio.gather(coming, return_exceptions=True)
        assert coming.cancelled()
        for jobs in (here, other):
            await jobs.close()

    asyncio.run(asyncio.wait_for(scene(), 60))
