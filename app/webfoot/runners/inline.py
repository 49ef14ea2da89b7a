"""Runs in this process: on Lambda, which isolates calls itself, and to debug with a breakpoint.

Nothing protects the server here: a run that takes too long is given up but not stopped.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from webfoot.database import Database
from webfoot.errors import UdfTimeout
from webfoot.quantities import write_seconds
from webfoot.runners.jobs import execute

if TYPE_CHECKING:
    from pathlib import Path

    from webfoot.registry import Registry
    from webfoot.results import Draft
    from webfoot.runners.jobs import Job


class InlineRunner:
    """Runs jobs on threads of this process.

    Args:
        workers: How many run at once.
        temp: Where DuckDB may spill.
    """

    def __init__(self, workers: int, temp: Path) -> None:
        self._limiter = anyio.CapacityLimiter(workers)
        self._database = Database(temp)

    async def run(self, job: Job, target: Path, log: Path) -> Draft:  # noqa: ARG002  # prints show
        """Run `job` on a thread; its prints go where this process's go."""
        call = partial(execute, job, target, self._database)
        try:
            with anyio.fail_after(job.timeout_s):
                return await anyio.to_thread.run_sync(
                    call, abandon_on_cancel=True, limiter=self._limiter
                )
        except TimeoutError:
            raise UdfTimeout(
                f"it ran longer than {write_seconds(job.timeout_s)}", timeout_s=job.timeout_s
            ) from None

    async def use(self, registry: Registry) -> None:
        """Nothing to make ready: a job brings its function."""

    async def close(self) -> None:
        """Close DuckDB."""
        self._database.close()
