"""One run per key, however many ask. The runner is a fake in most tests; the store is real."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.places import started

from webfoot import engine as engines
from webfoot.errors import RunCancelled, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.places import Place


async def joined(place: Place, count: int) -> None:
    """Wait until so many wait for the one run that there is."""
    patient_until = time.monotonic() + 30
    while [flight.waiting for flight in place.flights.values()] != [count]:
        assert time.monotonic() < patient_until, "they never came"
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("name", ["hourly", "live", "eternal"])
def test_fifty_askers_at_once_are_one_run(place: Place, name: str) -> None:
    async def crowd() -> set[str]:
        place.runner.go.clear()
        together = asyncio.gather(*(place.ask(name) for _ in range(50)))
        await joined(place, 50)
        place.runner.go.set()
        answers = await together
        assert all(answer.ran for answer in answers)
        return {answer.result.run for answer in answers}

    assert len(asyncio.run(crowd())) == 1
    assert place.runner.runs == 1
    assert place.flights == {}


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
    go = tmp_path / "go"
    text = f"""
        import os, time
        @udf(cache=0)
        def counted(n: int = 1) -> list[dict[str, int]]:
            with open({str(tmp_path / "count")!r}, "a") as file:
                file.write("x")
            while not os.path.exists({str(go)!r}):
                time.sleep(0.01)
            return [{{"n": n}}]
    """
    folder = write_files(tmp_path / "shared", counted=text)
    script = f"""
import asyncio
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
    asking = [asyncio.create_task(parts.engine.result(udf, call)) for _ in range(10)]
    await asyncio.sleep(0)
    print("asked", flush=True)
    answers = await asyncio.gather(*asking)
    print(*{{answer.result.run for answer in answers}})
    await parts.close()
asyncio.run(main())
"""
    command = [sys.executable, "-c", script]
    servers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    runs = set()
    try:
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline() == "asked\n"
        go.touch()
        for server in servers:
            runs.add(server.communicate(timeout=50)[0])
            assert server.returncode == 0
    finally:
        for server in servers:
            server.kill()
            server.communicate()
    assert len(runs) == 1
    assert (tmp_path / "count").read_text() == "x"


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
        assert place.flights == {}

    asyncio.run(ask())


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
        await place.landed()

    asyncio.run(asyncio.wait_for(ask(), 20))
    assert place.runner.cancelled == 1


def test_a_retry_joins_the_run_that_its_first_try_began(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LINGER_S", 60)

    async def ask() -> None:
        place.runner.go.clear()
        ends: list[asyncio.TimerHandle] = []
        for _ in range(4):  # Each leaves before the run is given up.
            asking = asyncio.create_task(place.ask("live"))
            await joined(place, 1)
            assert all(end.cancelled() for end in ends)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            (flight,) = place.flights.values()
            assert not flight._ending.cancelled()
            ends.append(flight._ending)
        last = asyncio.create_task(place.ask("live"))
        await joined(place, 1)
        assert all(end.cancelled() for end in ends)
        place.runner.go.set()
        await last

    asyncio.run(ask())
    assert place.runner.runs == 1


def test_who_asks_while_a_run_is_being_cancelled_gets_a_new_one(place: Place) -> None:
    async def ask() -> None:
        place.runner.go.clear()
        asking = asyncio.create_task(place.ask())
        await started(place.runner)
        (flight,) = place.flights.values()
        asking.cancel()
        flight.task.cancel()
        place.runner.go.set()
        assert (await place.ask()).ran

    asyncio.run(ask())
    assert (place.runner.runs, place.runner.cancelled) == (2, 1)


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
