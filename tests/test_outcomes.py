"""Many results come in one by one, and none is lost because another failed."""

from __future__ import annotations

import io
import itertools
import queue
import threading
import warnings
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import tqdm.auto

from webfoot import outcomes
from webfoot.errors import RunCancelled, UdfFailed
from webfoot.outcomes import Input, Outcome, PartialResultsWarning, Results, read_inputs
from webfoot.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

UNTIL_THE_END = 999


def answer(index: int, given: Input) -> Outcome:
    """`n` rows for the input `n`; none for numbers below zero."""
    n = given["n"]
    if n < 0:
        return Outcome(index, given, error=UdfFailed(f"ValueError: {n} is too small", udf="rows"))
    return Outcome(index, given, table=Table(pa.table({"row": pa.array(range(n), pa.int64())})))


class Calls:
    """A source whose outcomes come in the order of `order`, when the test lets them."""

    def __init__(self, inputs: Sequence[Input], order: Sequence[int]) -> None:
        self.inputs = list(inputs)
        self.given = 0
        self.done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.order = iter(order)
        self.left = set(range(len(inputs)))

    def __iter__(self) -> Iterator[Outcome]:
        return self

    def __next__(self) -> Outcome:
        if self.given == len(self.inputs):
            raise StopIteration
        outcome = self.done.get()
        self.given += 1
        return outcome

    def ready(self) -> int:
        return self.done.qsize()

    def cancel(self) -> None:
        for index in sorted(self.left):
            error = RunCancelled("it was cancelled")
            self.done.put(Outcome(index, self.inputs[index], error=error))
        self.left.clear()

    def complete(self, count: int = UNTIL_THE_END) -> None:
        for index in itertools.islice(self.order, count):
            self.left.discard(index)
            self.done.put(answer(index, self.inputs[index]))


def running(*numbers: int, order: Sequence[int] = ()) -> tuple[Results, Calls]:
    """Results of calls that complete when they are told to."""
    started: list[Calls] = []

    def start(inputs: Sequence[Input]) -> Calls:
        started.append(Calls(inputs, order or range(len(inputs))))
        return started[-1]

    return Results([{"n": n} for n in numbers], start), started[0]


def finished(*numbers: int, **options: Any) -> Results:
    def start(inputs: Sequence[Input]) -> Calls:
        calls = Calls(inputs, list(reversed(range(len(inputs)))))
        calls.complete()
        return calls

    return Results([{"n": n} for n in numbers], start, **options)


def test_tables_are_in_the_order_of_the_inputs_whichever_completes_first() -> None:
    results, calls = running(1, 2, 3, order=[2, 0, 1])
    calls.complete()
    assert [len(table) for table in results] == [1, 2, 3]
    assert len(results) == 3
    assert len(results[-1]) == 3
    with pytest.raises(IndexError):
        _ = results[3]


def test_a_table_can_be_had_before_the_others_are_there() -> None:
    results, calls = running(1, 2, 3, order=[1])
    calls.complete()
    assert len(results[1]) == 2


def test_outcomes_are_told_as_they_complete_and_again_to_who_asks_later() -> None:
    results, calls = running(1, -2, 3, order=[2, 1, 0])
    calls.complete()
    first = list(results.as_completed())
    assert [outcome.index for outcome in first] == [2, 1, 0]
    assert [outcome.input for outcome in first] == [{"n": 3}, {"n": -2}, {"n": 1}]
    assert list(results.as_completed()) == first


def test_a_failure_is_raised_when_its_turn_comes_and_names_its_input() -> None:
    tables = iter(finished(1, -7, 3))
    assert len(next(tables)) == 1
    with pytest.raises(UdfFailed, match="-7 is too small") as raised:
        next(tables)
    assert raised.value.udf == "rows"
    assert raised.value.__notes__ == ["input 1: n=-7"]


def test_an_error_that_is_raised_twice_does_not_grow() -> None:
    results = finished(-1)
    for _ in range(2):
        with pytest.raises(UdfFailed) as raised:
            _ = results[0]
        assert raised.value.__notes__ == ["input 0: n=-1"]


def test_errors_lists_what_failed_in_the_order_of_the_inputs() -> None:
    errors = finished(-1, 1, -2).errors
    assert [(outcome.index, str(outcome.error)) for outcome in errors] == [
        (0, "ValueError: -1 is too small"),
        (2, "ValueError: -2 is too small"),
    ]
    assert finished(1).errors == []


def test_one_table_has_the_inputs_as_first_columns() -> None:
    assert finished(2, 0, 1).arrow().to_pydict() == {"n": [2, 2, 1], "row": [0, 1, 0]}


