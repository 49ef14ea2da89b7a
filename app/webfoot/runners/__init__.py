"""Where a run happens. A runner is one of Webfoot's three seams: one method does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from webfoot.registry import Registry
    from webfoot.results import Draft
    from webfoot.runners.jobs import Job


class Runner(Protocol):
    """Runs jobs: a worker process, this process, another machine."""

    async def run(self, job: Job, target: Path, log: Path) -> Draft:
        """Run `job`, which writes `target` and prints to `log`.

        Raises:
            Error: What went wrong, as a class of `webfoot.errors`.
        """

    async def use(self, registry: Registry) -> None:
        """Make ready for the calls of `registry`; calls that run go on with the code they have."""

    async def close(self) -> None:
        """Stop everything that runs."""
