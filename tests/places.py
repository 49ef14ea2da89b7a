"""An engine whose runs end when a test says so."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from webfoot import registry, sources
from webfoot.access.principal import ANONYMOUS
from webfoot.engine import Engine
from webfoot.results import Column, Draft, Usage
from webfoot.runners import Load
from webfoot.runners.jobs import ViewJob
from webfoot.runs import Runs
from webfoot.settings import Settings
from webfoot.views import View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from webfoot.definition import Udf
    from webfoot.engine import Answer
    from webfoot.registry import Registry
    from webfoot.results import Call, Result
    from webfoot.runners import Calls
    from webfoot.runners.jobs import Job

# For tests that look behind the store, where it may be of each kind.
IN_A_FOLDER = pytest.mark.parametrize("open_store", ["folder"], indirect=True)
UDFS = """
    @udf(cache="1h")
    def hourly(n: int = 1) -> list[dict[str, int]]:
        return []

    @udf(cache=0)
    def live(n: int = 1) -> list[dict[str, int]]:
        return []

    @udf(cache=100)
    def brief(n: int = 1) -> list[dict[str, int]]:
        return []

    @udf(cache="forever")
    def eternal(n: int = 1) -> list[dict[str, int]]:
        return []
"""


@dataclass
class FakeRunner:
    """Writes a text with the number of the run; `go` holds runs back, `error` fails them."""

    calls_at_once: int = 4
    runs: int = 0
    cancelled: int = 0
    error: BaseException | None = None
    text: str = "run {}"
    # What another process has written, if this one is not to run.
    draft: Draft | None = None
    usage: Usage = Usage(0.0301, 0.01, 1 << 30)  # noqa: RUF009  # it is frozen, too
    go: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.go.set()

    async def run(self, job: Job, target: Path, log: Path, calls: Calls) -> Draft:  # noqa: ARG002  # it is silent
        if self.draft is not None:
            return self.draft
        self.runs += 1
        number = self.runs
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        data = self.text.format(number).encode()
        if isinstance(job, ViewJob):
            data = b"view of " + job.source.read_bytes()
        target.write_bytes(data)  # noqa: ASYNC240  # a few bytes
        columns = (Column("n", "int64"),)
        return Draft(hashlib.sha256(data).hexdigest(), len(data), number, columns, self.usage)

    def load(self) -> Load:
        return Load()

    async def use(self, registry: Registry) -> None: ...

    async def close(self) -> None: ...


async def started(runner: FakeRunner, count: int = 1) -> None:
    while runner.runs < count:  # noqa: ASYNC110  # the runner has no event for it
        await asyncio.sleep(0.001)


@dataclass
class Place:
    """An engine and what it is made of."""

    engine: Engine
    runner: FakeRunner
    store: Any
    settings: Settings

    @property
    def flights(self) -> Mapping[str, Any]:
        """The runs that are waited for, by what tells them apart."""
        return self.engine._flights._flights

    async def landed(self) -> None:
        """Wait until nothing is waited for."""
        while self.flights:  # noqa: ASYNC110  # the engine has no event for it
            await asyncio.sleep(0.001)

    async def abandon(self, name: str) -> None:
        """Ask, and be gone when the run, which was held back, ends."""
        self.runner.go.clear()
        asking = asyncio.create_task(self.ask(name))
        await started(self.runner)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        self.runner.go.set()
        await self.landed()

    def run_with(self, runner: FakeRunner) -> None:
        """Have what is asked from now on run there."""
        loaded, runs = self.engine.registry, self.engine.runs
        self.engine = Engine(loaded, self.store, runner, runs, self.settings)
        self.runner = runner

    def udf(self, name: str) -> Udf:
        return self.engine.registry.find(name)

    def call(self, name: str = "hourly", n: int = 1) -> Call:
        return self.engine.call(self.udf(name), [("n", str(n))], ANONYMOUS)

    async def ask(
        self, name: str = "hourly", n: int = 1, *, ranged: bool = False, rerun: bool = False
    ) -> Answer:
        udf = self.udf(name)
        return await self.engine.result(udf, self.call(name, n), ranged=ranged, rerun=rerun)

    async def read(self, name: str = "hourly", *, ranged: bool = False) -> bytes:
        """The bytes that a request is answered with, as the server would."""
        answer = await self.ask(name, ranged=ranged)
        blob = await self.store.open(answer.result)
        assert blob is not None
        data: bytes = await blob.read(0, blob.size)
        blob.close()
        return data

    async def head(self, name: str = "hourly") -> Result | None:
        return await self.engine.peek(self.call(name), View("parquet"))


def places_in(
    parent: Path, write_files: Callable[..., Path], open_store: Callable[[], Any]
) -> Callable[[], Place]:
    """Makes places that share one store, as several servers may."""
    folder = write_files(parent / "timed", timed=UDFS)

    def make() -> Place:
        settings = Settings(folder=folder, store=parent / "store")
        store = open_store()
        runner = FakeRunner()
        loaded = registry.load(sources.read(folder))
        runs = Runs(parent / "store/runs")
        return Place(Engine(loaded, store, runner, runs, settings), runner, store, settings)

    return make
