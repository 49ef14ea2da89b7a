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


# So many calls more than can run are asked for: when one ends, the next is at hand.
SPARE_CALLS = 2


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


@dataclass(frozen=True)
class Descent:
    """A run's place among all calls, as another process can be told it.

    Args:
        run: The id of the run.
        trace: The id of all calls that one request led to.
        depth: How deep the run's call is; 0 for the request's own.
        path: The keys of the calls that wait for each other, from the request's own to the run's.
        calls: How many more calls there may be.
        timeout_s: How long each run may take if its UDF does not say, in seconds.
    """

    run: str
    trace: str
    depth: int
    path: tuple[str, ...]
    calls: int
    timeout_s: float


@dataclass(frozen=True)
class Load:
    """How busy a runner is.

    Args:
        running: Runs that have their turn; not those that wait for others.
        waiting: Runs that wait for their turn.
        memory_bytes: The memory of its processes; 0 if it has none of its own.
        replaced: How many of those had to be replaced so far: that crashed, were killed for what
            they ran, or were worn out.
    """

    running: int = 0
    waiting: int = 0
    memory_bytes: int = 0
    replaced: int = 0


class Calls(Protocol):
    """Makes the calls of a run."""

    @property
    def descent(self) -> Descent:
        """The run's place."""

    def made_elsewhere(self, calls: int, cost: Mapping[str, float]) -> None:
        """Note how many calls it has led to there, and what these have cost."""

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

    descent = Descent(run="", trace="", depth=0, path=(), calls=0, timeout_s=0.0)

    def made_elsewhere(self, calls: int, cost: Mapping[str, float]) -> None:
        """There are none."""

    async def answers(self, udf: str, arguments: Sequence[str]) -> AsyncGenerator[Answered]:  # noqa: ARG002  # none are made
        """Refuse."""
        raise Error(f"{udf} cannot be called here; call it inside a UDF's function")
        yield  # A generator, like every other of its kind.


class Runner(Protocol):
    """Runs jobs: a worker process, this process, another machine.

    Args:
        calls_at_once: How many calls of one fan-out it takes to keep it busy.
    """

    calls_at_once: int

    async def run(self, job: Job, target: Path, log: Path, calls: Calls) -> Draft:
        """Run `job`, which writes `target`, prints to `log` and may make `calls`.

        Raises:
            Error: What went wrong, as a class of `webfoot.errors`.
        """

    def load(self) -> Load:
        """How busy it is."""

    async def use(self, registry: Registry) -> None:
        """Make ready for the calls of `registry`; calls that run go on with the code they have."""

    async def close(self) -> None:
        """Stop everything that runs."""
