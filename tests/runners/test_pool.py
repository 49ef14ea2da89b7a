"""Which real worker processes are kept, and which are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pyarrow.parquet as pq
import pytest
from tests.harm import LIMIT, UDFS, gone

from webfoot import registry, sources
from webfoot.errors import Error, RunCancelled, UdfTimeout, UdfUnavailable
from webfoot.runners import NoCalls, pool
from webfoot.runners.jobs import UdfJob
from webfoot.runners.processes import ProcessRunner
from webfoot.runners.slots import Queue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harm import Place


def test_a_worker_with_a_busy_thread_is_replaced(place: Place) -> None:
    place.succeeds("leave_busy_thread")

    async def pids() -> set[int]:
        found = set()
        for _ in range(6):
            await asyncio.sleep(0.1)
            _, target, _ = await place.run(place.job("pid"))
            found.add(pq.read_table(target)["pid"][0].as_py())
        return found

    place.loop.run(pids())
    time.sleep(0.3)
    for pid in place.loop.run(pids()):
        with contextlib.suppress(psutil.NoSuchProcess):
            assert psutil.Process(pid).cpu_percent(0.2) < 50


def test_an_idle_worker_that_died_is_replaced(place: Place) -> None:
    async def kill() -> list[int]:
        for worker in list(place.runner._pool._idle):
            worker.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(
                os.waitid, os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT
            )
        return [await place.rows("next") for _ in range(4)]

    assert place.loop.run(kill()) == [3, 3, 3, 3]


def test_workers_are_recycled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_RUNS_A_WORKER", 2)

    async def pids() -> list[int]:
        found = []
        for _ in range(5):
            _, target, _ = await place.run(place.job("pid"))
            found.append(pq.read_table(target)["pid"][0].as_py())
        return found

    found = place.loop.run(pids())
    assert max(found.count(pid) for pid in found) <= 2


def test_a_worker_that_keeps_memory_is_replaced(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_KEPT_BYTES", 1)

    async def pids() -> set[int]:
        found = set()
        for _ in range(2):
            _, target, _ = await place.run(place.job("pid"))
            found.add(pq.read_table(target)["pid"][0].as_py())
        return found

    assert len(place.loop.run(pids())) == 2


def test_old_code_finishes_while_new_code_runs(
    place: Place, tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    text = """
        import time
        from pathlib import Path
        @udf
        def slow(until: str) -> list[dict[str, str]]:
            Path(until + "-begun").touch()
            while not Path(until).exists():
                time.sleep(0.01)
            return [{"code": "old"}]
    """
    old = registry.load(sources.read(write_files(tmp_path / "live", slow=text)))
    new = registry.load(
        sources.read(write_files(tmp_path / "live", slow=text.replace("old", "new")))
    )

    async def change() -> list[str]:
        await place.runner.use(old)
        gate, opened = tmp_path / "gate", tmp_path / "opened"
        opened.touch()
        began = UdfJob(old["slow"], json.dumps({"until": str(gate)}), 20, LIMIT)
        slow = asyncio.create_task(place.run(began))
        while not gate.with_name("gate-begun").exists():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.01)
        await place.runner.use(new)
        at_once = json.dumps({"until": str(opened)})
        quick = await place.run(UdfJob(new["slow"], at_once, 20, LIMIT))
        assert not slow.done()
        # A call that was understood before the change, and begins after it, runs what it meant.
        late = await place.run(UdfJob(old["slow"], at_once, 20, LIMIT))
        gate.touch()
        answers = [await slow, quick, late]
        await place.runner.use(place.registry)
        return [pq.read_table(target)["code"][0].as_py() for _, target, _ in answers]

    assert place.loop.run(change()) == ["old", "new", "old"]


def test_a_file_that_raises_at_import_fails_its_calls_only(
    place: Place, tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    well = "@udf\ndef well() -> list[dict[str, int]]:\n    return [{'n': 1}]\n"
    # It raises in workers only, so that the registry here serves it.
    broken = "import os, sys\nif 'pytest' not in sys.modules: raise OSError('not here')\n"
    broken += "@udf\ndef broken() -> list[dict[str, int]]:\n    return []\n"
    files = write_files(tmp_path / "half", broken=broken, well=well)
    loaded = registry.load(sources.read(files))

    async def call() -> Error:
        await place.runner.use(loaded)
        with pytest.raises(UdfUnavailable) as caught:
            await place.run(UdfJob(loaded["broken"], "{}", 20, LIMIT))
        draft, _, _ = await place.run(UdfJob(loaded["well"], "{}", 20, LIMIT))
        assert draft.rows == 1
        await place.runner.use(place.registry)
        return caught.value

    assert "OSError: not here" in place.loop.run(call()).detail


def test_a_killed_run_leaves_no_files(
    place: Place, tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    text = """
        import pathlib, time
        @udf
        def fill(folder: pathlib.Path) -> list[dict[str, int]]:
            (folder / "big").write_bytes(b"x" * 1_000_000)
            time.sleep(30)
    """
    loaded = registry.load(sources.read(write_files(tmp_path / "filling", fill=text)))
    staging = tmp_path / "staging"
    staging.mkdir()

    async def fill() -> None:
        await place.runner.use(loaded)
        job = UdfJob(loaded["fill"], "{}", 0.5, LIMIT)
        with pytest.raises(UdfTimeout):
            await place.runner.run(job, staging / "run.parquet", staging / "run.log", NoCalls())
        await asyncio.gather(*place.runner._pool._ending)
        await place.runner.use(place.registry)

    if not loaded["fill"].parameters.injected:
        pytest.skip("no parameter of this version is a temporary folder")
    place.loop.run(fill())
    assert list(staging.iterdir()) == []


def test_workers_spill_into_folders_of_their_own(place: Place) -> None:
    """DuckDBs that share a temporary folder overwrite each other's files, and crash."""
    folders = {str(worker._temp) for worker in place.runner._pool.alive}
    assert len(folders) == len(place.runner._pool.alive) > 1


