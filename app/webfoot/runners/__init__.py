"""Where a run happens. A runner is one of Webfoot's three seams: one method does the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from webfoot.errors import Error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from webfoot.registry import Registry
    from webfoot.results import Draft
    from webfoot.runners.jobs import Job


@dataclass(frozen=True)
class Answered:
    """What came of one call that a run has made.

    Args:
        index: Which of the calls that it made at once.
        path: The Parquet file of its result; None if it failed.
        problem: Why it failed, as a problem document with the author's traceback.
    """

    index: int
    path: Path | None = None
    problem: Mapping[str, Any] | None = None


class Calls(Protocol):
    """Makes the calls of a run: the run's place among all calls is known to it."""

    depth: int

    def answers(self, udf: str, arguments: Sequence[str]) -> AsyncGenerator[Answered]:
        """Call `udf` with each of these canonical arguments, and tell each answer as it comes.

        A run of SQL has a query string in place of each.

        Raises:
            Error: If the calls cannot be made at all.
        """


class Finder(Protocol):
    """Makes the calls of a run of SQL, from within that run."""

    def file(self, name: str, query: str, seconds: float) -> Path:
        """The Parquet file that a request for the UDF with this query string is answered with.

        Raises:
            TimeoutError: If there is none in so many seconds.
            Error: Why there is none.
        """


class NoCalls:
    """For jobs that may make none."""

    depth = 0

    async def answers(self, udf: str, arguments: Sequence[str]) -> AsyncGenerator[Answered]:  # noqa: ARG002  # none are made
        """Refuse."""
        raise Error(f"{udf} cannot be called here; call it inside a UDF's function")
        yield  # A generator, like every other of its kind.


class Runner(Protocol):
    """Runs jobs: a worker process, this process, another machine."""

    async def run(self, job: Job, target: Path, log: Path, calls: Calls) -> Draft:
        """Run `job`, which writes `target`, prints to `log` and may make `calls`.

        Raises:
            Error: What went wrong, as a class of `webfoot.errors`.
        """

    async def use(self, registry: Registry) -> None:
        """Make ready for the calls of `registry`; calls that run go on with the code they have."""

    async def close(self) -> None:
        """Stop everything that runs."""
