"""Worker processes: which are idle, which hold what code, when they are replaced.

A worker holds one snapshot of the code; when the code changes, new workers take over and the old
ones finish what they began.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from webfoot.errors import Error, RunCancelled
from webfoot.runners.jobs import ViewJob
from webfoot.runners.slots import Slot
from webfoot.runners.worker_process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from webfoot.registry import Registry
    from webfoot.runners.jobs import Job
    from webfoot.runners.slots import Slots

# A worker is replaced after this many runs: libraries leak.
_RUNS_A_WORKER = 10_000
# A worker that still holds this much after a run is replaced too.
_KEPT_BYTES = 500_000_000
# Idle workers beyond those that can run at once and one more: others waited for calls they made.
_SPARE = 1


class Pool:
    """The workers of this process.

    Args:
        workers: How many run at once, each alone.
        temp: Where they may put temporary files, each in a folder of its own.
        slots: The places of those runs.

    Attributes:
        alive: All of them.
        replaced: How many could have been of use yet, had their runs been well.
    """

    def __init__(self, workers: int, temp: Path, slots: Slots) -> None:
        self.alive: set[WorkerProcess] = set()
        self.replaced = 0
        self._workers = workers
        self._temp = temp
        self._slots = slots
        self._idle: list[WorkerProcess] = []
        # Those that run nothing alone.
        self._apart: set[WorkerProcess] = set()
        self._registry: Registry | None = None
        self._loading: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def use(self, registry: Registry) -> None:
        """Make workers ready for `registry`, in the background."""
        self._registry = registry
        for worker in [worker for worker in self._idle if worker.digest is not None]:
            if worker.digest != registry.code.digest:
                self._idle.remove(worker)
                self.retire(worker)
        self._fill()
        for _ in range(self._workers):
            _keep(self._loading, self._load_one(registry))

    async def close(self) -> None:
        """Kill every worker."""
        self._closed = True
        for task in self._loading:
            task.cancel()
        for worker in list(self.alive):
            self.retire(worker)
        await asyncio.gather(*self._loading, *self._ending, return_exceptions=True)

    async def take(self, job: Job, slot: Slot) -> WorkerProcess:
        """An idle worker that can run `job`.

        Raises:
            RunCancelled: If the pool is closed.
            Error: If the UDFs cannot be imported.
        """
        if self._closed:
            raise RunCancelled("the server is stopping; try again in a moment")
        if isinstance(job, ViewJob):
            return self._pick(None)
        worker = self._pick(job.code.digest)
        if worker.digest is None:
            try:
                await worker.load(job.code, slot)
            except BaseException:
                self.replace(worker)
                raise
        return worker

    def set_apart(self, worker: WorkerProcess) -> None:
        """Count a worker that was taken as one that runs nothing alone any more."""
        self._apart.add(worker)

    def give_back(self, worker: WorkerProcess, answer: dict[str, Any] | None, target: Path) -> None:
        """Let a worker that has nothing to do rest, unless it is worn out.

        Args:
            worker: The worker.
            answer: What it said of its run; None if it did not come to that.
            target: What the run wrote.
        """
        worker.runs += 1
        if answer is None or is_worn(worker, answer):
            self.replace(worker, target if answer is None else None)
            self._fill()
        else:
            self._rest(worker)

    def is_outdated(self, worker: WorkerProcess) -> bool:
        """Whether a worker's code is no longer the one that is used, or none will be."""
        current = self._registry.code.digest if self._registry else worker.digest
        return self._closed or worker.digest not in (None, current)

    def replace(self, worker: WorkerProcess, target: Path | None = None) -> None:
        """End a worker that could be of use yet, had its runs been well; see `retire`."""
        self.replaced += 1
        self.retire(worker, target)

    def retire(self, worker: WorkerProcess, target: Path | None = None) -> None:
        """End a worker, and remove what it leaves; with `target`, what its run wrote, too."""
        self.alive.discard(worker)
        self._apart.discard(worker)
        worker.kill()
        _keep(self._ending, asyncio.to_thread(worker.clear_up, target))

    def _pick(self, digest: str | None) -> WorkerProcess:
        """An idle worker that has the code (a view needs none), or an empty one, or a new one."""
        for worker in [worker for worker in self._idle if worker.process.poll() is not None]:
            self._idle.remove(worker)  # It died in its sleep: the machine was out of memory, say.
            self.replace(worker)
        able = [worker for worker in self._idle if digest in (None, worker.digest)]
        able = able or [worker for worker in self._idle if worker.digest is None]
        if not able:
            return self._start()
        self._idle.remove(able[0])
        return able[0]

    def _rest(self, worker: WorkerProcess) -> None:
        """Let a worker wait for its next job, if there may be one for it."""
        if self.is_outdated(worker) or len(self._idle) >= self._workers + _SPARE:
            self.retire(worker)
            self._fill()
        else:
            self._idle.append(worker)

    def _start(self) -> WorkerProcess:
        worker = WorkerProcess.start(self._temp)
        self.alive.add(worker)
        return worker

    def _fill(self) -> None:
        """Keep a worker more than can run, so that the next to be needed has already started."""
        serving = self._registry is not None and not self._closed
        while serving and len(self.alive) - len(self._apart) <= self._workers:
            self._idle.append(self._start())

    async def _load_one(self, registry: Registry) -> None:
        """Load the code into one empty worker, unless none is idle but the last."""
        empty = [worker for worker in self._idle if worker.digest is None]
        if len(empty) < 2:  # noqa: PLR2004  # one is kept empty, for the next change of the code
            return
        # The newest: the oldest has long started, and waits for the first call on the new code.
        worker = empty[-1]
        self._idle.remove(worker)
        try:
            await worker.load(registry.code, Slot(self._slots))
        except Error:
            self.retire(worker)
        else:
            self._rest(worker)


def is_worn(worker: WorkerProcess, answer: dict[str, Any]) -> bool:
    """Whether a worker had better run nothing more, after what it said of its last run."""
    return bool(
        answer["spoilt"] or answer["used_bytes"] > _KEPT_BYTES or worker.runs >= _RUNS_A_WORKER
    )


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    """Start a task, and hold it until it ends: the loop itself forgets it."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