def test_every_library_gets_that_table() -> None:
    results = finished(1, 2)
    expected = results.arrow()
    pd.testing.assert_frame_equal(results.df(), expected.to_pandas())
    assert results.pl().equals(pl.DataFrame(expected))
    assert results.table().arrow() == expected
    total = results.sql("SELECT sum(row) AS total FROM self")
    assert total.arrow().to_pydict() == {"total": [1]}


@pytest.mark.parametrize(
    "read",
    [Results.df, Results.pl, Results.arrow, Results.table, lambda it: it.sql("FROM self")],
    ids=["df", "pl", "arrow", "table", "sql"],
)
def test_a_table_without_the_failed_inputs_warns_where_it_is_read(
    read: Callable[[Results], object],
) -> None:
    results = finished(1, -1, -2)
    with pytest.warns(PartialResultsWarning, match=r"^2 of 3 inputs failed.*\.errors.*\.retry"):
        read(results)


def test_the_warning_points_to_the_line_that_reads() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        finished(1, -1).df()
    assert caught[0].filename == __file__


def test_a_table_of_failures_alone_is_the_first_failure() -> None:
    with pytest.raises(UdfFailed, match="-1 is too small") as raised:
        finished(-1, -2).df()
    assert "every one of 2 inputs failed" in raised.value.__notes__[-1]


def test_no_inputs_make_an_empty_table() -> None:
    results = finished()
    assert results.errors == []
    assert results.df().shape == (0, 0)
    assert list(results) == []


def test_an_input_without_rows_changes_no_type() -> None:
    """As given it is a text, as the UDF took it a number: only the others are in the table."""

    def start(inputs: Sequence[Input]) -> Calls:
        calls = Calls(inputs, range(2))
        calls.done.put(Outcome(0, {"n": "0"}, table=Table(pa.table({"row": pa.array([], "i8")}))))
        calls.done.put(Outcome(1, {"n": 1}, table=Table(pa.table({"row": pa.array([1], "i8")}))))
        return calls

    table = Results([{"n": "0"}, {"n": "1"}], start).arrow()
    assert table.to_pydict() == {"n": [1], "row": [1]}
    assert table.schema.field("n").type == pa.int64()


def test_retry_runs_only_what_failed_and_keeps_the_rest() -> None:
    started: list[list[Input]] = []

    def start(inputs: Sequence[Input]) -> Calls:
        started.append(list(inputs))
        better = [{"n": abs(given["n"])} if len(started) > 1 else given for given in inputs]
        calls = Calls(better, range(len(inputs)))
        calls.complete()
        return calls

    results = Results([{"n": 1}, {"n": -2}, {"n": 3}, {"n": -4}], start)
    kept = results[0]
    again = results.retry()
    assert started[1] == [{"n": -2}, {"n": -4}]
    assert [len(table) for table in again] == [1, 2, 3, 4]
    assert [outcome.index for outcome in again.as_completed()][2:] == [1, 3]
    assert again[0] is kept
    assert len(results.errors) == 2, "the first attempt stays what it was"


def test_retry_with_no_failure_runs_nothing() -> None:
    again = finished(1, 2).retry()
    assert [len(table) for table in again] == [1, 2]
    assert again.wait() is again
    again.cancel()


def test_cancelling_ends_what_has_not_completed() -> None:
    results, calls = running(1, 2, 3)
    calls.complete(1)
    results.cancel()
    assert [outcome.index for outcome in results.errors] == [1, 2]
    assert all(isinstance(outcome.error, RunCancelled) for outcome in results.errors)
    assert len(results[0]) == 1


def test_threads_share_results_and_each_sees_all_of_them() -> None:
    numbers = range(200)
    results, calls = running(*numbers)
    seen: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=lambda: seen.put([len(table) for table in results]), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    calls.complete()
    for thread in threads:
        thread.join(30)
    assert [seen.get(timeout=1) for _ in threads] == [list(numbers)] * 8


def test_an_interrupted_wait_loses_nothing() -> None:
    class Interrupted(Calls):
        interruptions = 2

        def __next__(self) -> Outcome:
            if self.interruptions:
                self.interruptions -= 1
                raise KeyboardInterrupt
            return super().__next__()

    def start(inputs: Sequence[Input]) -> Interrupted:
        calls = Interrupted(inputs, range(len(inputs)))
        calls.complete()
        return calls

    results = Results([{"n": 1}, {"n": 2}], start)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            results.wait()
    assert [len(table) for table in results] == [1, 2]


