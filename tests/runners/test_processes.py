"""What runs that mean harm do to others, in real worker processes: nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from tests.harm import LIMIT, gone

from webfoot.errors import ServerBusy, UdfFailed
from webfoot.results import Column
from webfoot.runners.jobs import ViewJob
from webfoot.views import View

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harm import Place


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("sys_exit", "SystemExit: enough"),
        ("interrupt", "KeyboardInterrupt"),
        ("raise_silent", "Silent"),
    ],
)
def test_an_exception_of_any_kind_fails_its_call_only(place: Place, name: str, detail: str) -> None:
    error = place.fails(name)
    assert isinstance(error, UdfFailed)
    assert error.detail == detail
    assert "harm.py" in (error.traceback or "")


def test_deep_recursion_is_an_error_of_the_udf(place: Place) -> None:
    assert "RecursionError" in place.fails("recurse").detail


def test_a_long_message_is_cut(place: Place) -> None:
    error = place.fails("raise_much")
    assert len(error.detail) < 20_000
    assert len(error.traceback or "") < 20_000


@pytest.mark.parametrize("name", ["fork_and_return", "fork_in_batches", "fork_and_raise"])
def test_a_fork_leaves_one_sound_result(place: Place, name: str) -> None:
    draft, target, _ = place.succeeds(name)
    table = pq.read_table(target)
    assert table.num_rows == draft.rows
    assert draft.size == target.stat().st_size
    if name == "fork_and_return":
        assert table["number"][0].as_py() > 0, "the parent's result, not the child's"


@pytest.mark.parametrize("name", ["leave_subprocess", "leave_daemon"])
def test_a_process_left_behind_is_killed(place: Place, name: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    place.succeeds(name, f'{{"path": "{note}"}}')
    assert gone(int(note.read_text()))


@pytest.mark.parametrize("name", ["leave_thread", "change_much", "patch_builtins"])
def test_what_a_run_leaves_does_not_reach_the_next(place: Place, name: str) -> None:
    for _ in range(2):
        place.succeeds(name)


def test_a_view_is_written_by_a_worker(place: Place) -> None:
    async def view() -> str:
        _, source, _ = await place.run(place.job("next"))
        columns = (Column("number", "int64"),)
        _, target, _ = await place.run(ViewJob(View("csv"), source, columns, 20.0, LIMIT))
        return target.read_text()

    assert place.loop.run(view()).splitlines() == ["number", "1", "1", "1"]


def test_a_cancelled_run_is_killed(place: Place) -> None:
    async def cancel() -> None:
        before = {worker.process.pid for worker in place.runner._pool.alive}
        running = asyncio.create_task(place.run(place.job("loop")))
        await asyncio.sleep(0.3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await place.rows("next") == 3
        killed = before - {worker.process.pid for worker in place.runner._pool.alive}
        assert all([await asyncio.to_thread(gone, pid) for pid in killed])
        assert killed

    place.loop.run(cancel())


def test_a_full_queue_refuses_at_once(place: Place) -> None:
    async def crowd() -> list[object]:
        calls = (place.rows("neighbour") for _ in range(8))
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = place.loop.run(crowd())
    busy = [answer for answer in answers if isinstance(answer, ServerBusy)]
    assert answers.count(5) == 6, "two run and four wait"
    assert len(busy) == 2
