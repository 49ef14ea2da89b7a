"""When runs happen. The runner is a fake in most tests; the store is a real folder."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.s3_server import KEYS, moto_server

from webfoot import engine as engines
from webfoot.access.principal import ANONYMOUS, EVERYBODY
from webfoot.errors import (
    Error,
    InvalidParameters,
    QueryFailed,
    RunCancelled,
    ServerBusy,
    StorageFull,
    UdfFailed,
)
from webfoot.lineage import Tally
from webfoot.results import Reach, Usage
from webfoot.store.local import _PUBLISH, LocalStore
from webfoot.views import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.places import FakeRunner, Place
    from tests.s3_server import S3Server
    from tests.test_store import AnyStore

    from webfoot.results import Draft
    from webfoot.runners import Calls
    from webfoot.runners.jobs import Job


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], AnyStore]:
    """Opens one store, of each kind, as several servers may."""
    if request.param == "folder":
        return lambda: LocalStore(tmp_path / "store", 10**9)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server: S3Server = request.getfixturevalue("s3_server")
    bucket = server.make_place()
    return lambda: server.open_store(bucket)


# What looks behind the store.
IN_A_FOLDER = pytest.mark.parametrize("open_store", ["folder"], indirect=True)


async def started(runner: FakeRunner, count: int = 1) -> None:
    while runner.runs < count:  # noqa: ASYNC110  # the runner has no event for it
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("name", ["hourly", "live", "eternal"])
def test_fifty_askers_at_once_are_one_run(place: Place, name: str) -> None:
    async def crowd() -> set[str]:
        answers = await asyncio.gather(*(place.ask(name) for _ in range(50)))
        assert all(answer.ran for answer in answers)
        return {answer.result.run for answer in answers}

    assert len(asyncio.run(crowd())) == 1
    assert place.runner.runs == 1
    assert place.engine._flights == {}


def test_other_arguments_are_another_run(place: Place) -> None:
    async def ask() -> None:
        await asyncio.gather(*(place.ask(n=n % 3) for n in range(30)))

    asyncio.run(ask())
    assert place.runner.runs == 3


@pytest.mark.parametrize("name", ["hourly", "live"])
def test_two_engines_that_share_a_store_make_one_run(
    make_place: Callable[[], Place], name: str
) -> None:
    async def crowd() -> tuple[int, int]:
        one, two = make_place(), make_place()
        one.runner.go.clear()
        two.runner.go.clear()
        asking = [place.ask(name) for place in (one, two) for _ in range(25)]
        together = asyncio.gather(*asking)
        await asyncio.sleep(0.3)
        one.runner.go.set()
        two.runner.go.set()
        answers = await together
        return len({answer.result.run for answer in answers}), one.runner.runs + two.runner.runs

    assert asyncio.run(crowd()) == (1, 1)


def test_two_server_processes_that_share_a_store_make_one_run(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    text = f"""
        import time
        @udf(cache=0)
        def counted(n: int = 1) -> list[dict[str, int]]:
            with open({str(tmp_path / "count")!r}, "a") as file:
                file.write("x")
            time.sleep(1.5)
            return [{{"n": n}}]
    """
    folder = write_files(tmp_path / "shared", counted=text)
    script = f"""
import asyncio, sys, time
from pathlib import Path
from webfoot.access.principal import EVERYBODY
from webfoot.assembly import assemble
from webfoot.settings import Settings
async def main():
    folder, store = Path({str(folder)!r}), Path({str(tmp_path / "store")!r})
    parts = assemble(Settings(folder=folder, store=store))
    await parts.start()
    udf = parts.engine.registry.find("counted")
    call = parts.engine.call(udf, [], EVERYBODY)
    print("ready", flush=True)
    sys.stdin.readline()
    answers = await asyncio.gather(*(parts.engine.result(udf, call) for _ in range(10)))
    print(*{{answer.result.run for answer in answers}})
    await parts.close()