# What a person sees.


def test_text_tells_how_many_are_done_without_waiting() -> None:
    results, calls = running(1, -2, 3)
    assert repr(results) == "<Results: 0 of 3 inputs done, 0 failed>"
    calls.complete(2)
    assert repr(results) == "<Results: 2 of 3 inputs done, 1 failed>"
    calls.complete()
    assert repr(results) == "<Results: 3 inputs, all done, 1 failed>"


def test_text_can_be_had_while_another_thread_waits() -> None:
    results, calls = running(1)
    waiting = threading.Thread(target=results.wait, daemon=True)
    waiting.start()
    assert "0 of 1 input done" in repr(results)
    calls.complete()
    waiting.join(30)
    assert "1 input, all done" in repr(results)


def test_html_lists_the_first_failures_and_escapes_them() -> None:
    def start(inputs: Sequence[Input]) -> Calls:
        calls = Calls(inputs, [])
        for index, given in enumerate(inputs):
            calls.done.put(Outcome(index, given, error=UdfFailed("<b>no</b>")))
        return calls

    shown = Results([{"n": f"<i>{n}</i>"} for n in range(9)], start)._repr_html_()
    assert "9 of 9 inputs done, 9 failed" in shown
    assert shown.count("&lt;b&gt;no&lt;/b&gt;") == 5
    assert "4 more: " in shown
    assert "<b>" not in shown
    assert "<i>" not in shown


def test_a_progress_bar_counts_outcomes_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    finished(1, -1, 2, progress="rows").wait()
    last = stream.getvalue().split("\r")[-1]
    assert "rows: 100%" in last
    assert "3/3" in last
    assert "failed=1" in last


def test_no_progress_bar_is_written_where_nobody_watches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[dict[str, Any]] = []
    real = tqdm.auto.tqdm

    def make(*args: Any, **options: Any) -> Any:
        made.append(options)
        return real(*args, **options)

    monkeypatch.setattr(tqdm.auto, "tqdm", make)
    finished(1, 2, progress="rows").wait()
    assert [options["disable"] for options in made] == [True]
    assert capsys.readouterr().err == ""


def test_without_progress_the_bar_s_library_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "_make_bar", None)
    finished(1).wait()


# Inputs.


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame({"month": [1, 2], "origin": ["JFK", None]}),
        pl.DataFrame({"month": [1, 2], "origin": ["JFK", None]}),
        pa.table({"month": [1, 2], "origin": ["JFK", None]}),
        Table(pa.table({"month": [1, 2], "origin": ["JFK", None]})),
        duckdb.sql("SELECT * FROM (VALUES (1, 'JFK'), (2, NULL)) t(month, origin)"),
    ],
    ids=["pandas", "polars", "arrow", "table", "duckdb"],
)
def test_a_row_of_a_table_is_an_input_and_an_empty_cell_the_default(rows: object) -> None:
    assert read_inputs(rows) == [{"month": 1, "origin": "JFK"}, {"month": 2}]


def test_the_index_of_a_frame_is_no_parameter_unless_it_has_a_name() -> None:
    frame = pd.DataFrame({"month": [1, 2]}, index=[7, 8])
    assert read_inputs(frame) == [{"month": 1}, {"month": 2}]
    named = frame.rename_axis("year")
    assert read_inputs(named) == [{"month": 1, "year": 7}, {"month": 2, "year": 8}]


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        (n for n in (1, 2)),
        range(1, 3),
        pd.Series([1, 2]),
        pl.Series([1, 2]),
        pa.array([1, 2]),
        np.array([1, 2]),
    ],
    ids=["list", "generator", "range", "pandas", "polars", "arrow", "numpy"],
)
def test_bare_values_are_of_the_parameter_that_is_named(values: object) -> None:
    assert read_inputs(values, "month") == [{"month": 1}, {"month": 2}]


def test_dicts_are_taken_as_they_are_and_copied() -> None:
    given = {"month": 1, "origin": None}
    (read,) = read_inputs([given])
    given["month"] = 2
    assert read == {"month": 1, "origin": None}


def test_a_bare_value_of_no_named_parameter_says_how_to_name_it() -> None:
    with pytest.raises(TypeError, match=r"input 1 is a bare value, 7.*over='name'"):
        read_inputs([{"n": 1}, 7])


@pytest.mark.parametrize("one", ["abc", b"abc", {"n": 1}])
def test_one_thing_is_not_several_inputs(one: object) -> None:
    with pytest.raises(TypeError, match="put it into a list"):
        read_inputs(one, "n")
