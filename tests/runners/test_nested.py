"""What comes of calls that a run makes: in order of completion, and always to an end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from webfoot.errors import Error, FanoutLimit, RunCancelled, ServerBusy, UdfFailed
from webfoot.runners import Answered
from webfoot.runners.nested import Answers
from webfoot.tables.conversion import to_batches
from webfoot.tables.parquet import write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(to_batches(pa.table({"a": [1]})), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def nothing() -> None:
    """For answers that nobody stops."""


def test_outcomes_come_as_they_are_heard(path: Path) -> None:
    answers = Answers([{"n": 0}, {"n": 1}], nothing)
    answers.hear(Answered(1, path))
    answers.hear(Answered(0, problem=UdfFailed("no").problem()))
    answers.hear(None)
    second, first = answers
    assert (second.index, second.input) == (1, {"n": 1})
    assert second.table is not None
    assert second.table.arrow().to_pydict() == {"a": [1]}
    assert isinstance(first.error, UdfFailed)
    assert list(answers) == []


def test_an_error_of_the_whole_is_raised_each_time(path: Path) -> None:
    answers = Answers([{}, {}], nothing)
    answers.hear(Answered(0, path))
    answers.hear(FanoutLimit("too many"))
    next(answers)
    for _ in range(2):
        with pytest.raises(FanoutLimit, match="too many"):
            next(answers)


def test_what_is_cancelled_ends_with_an_error(path: Path) -> None:
    stopped = []
    answers = Answers([{"n": n} for n in range(3)], lambda: stopped.append(1))
    answers.hear(Answered(1, path))
    next(answers)
    answers.cancel()
    answers.cancel()
    left = list(answers)
    assert [outcome.index for outcome in left] == [0, 2]
    assert all(isinstance(outcome.error, RunCancelled) for outcome in left)
    assert stopped == [1]


def test_who_waits_on_another_thread_is_woken_by_cancelling() -> None:
    answers = Answers([{}], nothing)
    found: list[Error | None] = []
    waiting = threading.Thread(target=lambda: found.extend(o.error for o in answers))
    waiting.start()
    answers.cancel()
    waiting.join(10)
    assert isinstance(found[0], RunCancelled)


def test_cancelling_after_the_end_stops_nobody() -> None:
    answers = Answers([], lambda: pytest.fail("there is nothing to stop"))
    answers.hear(None)
    assert list(answers) == []
    answers.cancel()


def test_a_result_that_was_evicted_before_it_is_read_is_an_error_of_its_own(path: Path) -> None:
    answers = Answers([{"n": 0}, {"n": 1}], nothing)
    answers.hear(Answered(0, path.with_name("gone.parquet")))
    answers.hear(Answered(1, path))
    answers.hear(None)
    gone, there = answers
    assert isinstance(gone.error, ServerBusy)
    assert "evicted" in gone.error.detail
    assert there.error is None