asyncio.run(main())
"""
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    runs = set()
    for server in servers:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
    for server in servers:
        assert server.stdin is not None
        server.stdin.write("\n")
        server.stdin.flush()
    for server in servers:
        runs.add(server.communicate(timeout=50)[0])
        assert server.returncode == 0
    assert len(runs) == 1
    assert (tmp_path / "count").read_text() == "x"


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


def test_an_expired_result_is_run_again_and_executions_are_counted(place: Place) -> None:
    async def ask() -> list[int]:
        first = await place.ask("brief")
        again = await place.ask("brief")
        await asyncio.sleep(0.25)
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


def test_range_readers_keep_their_bytes_across_expiry(place: Place) -> None:
    async def ask() -> list[bytes]:
        first = await place.read("brief", ranged=True)
        await asyncio.sleep(0.25)
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
    monkeypatch.setattr(engines, "RANGE_PAUSE_S", 0.3)

    async def ask() -> list[bytes]:
        first = await place.read("live", ranged=True)
        await asyncio.sleep(0.4)
        return [first, await place.read("live", ranged=True)]

    assert asyncio.run(ask()) == [b"run 1", b"run 2"]


def test_the_hold_ends_at_the_latest(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "RANGE_READ_S", 0.3)

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
    monkeypatch.setattr(engines, "RANGE_READ_S", 0.3)

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
    monkeypatch.setattr(engines, "FAILURE_S", 0.3)
    place.runner.error = UdfFailed("no data today")

    async def ask() -> None:
        for _ in range(4):
            with pytest.raises(UdfFailed, match="no data today") as caught:
                await place.ask("live")
            assert caught.value.udf == "live"
            assert caught.value.run
        assert place.runner.runs == 1
        await asyncio.sleep(0.35)
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
        past = time.time() - 3600
        monkeypatch.setattr(time, "time", lambda: past)
        place.runner.error = None
        await place.ask()

    asyncio.run(ask())


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


def test_a_full_disk_makes_the_store_evict(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    relieved = []

    async def relieve() -> None:
        relieved.append(True)

    monkeypatch.setattr(place.store, "relieve", relieve)
    place.runner.error = StorageFull("full")
    with pytest.raises(StorageFull):
        asyncio.run(place.ask())
    assert relieved == [True]


def test_a_bug_fails_its_askers_and_nothing_else(place: Place) -> None:
    async def ask() -> None:
        place.runner.error = RuntimeError("a bug")
        answers = await asyncio.gather(place.ask(), place.ask(), return_exceptions=True)
        assert [type(answer) for answer in answers] == [RuntimeError] * 2
        place.runner.error = None
        await place.ask()
        assert place.engine._flights == {}

    asyncio.run(ask())


def test_rerun_runs_a_fresh_call_again(place: Place) -> None:
    async def ask() -> list[int]:
        await place.ask()
        rerun = await place.ask(rerun=True)
        return [rerun.result.executions, (await place.ask()).result.executions]

    assert asyncio.run(ask()) == [2, 2]


def test_reruns_at_once_are_one_run(place: Place) -> None:
    async def ask() -> None:
        await place.ask()
        await asyncio.gather(*(place.ask(rerun=True) for _ in range(10)))

    asyncio.run(ask())
    assert place.runner.runs == 2


def test_an_asker_that_leaves_does_not_stop_the_others(place: Place) -> None:
    async def ask() -> None:
        place.runner.go.clear()
        leaving, staying = (asyncio.create_task(place.ask()) for _ in range(2))
        await started(place.runner)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        place.runner.go.set()
        assert (await staying).ran

    asyncio.run(ask())
    assert place.runner.cancelled == 0


def test_a_run_nobody_waits_for_is_cancelled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LINGER_S", 0.1)

    async def ask() -> None:
        place.runner.go.clear()
        asking = asyncio.create_task(place.ask())
        await started(place.runner)
        asking.cancel()
        while place.engine._flights:  # noqa: ASYNC110  # the engine has no event for it
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(ask(), 20))
    assert place.runner.cancelled == 1


def test_a_retry_joins_the_run_that_its_first_try_began(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LINGER_S", 0.4)

    async def ask() -> None:
        place.runner.go.clear()
        for _ in range(4):  # Each leaves before the run is given up; together they wait longer.
            asking = asyncio.create_task(place.ask("live"))
            await asyncio.sleep(0.2)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        last = asyncio.create_task(place.ask("live"))
        await asyncio.sleep(0.5)
        place.runner.go.set()
        await last

    asyncio.run(ask())
    assert place.runner.runs == 1


def test_who_asks_while_a_run_is_being_cancelled_gets_a_new_one(place: Place) -> None:
    async def ask() -> None:
        place.runner.go.clear()
        asking = asyncio.create_task(place.ask())
        await started(place.runner)
        (flight,) = place.engine._flights.values()
        asking.cancel()
        flight.task.cancel()
        place.runner.go.set()
        assert (await place.ask()).ran

    asyncio.run(ask())
    assert (place.runner.runs, place.runner.cancelled) == (2, 1)


def test_an_abandoned_result_is_handed_to_the_next_asker_once(place: Place) -> None:
    async def ask() -> list[int]:
        place.runner.go.clear()
        asking = asyncio.create_task(place.ask("live"))
        await started(place.runner)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        place.runner.go.set()
        while place.engine._flights:  # noqa: ASYNC110  # the engine has no event for it
            await asyncio.sleep(0.001)
        return [(await place.ask("live")).result.executions for _ in range(2)]

    assert asyncio.run(ask()) == [1, 2]


def test_an_abandoned_result_does_not_stay_for_ever(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "UNCLAIMED_S", 0.1)

    async def ask() -> int:
        place.runner.go.clear()
        asking = asyncio.create_task(place.ask("live"))
        await started(place.runner)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        place.runner.go.set()
        while place.engine._flights:  # noqa: ASYNC110  # the engine has no event for it
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)
        executions = (await place.ask("live")).result.executions
        assert place.engine._unclaimed == {}
        return executions

    assert asyncio.run(ask()) == 2


def test_closing_cancels_runs_and_tells_their_askers(place: Place) -> None:
    async def ask() -> None:
        place.runner.go.clear()
        asking = asyncio.create_task(place.ask())
        await started(place.runner)
        await place.engine.close()
        with pytest.raises(RunCancelled):
            await asking

    asyncio.run(ask())
    assert place.runner.cancelled == 1


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
        subprocess.run(["rm", "-r", tmp_path / "store"], check=True)  # noqa: ASYNC221
        assert (await place.ask()).ran
        assert not (await place.ask()).ran

    asyncio.run(ask())


@IN_A_FOLDER
def test_a_store_that_cannot_be_written_fails_the_call_and_says_so(
    place: Place, tmp_path: Path
) -> None:
    async def ask() -> None:
        objects = tmp_path / "store/objects"
        os.rename(objects, tmp_path / "aside")  # noqa: PTH104
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


# Queries


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


def test_sql_has_a_record_that_says_what_was_asked(place: Place) -> None:
    engine = place.engine
    query = engine.query("SELECT ?", "[1]", 5, Reach(), ANONYMOUS)
    run = asyncio.run(engine.answer(query)).result.run
    record = engine.runs.find(run)
    assert record is not None
    assert (record.udf, record.arguments) == ("", '{"sql": "SELECT ?", "parameters": [1]}')


def test_a_query_that_fails_names_no_udf(place: Place) -> None:
    place.runner.error = QueryFailed("there is no table a")
    with pytest.raises(QueryFailed) as caught:
        asyncio.run(
            place.engine.answer(place.engine.query("FROM a", "[]", None, Reach(), ANONYMOUS))
        )
    assert caught.value.udf is None
    assert caught.value.run
