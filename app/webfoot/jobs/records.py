"""Where jobs are kept, for all servers that share a store."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.jobs import Job


@dataclass(frozen=True)
class Wish:
    """What those who ask for a job want of the server that runs it.

    Args:
        cancelled: Whether one of them wants it to end.
        waits_s: For how much longer one of them may be waiting for it, in seconds.
    """

    cancelled: bool = False
    waits_s: float = -math.inf


class JobRecords(Protocol):
    """Keeps jobs, which have one server each that runs them.

    Args:
        look_s: How often it is good to look for what changes, in seconds.
    """

    look_s: float

    async def add(self, job: Job, once: str | None) -> Job:
        """Keep a new job, for this server to run.

        Returns:
            The job; or another, for which the key `once` stands already.
        """

    async def free(self, once: str, job: Job) -> None:
        """Have the key `once` stand for `job` no longer."""

    async def find(self, id: str) -> Job | None:  # noqa: A002  # it is one
        """The job of that id, if there is one."""

    async def keep(self, job: Job) -> None:
        """Have `job` take the place of what is kept under its id."""

    async def cancel(self, job: Job) -> None:
        """Tell the server that runs `job` to end it."""

    async def wait_for(self, job: Job, seconds: float) -> None:
        """Tell the server that runs `job` that somebody will wait for it, for so long at least."""

    async def wishes(self) -> Mapping[str, Wish]:
        """What was told to this server, by the ids of jobs that have not ended."""

    async def unfinished(self) -> list[Job]:
        """The jobs that have not ended, of all servers."""

    async def take_over(self, job: Job) -> bool:
        """Make `job` this server's, if it has not ended and its own server died."""

    async def close(self) -> None:
        """Leave the jobs that have not ended to the next server."""
