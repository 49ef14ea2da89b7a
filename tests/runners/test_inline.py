"""Runs in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pyarrow.parquet as pq
import pytest

from webfoot import registry, sources
from webfoot.errors import UdfFailed, UdfTimeout
from webfoot.results import Usage
from webfoot.runners import NoCalls
from webfoot.runners.inline import InlineRunner
from webfoot.runners.jobs import UdfJob
from webfoot.runners.slots import Queue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from webfoot.results import Draft

UDFS = """
    import os, sys, time
    import duckdb
    import webfoot

    @udf
    def pid() -> list[dict[str, int]]:
        return [{"pid": os.getpid()}]

    @udf
    def slow() -> list[dict[str, int]]:
        while True:
            time.sleep(0.01)

    @udf
    def spins(notes: str) -> list[dict[str, int]]:
        try:
            open(notes + "-begun", "w").close()
            while True:
                try:
                    time.sleep(0.001)
                except Exception:
                    pass
        finally:
            open(notes, "w").close()

    @udf
    def queries(con: duckdb.DuckDBPyConnection, notes: str, own: bool) -> list[dict[str, int]]:
        try:
            with webfoot.cursor() as cursor:
                used = cursor if own else con
                open(notes + "-begun", "w").close()
                used.execute("SELECT sum(a.i + b.i) FROM range(10000000) a(i), range(1000000) b(i)")
        finally:
            open(notes, "w").close()

    @udf
    def interrupt() -> list[dict[str, int]]:
        raise KeyboardInterrupt

    @udf
    def leave() -> list[dict[str, int]]:
        sys.exit(3)

    @udf
    def fork() -> list[dict[str, int]]:
        return [{"pid": os.fork() and os.getpid()}]
"""


@contextlib.asynccontextmanager
async def begun(
    tmp_path: Path,
    write_files: Callable[..., Path],
    name: str,
    timeout_s: float = 20,
    arguments: str = "{}",
) -> AsyncIterator[asyncio.Task[Draft]]:
    loaded = registry.load(sources.read(write_files(tmp_path / "inline_udfs", some=UDFS)))
    runner = InlineRunner(1, Queue(4), tmp_path / "temp")
    await runner.use(loaded)
    job = UdfJob(loaded[name], arguments, timeout_s, 10**9)
    running = runner.run(job, tmp_path / "target.parquet", tmp_path / "log", NoCalls())
    try:
        yield asyncio.ensure_future(running)
    finally:
        await runner.close()


def run(tmp_path: Path, write_files: Callable[..., Path], name: str, timeout_s: float = 20) -> int:
    async def call() -> None:
        async with begun(tmp_path, write_files, name, timeout_s) as running:
            draft = await running
            assert draft.usage.seconds > 0
            assert draft.usage.memory_bytes

    asyncio.run(call())
    return pid_in(tmp_path)


def give_up(
    tmp_path: Path, write_files: Callable[..., Path], name: str, **arguments: object
) -> None:
    """Give a run up that is in the middle of its work, and see that it ends."""
    notes = tmp_path / "ended"
    given = json.dumps({"notes": str(notes)} | arguments)

    async def call() -> None:
        # Their time also has what they import.
        async with begun(tmp_path, write_files, name, 600, given) as running:
            await there(tmp_path / "ended-begun")
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await there(notes)

    asyncio.run(call())


async def there(path: Path) -> None:
    patient_until = time.monotonic() + 30
    while not path.exists():  # noqa: ASYNC240  # a look
        assert time.monotonic() < patient_until, f"{path.name} never came"
        await asyncio.sleep(0.01)


def pid_in(tmp_path: Path) -> int:
    value = pq.read_table(tmp_path / "target.parquet")["pid"][0].as_py()
    return int(value)


def test_a_run_is_in_this_process(tmp_path: Path, write_files: Callable[..., Path]) -> None:
    assert run(tmp_path, write_files, "pid") == os.getpid()


def test_its_memory_is_that_of_this_process(tmp_path: Path) -> None:
    load = InlineRunner(1, Queue(4), tmp_path).load()
    assert load.memory_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert (load.processes, load.running, load.waiting) == (1, 0, 0)


def test_a_time_limit_gives_up(tmp_path: Path, write_files: Callable[..., Path]) -> None:
    with pytest.raises(UdfTimeout, match=r"0\.1s") as caught:
        run(tmp_path, write_files, "slow", 0.1)
    assert caught.value.usage == Usage(0.1)


def test_what_was_given_up_ends_whatever_it_catches(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    give_up(tmp_path, write_files, "spins")


@pytest.mark.parametrize("own", [False, True])
def test_a_query_of_what_was_given_up_is_interrupted(
    tmp_path: Path, write_files: Callable[..., Path], own: bool
) -> None:
    give_up(tmp_path, write_files, "queries", own=own)


@pytest.mark.parametrize("name", ["interrupt", "leave"])
def test_what_would_end_the_process_is_an_error(
    tmp_path: Path, write_files: Callable[..., Path], name: str
) -> None:
    with pytest.raises(UdfFailed):
        run(tmp_path, write_files, name)


def test_a_forked_child_is_no_second_server(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    assert run(tmp_path, write_files, "fork") == os.getpid()


def test_a_udf_from_no_registry_is_refused(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    loaded = registry.load(sources.read(write_files(tmp_path / "inline_udfs", some=UDFS)))
    job = UdfJob(replace(loaded["pid"], code=None), "{}", 20, 10**9)
    with pytest.raises(TypeError, match="get it from one"):
        _ = job.code


GIVEN_UP_IN_IMPORT = """
import asyncio, builtins, sys, threading, time
from pathlib import Path
from webfoot import registry, sources
from webfoot.runners import NoCalls
from webfoot.runners.inline import InlineRunner
from webfoot.runners.jobs import UdfJob
from webfoot.runners.slots import Queue

importing, given_up = threading.Event(), threading.Event()

def slowly(name, *given, imports=builtins.__import__):
    # DuckDB's library asks for it while it makes its types, which it can do once.
    if name == "typing" and "_duckdb" in sys.modules and not importing.is_set():
        importing.set()
        while not given_up.is_set():
            time.sleep(0.001)
    return imports(name, *given)

async def main(root):
    loaded = registry.load(sources.read(root / "udfs"))
    job = UdfJob(loaded["answers"], "{}", 60.0, 10**9)
    runner = InlineRunner(1, Queue(4), root / "temp")
    builtins.__import__ = slowly
    first = asyncio.ensure_future(runner.run(job, root / "1", root / "log", NoCalls()))
    await asyncio.to_thread(importing.wait)
    first.cancel()
    await asyncio.wait([first])
    given_up.set()
    print("given up:", first.cancelled())
    await runner.run(job, root / "2", root / "log", NoCalls())
    await runner.close()
    print("written:", (root / "1").exists(), (root / "2").exists())

asyncio.run(main(Path(sys.argv[1])))
"""
ANSWERS = "@udf\ndef answers() -> list[dict[str, int]]:\n    return [{'n': 1}]\n"


def test_a_first_run_that_is_given_up_in_its_imports_leaves_the_process_well(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    write_files(tmp_path / "udfs", some=ANSWERS)
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_UP_IN_IMPORT, tmp_path],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout.splitlines() == ["given up: True", "written: False True"], done.stderr
