"""Requests that have waited long enough, beside runs that end when a test says so."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.places import started

from webfoot import engine as engines
from webfoot.access.opening import open_access
from webfoot.assembly import Parts
from webfoot.errors import ServerBusy
from webfoot.jobs.folder import FolderRecords
from webfoot.jobs.running import Jobs
from webfoot.server.application import Application

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.places import Place

    from webfoot.jobs import Job

    Make = Callable[[FolderRecords, float], Application]

HOLD_S = 0.2
LENIENT = """
    @udf(cache=0, stale="1h")
    def lenient(n: int = 1) -> list[dict[str, int]]:
        return []
"""


class SlowRecords(FolderRecords):
    """Takes longer to keep a job than a run goes on that nobody waits for, which is no time."""

    async def add(self, job: Job, once: str | None) -> Job:
        await _pause()
        added = await super().add(job, once)
        await _pause()
        return added

    async def keep(self, job: Job) -> None:
        await _pause()
        await super().keep(job)


async def _pause() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def place(
    tmp_path: Path, write_files: Callable[..., Path], make_place: Callable[[], Place]
) -> Place:
    write_files(tmp_path / "timed", lenient=LENIENT)
    return make_place()


@pytest.fixture
def application(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a server that holds requests for so long; its runs end with who waits for them."""
    monkeypatch.setattr(engines, "LINGER_S", 0)

    def make(records: FolderRecords, hold_s: float) -> Application:
        settings = replace(place.settings, hold=hold_s)
        parts = Parts(place.engine, place.store, records, tmp_path / "records", settings)
        jobs = Jobs(records, place.engine, settings)
        return Application(parts, jobs, open_access(), resume_jobs=False)

    return make


def talk(app: Application, scene: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Have a conversation with a server."""

    async def whole() -> None:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1", max_redirects=1000
            ) as http:
                await scene(http)

    asyncio.run(asyncio.wait_for(whole(), 60))


@pytest.mark.parametrize("name", ["hourly", "live"])
def test_a_request_and_the_job_that_it_becomes_are_one_run_however_long_that_takes_to_make(
    place: Place, tmp_path: Path, application: Make, name: str
) -> None:
    async def scene(http: httpx.AsyncClient) -> None:
        place.runner.go.clear()
        sent_on = await http.get(f"/udfs/{name}.parquet")
        assert sent_on.status_code == 303
        again = await http.get(sent_on.headers["location"])
        assert again.status_code == 303
        place.runner.go.set()
        assert (await http.get(again.headers["location"], follow_redirects=True)).text == "run 1"

    talk(application(SlowRecords(tmp_path / "jobs"), HOLD_S), scene)
    assert (place.runner.runs, place.runner.cancelled) == (1, 0)


def test_a_run_ends_with_the_request_that_could_not_become_a_job(
    place: Place, tmp_path: Path, application: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def add(*_: object) -> Job:
        await started(place.runner)
        raise ServerBusy("the bucket is away")

    async def scene(http: httpx.AsyncClient) -> None:
        place.runner.go.clear()
        refused = await http.get("/udfs/hourly.parquet")
        assert (refused.status_code, refused.json()["detail"]) == (503, "the bucket is away")
        await place.landed()

    records = FolderRecords(tmp_path / "jobs")
    monkeypatch.setattr(records, "add", add)
    talk(application(records, HOLD_S), scene)
    assert (place.runner.runs, place.runner.cancelled) == (1, 1)


@pytest.mark.parametrize("path", ["hourly.parquet", "lenient.csv?_for=sheets"])
def test_a_run_ends_with_the_client_that_waits_for_it(
    place: Place, tmp_path: Path, application: Make, path: str
) -> None:
    app = application(FolderRecords(tmp_path / "jobs"), 60)
    name, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/udfs/{name}",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "query_string": query.encode(),
        "headers": [],
    }

    async def leave() -> dict[str, Any]:
        await started(place.runner)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(f"nobody is left to read {message}")

    async def scene(_: httpx.AsyncClient) -> None:
        place.runner.go.clear()
        await app(scope, leave, send)
        await place.landed()

    talk(app, scene)
    assert (place.runner.runs, place.runner.cancelled) == (1, 1)


def test_an_old_result_stands_in_also_after_the_server_stood_still_for_as_long_as_it_holds(
    place: Place, tmp_path: Path, application: Make
) -> None:
    path = "/udfs/lenient.csv?_for=sheets"
    run = place.runner.run

    async def stand_still(*given: Any) -> Any:
        time.sleep(2 * HOLD_S)  # noqa: ASYNC251  # as a machine does that has too much to do
        return await run(*given)

    async def scene(http: httpx.AsyncClient) -> None:
        while "x-webfoot-code" in (first := await http.get(path)).headers:
            await place.landed()
        await place.landed()
        place.runner.go.clear()
        place.runner.run = stand_still  # type: ignore[method-assign, assignment]  # now
        second = await http.get(path)
        assert "x-webfoot-stale" in second.headers
        assert second.text == first.text
        place.runner.go.set()
        await place.landed()

    talk(application(FolderRecords(tmp_path / "jobs"), HOLD_S), scene)
    assert place.runner.cancelled == 0
