"""The parts of one Webfoot, put together from its settings: for the server and the command line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot import registry, sources
from webfoot.engine import Engine
from webfoot.probe import probe
from webfoot.runners.slots import Queue
from webfoot.runs import Runs
from webfoot.settings import S3Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from webfoot.jobs.records import JobRecords
    from webfoot.registry import Registry
    from webfoot.runners import Runner
    from webfoot.settings import Settings
    from webfoot.sources import Code
    from webfoot.store import Store


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """An engine and the store that it fills.

    Args:
        engine: Answers calls.
        store: Holds the bytes of the answers.
        jobs: Where jobs are kept.
        records: The folder of what is told of requests and runs.
        settings: What both were made from.
    """

    engine: Engine
    store: Store
    jobs: JobRecords
    records: Path
    settings: Settings

    async def start(self) -> None:
        """Start the workers, so that the first call finds them ready."""
        await self.engine.use(self.engine.registry)

    async def follow_changes(self) -> None:
        """Make every saved file live, for ever."""
        from webfoot.reload import changes  # noqa: PLC0415  # a library that only this needs

        async for _ in changes(self.settings.folder.absolute()):
            with contextlib.suppress(OSError):  # The folder is away for a moment, say.
                code = await asyncio.to_thread(sources.read, self.engine.registry.code.root)
                if code.files != self.engine.registry.code.files:
                    before = self.engine.registry.code
                    loaded = await asyncio.to_thread(_load, code, self.settings, before)
                    await self.engine.use(loaded)
                    _tell(loaded)

    async def close(self) -> None:
        """Stop what runs and clear up."""
        await self.engine.close()
        self.engine.runs.close()
        self.store.close()


def make_runner(settings: Settings, temp: Path) -> Runner:
    """The runner that the settings name.

    Args:
        settings: How many runs at once, and more.
        temp: Where runs may put temporary files.
    """
    queue = Queue(settings.queue, settings.queue_wait)
    # One of the two is needed, and each takes long to import for a start on Lambda.
    if settings.runner == "inline":
        from webfoot.runners.inline import InlineRunner  # noqa: PLC0415

        return InlineRunner(settings.workers, queue, temp)
    from webfoot.runners.processes import ProcessRunner  # noqa: PLC0415

    return ProcessRunner(settings.workers, queue, temp)


def assemble(settings: Settings, runner: Callable[[Settings, Path], Runner] = make_runner) -> Parts:
    """Load the folder and make its engine.

    Args:
        settings: How it behaves.
        runner: Makes the runner; see `make_runner`.

    Raises:
        OSError: If the folder cannot be read.
        SettingsError: If the store cannot be used.
    """
    loaded = load_folder(settings)
    store, records, jobs = _open_store(settings)
    # In the store's staging area, whatever is left in it goes with this server.
    made = runner(settings, store.stage("workers", "temp"))
    engine = Engine(loaded, store, made, Runs(records / "runs"), settings)
    return Parts(engine, store, jobs, records, settings)


def load_folder(settings: Settings) -> Registry:
    """The UDFs of the folder as it is now."""
    return _load(sources.read(settings.folder), settings)


def _open_store(settings: Settings) -> tuple[Store, Path, JobRecords]:
    """The store that the settings name, a folder for records, and where jobs are."""
    # As above: one of the two.
    if isinstance(settings.store, S3Place):
        from webfoot.jobs.bucket import BucketRecords  # noqa: PLC0415
        from webfoot.store.bucket import Bucket  # noqa: PLC0415
        from webfoot.store.s3 import S3Store  # noqa: PLC0415

        bucket = Bucket(settings.store, settings.s3)
        shared = S3Store(bucket, settings.store_size)
        return shared, shared.stage("server", "records"), BucketRecords(bucket)
    from webfoot.jobs.folder import FolderRecords  # noqa: PLC0415
    from webfoot.store.local import LocalStore  # noqa: PLC0415

    folder = settings.store.absolute()
    return LocalStore(folder, settings.store_size), folder, FolderRecords(folder / "jobs")


def _load(code: Code, settings: Settings, before: Code | None = None) -> Registry:
    # Inline, nothing is isolated anyway, and on Lambda a second process would double the start.
    probed = code if settings.runner == "inline" else probe(code, before=before)
    # Standard output may be a table that somebody pipes on: what files print is not part of it.
    with contextlib.redirect_stdout(sys.stderr):
        return registry.load(probed)


def log_problems(loaded: Registry) -> None:
    """Say in the log which files are not served, and why."""
    for problem in loaded.problems:
        _log.error("%s: %s\n%s", problem.file, problem.message, problem.traceback)


def _tell(loaded: Registry) -> None:
    """Tell whoever has just saved a file what came of it."""
    log_problems(loaded)
    _log.info("saved and live: %s", ", ".join(loaded) or "no UDF")
