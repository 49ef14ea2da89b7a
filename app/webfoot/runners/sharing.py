"""Workers that run many jobs at once, of UDFs that only wait: none is for one run alone again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webfoot.runners.jobs import SHARED_JOBS
from webfoot.runners.pool import is_worn

if TYPE_CHECKING:
    from pathlib import Path

    from webfoot.runners.jobs import UdfJob
    from webfoot.runners.pool import Pool
    from webfoot.runners.slots import Slot
    from webfoot.runners.worker_process import WorkerProcess


@dataclass(eq=False)
class Shared:
    """A worker that is shared.

    Args:
        worker: The worker.
        jobs: How many it runs.
        most_jobs: The most that it ran at once since it ran none.
        worn: Whether no more may begin there.
    """

    worker: WorkerProcess
    jobs: int = 0
    most_jobs: int = 0
    worn: bool = False


class SharedWorkers:
    """Finds jobs that only wait a worker, beside others of their kind.

    What runs that share a process have changed in it, one that has a process for itself must not
    meet: these workers stay for others that wait.

    Args:
        pool: Where they come from.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._shared: list[Shared] = []
        # One at a time finds itself a place: else each of many would start a worker of its own.
        self._sharing = asyncio.Lock()

    def retire_outdated(self) -> None:
        """End those that run nothing, and whose code is no longer used."""
        for shared in [shared for shared in self._shared if not shared.jobs]:
            if self._pool.is_outdated(shared.worker):
                self._shared.remove(shared)
                self._pool.retire(shared.worker)

    async def take(self, job: UdfJob, slot: Slot) -> Shared:
        """A worker that runs such jobs already and has room, or an idle one."""
        async with self._sharing:
            for idle in [shared for shared in self._shared if not shared.jobs]:
                if idle.worker.process.poll() is not None:  # It died in its sleep.
                    self._shared.remove(idle)
                    self._pool.replace(idle.worker)
            able = (
                shared
                for shared in self._shared
                if shared.worker.digest == job.code.digest and shared.jobs < SHARED_JOBS
                if not shared.worn
            )
            shared = next(able, None)
            if shared is None:
                shared = Shared(await self._pool.take(job, slot))
                self._pool.set_apart(shared.worker)
                self._shared.append(shared)
            shared.jobs += 1
            shared.most_jobs = max(shared.jobs, shared.most_jobs)
            return shared

    def leave(self, shared: Shared, answer: dict[str, Any] | None, target: Path) -> None:
        """Count a run as ended; see `Pool.give_back`."""
        worker = shared.worker
        shared.jobs -= 1
        worker.runs += 1
        # A run that was given up still has its thread there: others end, and no more begin.
        shared.worn = shared.worn or answer is None or is_worn(worker, answer)
        if shared.jobs:
            return
        shared.most_jobs = 0
        if shared.worn or self._pool.is_outdated(worker):
            self._shared.remove(shared)
            leave = self._pool.replace if shared.worn else self._pool.retire
            leave(worker, target if answer is None else None)
