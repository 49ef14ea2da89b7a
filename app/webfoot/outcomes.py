"""What comes of one UDF called with many inputs: outcomes as they complete, and their sum."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from webfoot.errors import Error
from webfoot.quantities import shorten, write_count
from webfoot.tables.conversion import to_batches
from webfoot.tables.stitching import combine
from webfoot.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from tqdm import tqdm

Input: TypeAlias = Mapping[str, Any]

_FAILURES_SHOWN = 5
_LETTERS_SHOWN = 200


class PartialResultsWarning(UserWarning):
    """Some inputs failed, and the table is of the others."""


@dataclass(frozen=True)
class Outcome:
    """What came of one input: a table or an error.

    Args:
        index: Its place among the inputs, from 0.
        input: Its parameters, as the UDF took them where that is known, else as given.
        table: The result.
        error: Why there is none.
    """

    index: int
    input: Input
    table: Table | None = None
    error: Error | None = None


class Source(Iterator[Outcome], Protocol):
    """Outcomes in the order in which they complete, one for each input.

    `next` waits for one. A wait that is interrupted, say by Ctrl-C, may be taken up again.
    """

    def ready(self) -> int:
        """How many can be had without waiting."""

    def cancel(self) -> None:
        """Stop, also while another thread waits: what has not completed ends as `RunCancelled`."""


def read_inputs(inputs: Any, over: str | None = None) -> list[Input]:
    """Read the inputs of a fan-out.

    Args:
        inputs: Parameters by name for each call, as dicts or as the rows of a table (pandas,
            Polars, Arrow, DuckDB), in which an empty cell means the default; or bare values.
        over: The parameter that bare values are of.

    Raises:
        TypeError: If they are none of these.
    """
    if isinstance(inputs, str | bytes | Mapping):
        raise TypeError(f"inputs are several, got one {type(inputs).__name__}; put it into a list")
    if hasattr(inputs, "columns") and hasattr(inputs, "__arrow_c_stream__"):
        batches = to_batches(inputs).stream
        rows = (row for batch in batches for row in batch.to_pylist())
        return [{name: value for name, value in row.items() if value is not None} for row in rows]
    values = inputs.to_pylist() if hasattr(inputs, "to_pylist") else inputs
    return [_read_input(index, value, over) for index, value in enumerate(values)]


def _read_input(index: int, value: Any, over: str | None) -> Input:
    if isinstance(value, Mapping):
        return dict(value)
    if over is None:
        raise TypeError(
            f"input {index} is a bare value, {value!r}, and could be of any parameter; write"
            f" {{'name': {value!r}}}, or say which one by over='name'"
        )
    return {over: value}


class Results:
    """The results of one UDF for many inputs, while they come in and afterwards.

    Iterating gives a `Table` per input, in their order, and raises the error of an input that
    failed when its turn comes. A failure loses nothing else. Threads may share it.

    Args:
        inputs: The parameters of each call.
        start: Runs those inputs that `kept` lacks.
        kept: Outcomes that are known already, of `inputs`.
        progress: What a progress bar says, shown while something waits; None for no bar.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        start: Callable[[Sequence[Input]], Source],
        *,
        kept: Sequence[Outcome] = (),
        progress: str | None = None,
    ) -> None:
        self._inputs = inputs
        self._start = start
        self._progress = progress
        known = {outcome.index for outcome in kept}
        self._positions = [index for index in range(len(inputs)) if index not in known]
        rest = [inputs[index] for index in self._positions]
        self._source = start(rest) if rest else None
        # Whoever holds the lock waits for the next outcome, on behalf of everybody.
        self._lock = threading.Lock()
        self._arrived = list(kept)
        self._by_index = {outcome.index: outcome for outcome in kept}
        self._bar: tqdm[Any] | None = None
        self._sum: Table | None = None

    def as_completed(self) -> Iterator[Outcome]:
        """Outcomes as they come in, failures too; from the first, however often it is called."""
        position = 0
        while self._reach(position):
            yield self._arrived[position]
            position += 1

    def wait(self) -> Results:
        """Wait for all of them."""
        self._reach(len(self))
        return self

    def cancel(self) -> None:
        """Stop what has not completed; it ends with the error `RunCancelled`."""
        if self._source is not None:
            self._source.cancel()

    def retry(self) -> Results:
        """Run the inputs that failed again, and keep the other results; waits for all of them."""
        kept = [outcome for outcome in self._ordered() if outcome.error is None]
        return Results(self._inputs, self._start, kept=kept, progress=self._progress)

    @property
    def errors(self) -> list[Outcome]:
        """The outcomes of inputs that failed, in order; waits for all of them."""
        return [outcome for outcome in self._ordered() if outcome.error is not None]

    def table(self) -> Table:
        """All results under each other, with their inputs as first columns; waits for all of them.

        An input that is named like a column of the results becomes `input_` and its name. If some
        inputs failed, a `PartialResultsWarning` says so.

        Raises:
            Error: That of the first input, if every one failed.
            InvalidResult: If results have columns of one name and types that do not go together.
        """
        return self._together()

    def df(self) -> pd.DataFrame:
        """`table()` in pandas."""
        return self._together().df()

    def pl(self) -> pl.DataFrame:
        """`table()` in Polars."""
        return self._together().pl()

    def arrow(self) -> pa.Table:
        """`table()` in pyarrow."""
        return self._together().arrow()

    def sql(self, query: str) -> Table:
        """Ask DuckDB about `table()`, which the query calls `self`."""
        return self._together().sql(query)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """`table()` as Arrow's C stream, so that a UDF may return it, and DuckDB read it."""
        return self._together().__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        """How many inputs there are."""
        return len(self._inputs)

    def __getitem__(self, index: int) -> Table:
        """The table of the input at `index`; waits for it.

        Raises:
            Error: Why there is none.
        """
        index = range(len(self))[index]
        while index not in self._by_index and self._reach(len(self._arrived)):
            pass
        outcome = self._by_index[index]
        if outcome.table is None:
            raise _error(outcome)
        return outcome.table

    def __iter__(self) -> Iterator[Table]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        self._take_ready()
        failed = sum(outcome.error is not None for outcome in self._arrived)
        done, total = len(self._arrived), len(self)
        state = (
            f"{done:,} of {write_count(total, 'input')} done"
            if done < total
            else f"{write_count(total, 'input')}, all done"
        )
        return f"<Results: {state}, {failed:,} failed>"

    def _repr_html_(self) -> str:
        from webfoot.templating import render  # noqa: PLC0415  # Jinja, for who looks at it

        self._take_ready()
        failures = [outcome for outcome in self._arrived if outcome.error is not None]
        failures.sort(key=lambda outcome: outcome.index)
        return render(
            "outcomes.html",
            total=len(self),
            done=len(self._arrived),
            failed=len(failures),
            failures=[
                (shorten(_text(outcome.input), _LETTERS_SHOWN), outcome.error)
                for outcome in failures[:_FAILURES_SHOWN]
            ],
        )

    def _ordered(self) -> list[Outcome]:
        self.wait()
        return [self._by_index[index] for index in range(len(self))]

    def _reach(self, position: int) -> bool:
        """Wait until the outcome that comes in at `position` is there; False if none will."""
        while position >= len(self._arrived):
            with self._lock:
                self._open_bar()
                if position >= len(self._arrived) and not self._take():
                    return False
        return True

    def _take_ready(self) -> None:
        """Take what can be had without waiting."""
        if self._source is not None and self._lock.acquire(blocking=False):
            try:
                for _ in range(self._source.ready()):
                    self._take()
            finally:
                self._lock.release()

    def _take(self) -> bool:
        """Wait for one more outcome; False if there are no more."""
        outcome = None if self._source is None else next(self._source, None)
        if outcome is None:
            return False
        outcome = replace(outcome, index=self._positions[outcome.index])
        self._by_index[outcome.index] = outcome
        self._arrived.append(outcome)
        self._advance_bar()
        return True

    def _open_bar(self) -> None:
        if self._progress is not None and self._bar is None:
            self._bar = _make_bar(self._progress, len(self), len(self._arrived))

    def _advance_bar(self) -> None:
        if self._bar is None:
            return
        failed = sum(outcome.error is not None for outcome in self._arrived)
        if failed:
            self._bar.set_postfix(failed=failed, refresh=False)
        self._bar.update()
        if len(self._arrived) == len(self):
            self._bar.close()

    def _together(self) -> Table:
        outcomes, failed = self._ordered(), self.errors
        if failed and len(failed) == len(self):
            error = _error(failed[0])
            error.add_note(
                f"every one of {write_count(len(self), 'input')} failed; .errors lists them"
            )
            raise error
        if failed:
            warnings.warn(
                f"{len(failed):,} of {write_count(len(self), 'input')} failed, and the table is"
                " without them; .errors lists them, .retry() runs them again",
                PartialResultsWarning,
                stacklevel=3,
            )
        if self._sum is None:
            # An input without rows is in no row; as it was given, it may have another type.
            inputs = [o.input if o.table else dict.fromkeys(o.input) for o in outcomes]
            self._sum = Table(combine(inputs, [_arrow(o) for o in outcomes]))
        return self._sum


def _error(outcome: Outcome) -> Error:
    """The error of `outcome`, made anew: one that is raised twice would grow."""
    assert outcome.error is not None, "an outcome has a table or an error"
    error = Error.from_problem(outcome.error.problem() | {"traceback": outcome.error.traceback})
    error.add_note(f"input {outcome.index}: {shorten(_text(outcome.input), _LETTERS_SHOWN)}")
    return error


def _text(values: Input) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _arrow(outcome: Outcome) -> pa.Table | None:
    return None if outcome.table is None else outcome.table.arrow()


def _make_bar(text: str, total: int, done: int) -> tqdm[Any]:
    with warnings.catch_warnings():
        # Without ipywidgets, a notebook's bar is one of text, which serves as well.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm  # noqa: PLC0415  # for who waits for many results
    # Where nobody watches, in a log or a pipe, a bar is noise.
    ipython = sys.modules.get("IPython")
    watched = sys.stderr.isatty() or (ipython is not None and ipython.get_ipython() is not None)
    return tqdm(total=total, initial=done, desc=text, unit="input", disable=not watched)
