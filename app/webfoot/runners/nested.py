"""Calls that runs make, wherever they run: what is asked, and what comes of it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from webfoot.errors import Error, RunCancelled, ServerBusy
from webfoot.outcomes import Outcome
from webfoot.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from webfoot.registry import Registry
    from webfoot.runners import Answered


def write_inputs(
    registry: Registry | None, name: str, inputs: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The canonical arguments of calls of the UDF `name`.

    Raises:
        UdfNotFound: If there is no such UDF.
        InvalidParameters: If an input is no call of it.
    """
    assert registry is not None, "a runner is told its registry before it runs UDFs"
    udf = registry.find(name)
    try:
        return [udf.parameters.from_values(given) for given in inputs]
    except Error as error:
        error.udf = name
        raise


class Answers(Iterator[Outcome]):
    """What comes of calls that a run has made: a `webfoot.outcomes.Source`.

    One thread hears of answers; another, the run's own, waits for them.

    Args:
        inputs: The inputs of the calls.
        stop: Tells who makes the calls to stop.
    """

    def __init__(self, inputs: Sequence[Mapping[str, Any]], stop: Callable[[], None]) -> None:
        self._left = dict(enumerate(inputs))
        self._stop = stop
        self._heard: queue.SimpleQueue[Answered | Error | None] = queue.SimpleQueue()
        self._ended = self._cancelled = False
        self._error: Error | None = None

    def hear(self, said: Answered | Error | None) -> None:
        """Take an answer; or why there will be no more; or None, when that was all."""
        self._heard.put(said)

    def __next__(self) -> Outcome:
        said = self._hear_next()
        if said is not None:
            return _outcome(said, self._left.pop(said.index))
        if self._error is not None:
            raise self._error
        if self._cancelled and self._left:
            index = next(iter(self._left))
            error = RunCancelled("the calls were cancelled before this one had an answer")
            return Outcome(index, self._left.pop(index), error=error)
        raise StopIteration

    def file(self, seconds: float) -> Path:
        """The file of the only one.

        Args:
            seconds: How long to wait for it.

        Raises:
            TimeoutError: If it is not there by then; nobody waits for it any more.
            Error: Why there will be none.
        """
        try:
            said = self._hear_next(seconds)
        except queue.Empty:
            self.cancel()
            raise TimeoutError from None
        if said is None:
            raise self._error or RunCancelled("the call was cancelled")
        if said.path is None:
            raise Error.from_problem(said.problem or {})
        return said.path

    def _hear_next(self, seconds: float | None = None) -> Answered | None:
        """The next answer; None if there are no more.

        Raises:
            queue.Empty: If there is none in so many seconds.
        """
        while not (self._ended or self._cancelled):
            said = self._heard.get(timeout=seconds)
            if self._cancelled:
                break
            if said is None:
                self._ended = True
            elif isinstance(said, Error):
                self._ended, self._error = True, said
            else:
                return said
        return None

    def ready(self) -> int:
        """How many can be had without waiting."""
        return max(self._heard.qsize() - 1, 0)

    def cancel(self) -> None:
        """Stop: what has not completed ends with the error `RunCancelled`."""
        if not self._ended and not self._cancelled:
            self._cancelled = True
            self._heard.put(None)
            self._stop()


def _outcome(said: Answered, given: Mapping[str, Any]) -> Outcome:
    if said.path is None:
        return Outcome(said.index, given, error=Error.from_problem(said.problem or {}))
    try:
        return Outcome(said.index, given, Table.from_parquet(said.path))
    except FileNotFoundError:
        # A run that takes its time with answers may find the first of them gone.
        error = ServerBusy("the result was evicted before it was read; make the store larger")
        return Outcome(said.index, given, error=error)