def test_closing_leaves_no_process_and_no_file(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    loaded = registry.load(sources.read(write_files(tmp_path / "harmful", harm=UDFS)))

    async def close() -> list[int]:
        runner = ProcessRunner(2, Queue(4), tmp_path / "temp")
        await runner.use(loaded)
        job = UdfJob(loaded["loop"], "{}", 20, LIMIT)
        running = asyncio.create_task(
            runner.run(job, tmp_path / "a.parquet", tmp_path / "a.log", NoCalls())
        )
        await asyncio.sleep(1)
        pids = [worker.process.pid for worker in runner._pool.alive]
        await runner.close()
        with pytest.raises(Error):
            await running
        with pytest.raises(RunCancelled):
            await runner.run(job, tmp_path / "b.parquet", tmp_path / "b.log", NoCalls())
        await runner.close()
        return pids

    pids = asyncio.run(close())
    assert len(pids) == 3
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert list(tmp_path.glob("temp/*")) == []


def test_a_killed_server_leaves_no_worker(tmp_path: Path, write_files: Callable[..., Path]) -> None:
    write_files(tmp_path / "harmful", harm=UDFS)
    script = f"""
import asyncio
from pathlib import Path
from webfoot import registry, sources
from webfoot.runners import NoCalls
from webfoot.runners.jobs import UdfJob
from webfoot.runners.processes import ProcessRunner
from webfoot.runners.slots import Queue
root = Path({str(tmp_path)!r})
loaded = registry.load(sources.read(root / "harmful"))
async def main():
    runner = ProcessRunner(2, Queue(4), root / "temp")
    await runner.use(loaded)
    note = root / "note"
    job = UdfJob(loaded["note_and_loop"], f'{{{{"path": "{{note}}"}}}}', 60, 10**9)
    asyncio.ensure_future(runner.run(job, root / "a.parquet", root / "a.log", NoCalls()))
    while not note.exists():
        await asyncio.sleep(0.01)
    print(*(worker.process.pid for worker in runner._pool.alive), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pids = [int(pid) for pid in server.stdout.readline().split()]
        server.kill()
    assert len(pids) == 3
    assert all(gone(pid) for pid in pids)
