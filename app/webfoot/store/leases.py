"""Claims that machines share through a bucket: leases, which end by themselves.

A lease is an object that only one can create. Its holder writes it again while it goes on; one that
was not written for a while is dead, and whoever finds it may take it over, one of them. A holder
that could not renew its lease in time is cancelled before anybody can take it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import socket
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.errors import Error, ServerBusy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from webfoot.store.bucket import Bucket

# Both times that a bucket's age of an object comes from are cut to whole seconds.
_CLOCK_S = 1.0
# A renewal may fail this often, less one, before its lease ends.
_RENEWALS = 3
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 1.0

_log = logging.getLogger(__name__)


@dataclass
class _Lease:
    """A lease that is held.

    Args:
        name: The object's.
        etag: What it was tagged when it was last written.
        until: When it ends unless it is renewed, by the clock of the event loop.
    """

    name: str
    etag: str
    until: float


class Leases:
    """Which keys are held, among all processes that use a bucket.

    Args:
        bucket: Where the leases are.
        seconds: How long a holder that died keeps the others waiting.
    """

    def __init__(self, bucket: Bucket, seconds: float) -> None:
        self._bucket = bucket
        self._seconds = seconds
        self._holder = f"{socket.gethostname()} {uuid.uuid4().hex}"
        self._leaving: set[asyncio.Task[None]] = set()
        self._conditions_checked = False

    @contextlib.asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Be the only one that holds `key` until the end of the block.

        Raises:
            ServerBusy: If the lease ended meanwhile, as the bucket could not be reached.
        """
        loop = asyncio.get_running_loop()
        lease = await self._take(f"claims/{key}")
        done = asyncio.Event()
        limit = asyncio.timeout_at(lease.until)
        try:
            async with limit:
                renewing = asyncio.create_task(self._renew(lease, limit, done))
                try:
                    yield
                finally:
                    done.set()
                    # A renewal under way ends first, so that the lease that is removed is its.
                    await asyncio.wait({renewing}, timeout=max(lease.until - loop.time(), 0))
        except TimeoutError:
            if not limit.expired():
                raise
            raise ServerBusy(
                "the run was stopped, as the store could not be told in time that it goes on;"
                " try again"
            ) from None
        finally:
            renewing.cancel()
            if loop.time() < lease.until:
                await self._finish(self._release(lease))

    async def _take(self, name: str) -> _Lease:
        """Take the lease as soon as nobody has it."""
        wait = _FIRST_WAIT_S
        while True:
            lease = await self._try(name, self._bucket.create(name, self._content()))
            if lease is not None:
                await self._check_conditions(lease)
                return lease
            while (found := await self._bucket.head(name)) is not None:
                if found.age_s > self._seconds + _CLOCK_S:
                    taking = self._bucket.replace(name, self._content(), found.etag)
                    lease = await self._try(name, taking)
                    if lease is not None:
                        _log.warning("took over a run whose server is gone: %s", name)
                        return lease
                # Not all at the same moment.
                await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  # nosec B311  # no secret
                wait = min(wait * 1.5, _LONGEST_WAIT_S)

    async def _try(self, name: str, writing: Awaitable[str | None]) -> _Lease | None:
        """The lease, if `writing` its object succeeds."""
        until = asyncio.get_running_loop().time() + self._seconds
        written = asyncio.ensure_future(writing)
        try:
            etag = await asyncio.shield(written)
        except asyncio.CancelledError:
            # It may yet be written, and nobody would hold it.
            self._start(self._abandon(name, written, until))
            raise
        return None if etag is None else _Lease(name, etag, until)

    async def _abandon(self, name: str, written: Awaitable[str | None], until: float) -> None:
        etag = await written
        if etag is not None:
            await self._release(_Lease(name, etag, until))

    async def _renew(self, lease: _Lease, limit: asyncio.Timeout, done: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), self._seconds / _RENEWALS)
            if done.is_set():
                return
            sent = loop.time()
            try:
                etag = await self._bucket.replace(lease.name, self._content(), lease.etag)
            except Error:  # Logged already; the next attempt may succeed in time.
                continue
            # Without a tag, somebody else has it, or it was removed by hand.
            lease.until = loop.time() if etag is None else sent + self._seconds
            lease.etag = etag or lease.etag
            if not done.is_set() and not limit.expired():
                limit.reschedule(lease.until)
            if etag is None:
                return

    async def _release(self, lease: _Lease) -> None:
        # Whoever waits finds it dead in the end.
        with contextlib.suppress(Error):
            await self._bucket.remove(lease.name, lease.etag)

    async def _finish(self, releasing: Awaitable[None]) -> None:
        """Go on with it even if who waits for it is cancelled."""
        await asyncio.shield(self._start(releasing))

    def _start(self, work: Awaitable[None]) -> asyncio.Task[None]:
        async def whole() -> None:
            await work

        task = asyncio.create_task(whole())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def _check_conditions(self, lease: _Lease) -> None:
        """Tell whoever runs the server if the bucket lets two create the same object."""
        if self._conditions_checked:
            return
        self._conditions_checked = True
        etag = await self._bucket.create(lease.name, self._content())
        if etag is not None:
            lease.etag = etag
            _log.error(
                "the S3 server ignores conditional writes (If-None-Match): servers that share the"
                " store may run the same call twice; let one alone use it, or change to a server"
                " that has them"
            )

    def _content(self) -> bytes:
        """Other bytes each time, so that each write has its own tag."""
        return json.dumps({"holder": self._holder, "write": uuid.uuid4().hex}).encode()
