"""Worker processes on this machine: a run that loops, leaks or crashes harms nothing but itself.

Our own pool, because the known ones lose neighbouring calls when a worker dies, cannot kill one
run, or speak over the standard output that runs print to.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from webfoot.errors import MemoryExceeded
from webfoot.runners import SPARE_CALLS, Load, frames, prints
from webfoot.runners.jobs import UdfJob
from webfoot.runners.pool import Pool
from webfoot.runners.sharing import SharedWorkers
from webfoot.runners.slots import Queue, Slot, Slots
from webfoot.runners.supervision import Crash, read_answer, shorten, supervise

if TYPE_CHECKING:
    from pathlib import Path

    from webfoot.registry import Registry
    from webfoot.results import Draft
    from webfoot.runners import Calls
    from webfoot.runners.jobs import Job

# How many runs that only wait are under way at once, for each worker that computes.
_WAITING_A_WORKER = 64


class ProcessRunner:
    """Runs jobs in worker processes.

    Args:
        workers: How many run at once.
        queue: Which requests may wait.
        temp: Where workers may put temporary files, each in a folder of its own.
    """

    def __init__(self, workers: int, queue: Queue, temp: Path) -> None:
        self.calls_at_once = workers + SPARE_CALLS
        self._slots = Slots(workers, queue)
        self._waiting_slots = Slots(workers * _WAITING_A_WORKER, queue)
        self._pool = Pool(workers, temp, self._slots)
        self._shared = SharedWorkers(self._pool)

    def load(self) -> Load:
        """How busy its processes are."""
        slots, alive = (self._slots, self._waiting_slots), self._pool.alive
        return Load(
            running=sum(each.held for each in slots),
            waiting=sum(each.waiting for each in slots),
            processes=len(alive),
            memory_bytes=sum(worker.used_bytes(children=False) for worker in alive),
            replaced=self._pool.replaced,
        )

    async def use(self, registry: Registry) -> None:
        """Make workers ready for `registry`, in the background."""
        self._pool.use(registry)
        self._shared.retire_outdated()

    async def run(self, job: Job, target: Path, log: Path, calls: Calls) -> Draft:
        """Run `job` in a worker, which is killed if the job outlives its limits or this call."""
        if isinstance(job, UdfJob) and job.udf.options.waits:
            with contextlib.suppress(_Together):
                async with self._waiting_slots.hold(calls.descent.depth) as slot:
                    return await self._run_beside_others(job, target, log, calls, slot)
            # One of several took their process down: each runs again, alone, to tell which.
        async with self._slots.hold(calls.descent.depth) as slot:
            return await self._run_alone(job, target, log, calls, slot)

    async def _run_alone(
        self, job: Job, target: Path, log: Path, calls: Calls, slot: Slot
    ) -> Draft:
        worker = await self._pool.take(job, slot)
        answer, message = None, frames.write_job(job, target, log)
        try:
            answer = await supervise(worker, job, message, calls, slot)
        except Crash as crash:
            raise crash.told(job, await worker.ended()) from None
        finally:
            if answer is None:
                prints.keep(str(worker.printed), str(log))
            self._pool.give_back(worker, answer, target)
            # Only now: a worker that had to be killed has printed until then.
            shorten(log)
        return read_answer(answer)

    async def _run_beside_others(
        self, job: UdfJob, target: Path, log: Path, calls: Calls, slot: Slot
    ) -> Draft:
        """Run a job that only waits in a process that it shares.

        Raises:
            _Together: If the process ended, or had to be ended, while others ran there, too.
        """
        shared = await self._shared.take(job, slot)
        worker = shared.worker
        message = frames.write_job(job, target, log) | {"shared": True}
        answer = None
        try:
            answer = await supervise(worker, job, message, calls, slot)
        except (Crash, MemoryExceeded) as error:
            shared.worn = True
            ended = await worker.ended() if isinstance(error, Crash) else ""
            worker.kill()
            if shared.most_jobs > 1:
                raise _Together from None
            if isinstance(error, MemoryExceeded):
                raise
            raise error.told(job, ended) from None
        finally:
            self._shared.leave(shared, answer, target)
            shorten(log)
        return read_answer(answer)

    async def close(self) -> None:
        """Kill every worker."""
        await self._pool.close()


class _Together(Exception):
    """A process in which several jobs ran has ended, and nobody knows through which of them."""
