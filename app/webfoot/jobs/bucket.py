"""Jobs in a bucket, for servers and instances that share nothing else.

    jobs/ID.json           the job, written by the server that runs it
    jobs/once/HASH         the id for which a key stands
    jobs/running/ID        which server runs it; gone when it has ended
    jobs/servers/SERVER    written again and again by a server that runs some
    jobs/wishes/ID/WHAT    `cancel`; or how many seconds somebody waits, after it was written

Jobs that ended go by the bucket's own rule, as results do.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING

from webfoot.errors import Error
from webfoot.jobs import read_job, write_job
from webfoot.jobs.records import Wish
from webfoot.results import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.jobs import Job
    from webfoot.store.bucket import Body, Bucket

# A server writes again after so long that it lives, and is dead after the longer time without.
_LIVE_EACH_S = 5.0
_DEAD_AFTER_S = 20.0
_REMEMBERED = 100
_ID = re.compile(r"[0-9a-f]{16}")


class BucketRecords:
    """Jobs in a bucket; see `webfoot.jobs.records.JobRecords`.

    Args:
        bucket: The bucket, which honours conditional writes.
    """

    look_s = 2.0

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._server = uuid.uuid4().hex
        self._lived_at = -_LIVE_EACH_S
        # Whoever waits asks again and again: what has not changed is not sent again.
        self._known: OrderedDict[str, Body] = OrderedDict()

    async def add(self, job: Job, once: str | None) -> Job:
        """Write the job, then the key: who finds a key finds its job."""
        await self._live()
        await self._bucket.write(_name(job.id), write_job(job).encode())
        if once is not None and (other := await self._take(once, job)) is not None:
            await self._bucket.drop([_name(job.id)])
            return other
        await self._bucket.write(f"jobs/running/{job.id}", self._server.encode())
        return job

    async def free(self, once: str, job: Job) -> None:
        """Remove the key's object, if it is still the job's."""
        name = _name_of_key(once)
        body = await self._bucket.get(name)
        if body is not None and body.data == job.id.encode():
            await self._bucket.remove(name, body.etag)

    async def find(self, id: str) -> Job | None:  # noqa: A002  # it is one
        """Read it, if it has changed; what cannot be read counts as none."""
        if not _ID.fullmatch(id):
            return None
        body = await self._bucket.get(_name(id), self._known.get(id))
        if body is None:
            return None
        self._known[id] = body
        self._known.move_to_end(id)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        with contextlib.suppress(ValueError):
            return read_job(body.data)
        return None

    async def keep(self, job: Job) -> None:
        """Write it anew; with its end, what was for its server alone goes."""
        await self._bucket.write(_name(job.id), write_job(job).encode())
        if job.over:
            wishes = await self._bucket.list(f"jobs/wishes/{job.id}/")
            await self._bucket.drop([f"jobs/running/{job.id}", *wishes])

    async def cancel(self, job: Job) -> None:
        """Write the wish."""
        await self._bucket.write(f"jobs/wishes/{job.id}/cancel", b"")

    async def wait_for(self, job: Job, seconds: float) -> None:
        """Write the wish; from when it was written the bucket knows."""
        await self._bucket.write(f"jobs/wishes/{job.id}/{seconds:.3f}", b"")

    async def wishes(self) -> Mapping[str, Wish]:
        """List them, of all servers' jobs; and tell the others that this server lives."""
        await self._live()
        found: dict[str, Wish] = {}
        for name, age_s in (await self._bucket.list("jobs/wishes/")).items():
            id, what = name.split("/")[-2:]  # noqa: A001  # it is one
            before = found.get(id, Wish())
            if what == "cancel":
                found[id] = Wish(cancelled=True, waits_s=before.waits_s)
            else:
                left_s = max(before.waits_s, float(what) - age_s)
                found[id] = Wish(before.cancelled, left_s)
        return found

    async def unfinished(self) -> list[Job]:
        """List them; what a server has left that died as its job ended goes."""
        found = []
        for name in await self._bucket.list("jobs/running/"):
            job = await self.find(name.rpartition("/")[2])
            if job is not None and not job.over:
                found.append(job)
            else:
                await self._bucket.drop([name])
        return found

    async def take_over(self, job: Job) -> bool:
        """Put this server's name in place of that of one that lives no longer."""
        name = f"jobs/running/{job.id}"
        body = await self._bucket.get(name)
        if body is None or await self._lives(body.data.decode(errors="replace")):
            return False
        await self._live()
        # None if another server was faster.
        return await self._bucket.replace(name, self._server.encode(), body.etag) is not None

    async def close(self) -> None:
        """Say that the server lives no longer; without that, it counts as dead in a while."""
        with contextlib.suppress(Error):
            await self._bucket.drop([f"jobs/servers/{self._server}"])

    async def _take(self, once: str, job: Job) -> Job | None:
        """Have a key stand for `job`; the other one, if it stands for that."""
        name = _name_of_key(once)
        while await self._bucket.create(name, job.id.encode()) is None:
            body = await self._bucket.get(name)
            if body is None:
                continue  # It was freed this moment.
            other = await self.find(body.data.decode(errors="replace"))
            if other is not None:
                return other
            await self._bucket.remove(name, body.etag)
        return None

    async def _live(self) -> None:
        if time.monotonic() - self._lived_at >= _LIVE_EACH_S:
            self._lived_at = time.monotonic()
            await self._bucket.write(f"jobs/servers/{self._server}", b"")

    async def _lives(self, server: str) -> bool:
        if server == self._server:
            return True
        head = await self._bucket.head(f"jobs/servers/{server}")
        return head is not None and head.age_s < _DEAD_AFTER_S


def _name(id: str) -> str:  # noqa: A002  # it is one
    return f"jobs/{id}.json"


def _name_of_key(once: str) -> str:
    return f"jobs/once/{digest(once)}"
