"""`webfoot.run` and `webfoot.map`: UDFs that call UDFs, wherever they run.

Inside a run, the calls go to the engine that runs it: the same results, the same limits. Outside
one, in a test or a notebook, they run in this process.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from webfoot.definition import definition_of
from webfoot.errors import input_failed
from webfoot.outcomes import Outcome, Results, Source, read_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from webfoot.errors import Error
    from webfoot.tables.table import Table


class Caller(Protocol):
    """Makes the calls of a run."""

    def outcomes(self, name: str, inputs: Sequence[Mapping[str, Any]]) -> Source:
        """Call the UDF `name` with each input, from now on; tell what came of each as it comes.

        Raises:
            Error: If the calls cannot be made at all.
        """


# Of the run that this thread, or this asynchronous task, belongs to.
_CALLER: ContextVar[Caller] = ContextVar("webfoot_caller")
# Of the only run of a process, for the threads that it starts itself.
_PROCESS_CALLERS: list[Caller] = []


def run(udf: str | Callable[..., Any], /, **parameters: Any) -> Table:
    """Call another UDF, and wait for its table.

    Args:
        udf: Its name, or the decorated function.
        parameters: Its parameters by name.

    Raises:
        InvalidParameters: If they are no call of it.
        Error: Why it gave no table, with the other UDF's name.
    """
    name = _name_of(udf)
    (outcome,) = _caller().outcomes(name, [parameters])
    if outcome.error is not None:
        raise outcome.error
    assert outcome.table is not None, "an outcome has one or the other"
    return outcome.table


def map(  # noqa: A001  # the field's word, always written `webfoot.map`
    udf: str | Callable[..., Any],
    inputs: Iterable[Any],
    /,
    *,
    over: str | None = None,
    partial: bool = False,
) -> Results:
    """Call another UDF once for each input, as many at a time as the server allows.

    Args:
        udf: Its name, or the decorated function.
        inputs: Parameters by name, for each call.
        over: The one parameter that `inputs` are bare values of.
        partial: Whether inputs may fail: they are then listed in `Results.errors`.

    Returns:
        The tables, as they come, in the order of the inputs or as one table.

    Raises:
        InvalidParameters: If an input is no call of it; nothing runs then.
        FanoutFailed: If an input fails, unless `partial`; the rest is then stopped. It is raised
            where results are read.
    """
    name, caller = _name_of(udf), _caller()

    def start(wanted: Sequence[Mapping[str, Any]]) -> Source:
        outcomes = caller.outcomes(name, wanted)
        return outcomes if partial else _Strict(outcomes, name, len(wanted))

    return Results(read_inputs(inputs, over), start)


class _Strict(Iterator[Outcome]):
    """Outcomes up to the first that failed, which is raised; see `webfoot.outcomes.Source`.

    Args:
        source: The outcomes.
        name: The UDF that was called.
        among: How many inputs there are.
    """

    def __init__(self, source: Source, name: str, among: int) -> None:
        self._source = source
        self._name = name
        self._among = among
        self._failed: Error | None = None
        self._cancelled = False

    def __next__(self) -> Outcome:
        if self._failed is not None:
            raise self._failed
        outcome = next(self._source)
        if outcome.error is None or self._cancelled:
            return outcome
        self._source.cancel()
        failed = input_failed(outcome.index, outcome.input, outcome.error, among=self._among)
        failed.udf, failed.traceback = self._name, outcome.error.traceback
        self._failed = failed
        raise failed

    def ready(self) -> int:
        """How many can be had without waiting."""
        return self._source.ready()

    def cancel(self) -> None:
        """Stop."""
        self._cancelled = True
        self._source.cancel()


@contextlib.contextmanager
def through(caller: Caller) -> Iterator[None]:
    """Make the calls of this thread by `caller`."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)


@contextlib.contextmanager
def everywhere_through(caller: Caller) -> Iterator[None]:
    """Make the calls of the whole process by `caller`, also those of threads it starts."""
    _PROCESS_CALLERS.append(caller)
    try:
        yield
    finally:
        _PROCESS_CALLERS.remove(caller)


def _caller() -> Caller:
    caller = _CALLER.get(None)
    if caller is not None:
        return caller
    if _PROCESS_CALLERS:
        return _PROCESS_CALLERS[-1]
    # Late, because a server in this process is made of everything else, this module included.
    outside: Caller = importlib.import_module("webfoot.in_process").caller()
    return outside


def _name_of(udf: str | Callable[..., Any]) -> str:
    if isinstance(udf, str):
        return udf
    definition = definition_of(udf)
    if definition is None:
        raise TypeError(f"{udf!r} is no UDF; give its name, or the function that has @udf")
    return definition.name
