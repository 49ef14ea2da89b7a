"""Jobs in a folder."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from webfoot.jobs import folder, new_job
from webfoot.jobs.folder import FolderRecords
from webfoot.results import Call

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CALL = Call("hourly", "version", '{"n":1}')


def test_old_jobs_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_KEPT", 3)
    monkeypatch.setattr(folder, "_SWEEP_EACH", 1)

    async def keep() -> None:
        records = FolderRecords(tmp_path)
        made = [new_job(CALL, 60) for _ in range(8)]
        for number, job in enumerate(made):
            await records.add(job, None)
            # The first goes on, however old it is.
            if number:
                ended = 1.0 if number == 7 else job.created
                await records.keep(type(job)(**vars(job) | {"state": "done", "ended": ended}))
        await records.add(new_job(CALL, 60), None)
        there = [number for number, job in enumerate(made) if await records.find(job.id)]
        # The last ended long ago; three are left of the others, and the one that goes on.
        assert there == [0, 4, 5, 6]
        await records.close()

    asyncio.run(keep())


def test_what_another_version_kept_counts_as_nothing(tmp_path: Path) -> None:
    async def look() -> None:
        records = FolderRecords(tmp_path)
        job = await records.add(new_job(CALL, 60), None)
        records._file.run("UPDATE jobs SET record = '{}'")
        assert await records.find(job.id) is None
        await records.close()

    asyncio.run(look())
