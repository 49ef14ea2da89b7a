"""Bootstrap steps: what makes a DuckDB ready runs when what it provides is first used, once."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from webfoot.database import statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import duckdb

    from webfoot.database.extensions import Extensions
    from webfoot.database.secrets import Secrets

# Paths come in short lists: of a long one, values beyond these are not looked at.
_MOST_VALUES = 1000


class StepFailed(RuntimeError):
    """A bootstrap step could not do its work; the message names it and says why."""


class NotConfigured(Exception):
    """Raised by a step that has nothing to do here; it is noted, and the statement goes on."""


@dataclass(frozen=True)
class Resources:
    """What steps may use.

    Args:
        secrets: Where secrets are.
        extensions: Where DuckDB's extensions are.
        environment: The variables of the process.
    """

    secrets: Secrets
    extensions: Extensions
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that a DuckDB needs before some statements: an extension, a secret, a catalog.

    Args:
        name: What it is called: for `require`, and in messages.
        prepare: Does it, on a connection of its own to the instance; raises `NotConfigured` if
            there is nothing to do.
        paths: What it provides: paths that begin so, such as `s3://`.
        catalogs: What it provides: names, of catalogs, schemas, tables or functions.
        rests_on: What its work depends on, such as a token; when that has changed by the next use,
            the step runs again.
    """

    name: str
    prepare: Callable[[duckdb.DuckDBPyConnection, Resources], None]
    paths: tuple[str, ...] = ()
    catalogs: tuple[str, ...] = ()
    rests_on: Callable[[Resources], object] | None = None

    def is_used_by(self, sql: str, values: Sequence[object]) -> bool:
        """Whether a statement with these parameters names what the step provides."""
        beginnings = tuple(path.lower() for path in self.paths)
        if any(text.lower().startswith(beginnings) for text in _some(values)):
            return True
        return statements.names(sql, beginnings, {name.lower() for name in self.catalogs})


@dataclass(frozen=True)
class StepRun:
    """A step that has run.

    Args:
        name: The step's name.
        seconds: How long it took.
        skipped: Why it had nothing to do; None if it did its work.
    """

    name: str
    seconds: float
    skipped: str | None = None


class Bootstrap:
    """The steps of one instance: each runs once, by whichever connection needs it first.

    Args:
        steps: In the order in which they run, if one statement needs several.
        resources: What they may use.
        connect: Makes a connection to the instance.

    Raises:
        ValueError: If two have one name.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        resources: Resources,
        connect: Callable[[], duckdb.DuckDBPyConnection],
    ) -> None:
        self._steps = {step.name: step for step in steps}
        if len(self._steps) != len(steps):
            names = [step.name for step in steps]
            raise ValueError(f"each bootstrap step needs a name of its own, got {names}")
        self._resources = resources
        self._connect = connect
        self._lock = threading.RLock()  # A step may ask for another.
        self._running: set[str] = set()
        # The steps that have run, with what they rested on then.
        self._rested_on: dict[str, object] = {}
        self._runs: list[StepRun] = []
        self._hints = self._make_hints()

    def use(self, sql: str, values: Sequence[object] = ()) -> None:
        """Run the steps that a statement with these parameters needs and that have not run.

        Raises:
            StepFailed: If one fails; it runs again at its next use.
        """
        if self._hints is None:
            return
        if not self._hints.search(sql) and not any(map(self._hints.search, _some(values))):
            return
        for step in self._steps.values():
            if self._is_due(step) and step.is_used_by(sql, values):
                self._run(step)

    def require(self, *names: str) -> None:
        """Run these steps now, unless they have run.

        Raises:
            StepFailed: If one fails, is not configured, or is no step of this instance.
        """
        for name in names:
            step = self._steps.get(name)
            if step is None:
                raise StepFailed(f"{name} is no bootstrap step here; there are {[*self._steps]}")
            if self._is_due(step):
                self._run(step)
            reasons = [run.skipped for run in self.runs() if run.name == name]
            if reasons and reasons[-1] is not None:
                raise StepFailed(f"{name} is not configured: {reasons[-1]}")

    def runs(self) -> tuple[StepRun, ...]:
        """The steps that have run, in that order, with their times."""
        with self._lock:
            return tuple(self._runs)

    def _is_due(self, step: Step) -> bool:
        if step.name not in self._rested_on:
            return True
        if step.rests_on is None:
            return False
        return self._rested_on[step.name] != step.rests_on(self._resources)

    def _run(self, step: Step) -> None:
        with self._lock:
            # Somebody else may have run it meanwhile; and a step whose own statements name what it
            # provides must not wait for itself.
            if step.name in self._running or not self._is_due(step):
                return
            self._running.add(step.name)
            rested_on = step.rests_on and step.rests_on(self._resources)
            started, skipped = time.perf_counter(), None
            try:
                with self._connect() as connection:
                    step.prepare(connection, self._resources)
            except NotConfigured as reason:
                skipped = str(reason)
            except Exception as error:
                raise StepFailed(f"the bootstrap step {step.name} failed: {error}") from error
            finally:
                self._running.discard(step.name)
            self._rested_on[step.name] = rested_on
            self._runs.append(StepRun(step.name, time.perf_counter() - started, skipped))
            self._hints = self._make_hints()

    def _make_hints(self) -> re.Pattern[str] | None:
        """What is in every statement that may need a step that may run; None if none may.

        A statement in which it is not found is not looked into any further.
        """
        waiting = [
            step
            for step in self._steps.values()
            if step.name not in self._rested_on or step.rests_on is not None
        ]
        hints = [re.escape(hint) for step in waiting for hint in (*step.paths, *step.catalogs)]
        return re.compile("|".join(hints), re.IGNORECASE) if hints else None


def _some(values: Sequence[object]) -> Iterator[str]:
    return islice(_texts(values), _MOST_VALUES)


def _texts(value: object) -> Iterator[str]:
    """The texts in parameters, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
