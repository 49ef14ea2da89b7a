"""The records of runs, in a folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from webfoot import runs as run_records
from webfoot.results import Usage
from webfoot.runs import LOG_BYTES, Run, Runs, new_id

if TYPE_CHECKING:
    from pathlib import Path


def run_of(number: int = 1) -> Run:
    return Run(f"{number:016x}", "udf", '{"n":1}', time.time(), 0.5, rows=3)


def test_a_record_is_found_again(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    runs.record(run_of())
    assert Runs(tmp_path / "runs").find(run_of().id) == runs.find(run_of().id)
    found = runs.find(run_of().id)
    assert found is not None
    assert found.rows == 3


@pytest.mark.parametrize("run", ["unknown", "", "../secret", "a/b", "ü", "a" * 300, "a\0b", "."])
def test_what_is_no_run_is_not_found(tmp_path: Path, run: str) -> None:
    assert Runs(tmp_path / "runs").find(run) is None


@pytest.mark.parametrize("text", ["", "{", '{"id": "x", "new_field": 1}', "[1]"])
def test_a_record_that_cannot_be_read_is_not_found(tmp_path: Path, text: str) -> None:
    runs = Runs(tmp_path)
    runs.record(run_of())
    runs._records.run("UPDATE runs SET record = ?", text)
    assert runs.find(run_of().id) is None


def test_all_that_are_kept_are_told_in_order(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    for number in (3, 1, 2):
        runs.record(run_of(number))
    runs._records.run("UPDATE runs SET record = '{' WHERE id = ?", run_of(1).id)
    assert [run.id for run in runs.all()] == [run_of(3).id, run_of(2).id]


def test_a_record_from_before_there_was_metering_is_read(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.record(run_of())
    before = '{"id": "x", "udf": "u", "arguments": "{}", "started": 1, "seconds": 2, "rows": 3}'
    runs._records.run("UPDATE runs SET record = ?", before)
    found = runs.find(run_of().id)
    assert found is not None
    assert (found.kind, found.billed_ms, found.memory_bytes) == ("call", 0, None)


def test_what_a_run_took_is_billed() -> None:
    run = run_of().took(Usage(1.2301, 0.5, 77))
    assert (run.billed_ms, run.cpu_s, run.memory_bytes) == (1231, 0.5, 77)


def test_a_log_is_read_up_to_a_megabyte(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    assert runs.log("abc") == ""
    runs.log_path("abc").write_bytes(b"\xff" + b"x" * LOG_BYTES)
    assert runs.log("abc") == "\ufffd" + "x" * (LOG_BYTES - 1)


def test_only_the_latest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_records, "_KEPT", 20)
    runs = Runs(tmp_path)
    for number in range(100):
        runs.log_path(run_of(number).id).write_text("printed")
        runs.record(run_of(number))
    assert runs.find(run_of(99).id) is not None
    assert runs.find(run_of(0).id) is None
    assert runs._records.run("SELECT count(*) FROM runs") <= [(25,)]
    assert len(list(tmp_path.glob("*.log"))) <= 25


def test_a_full_disk_is_no_error(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    runs.record(run_of(1))
    runs._records.run("PRAGMA max_page_count = 1")
    for number in range(2, 200):
        runs.record(run_of(number))
    assert runs.find(run_of(1).id) is not None
    assert runs.find(run_of(199).id) is None


def test_ids_differ(tmp_path: Path) -> None:
    assert len({new_id() for _ in range(1000)}) == 1000
