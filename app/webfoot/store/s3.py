"""A store in a bucket, which any number of machines may share.

    calls/9c41….json          by key: the newest result, and the newest failure
    objects/9c/9c41….parquet  bytes, named by their SHA-256
    claims/9c41…              leases, held while a key runs; see `webfoot.store.leases`
    uses/9c41…                that a result which is about to expire is still being read

An object appears whole or not at all, and the entry that names it after it. Nothing is ever listed,
and nothing removed but leases: a lifecycle rule of the bucket's does that, by age.

Every request asks the bucket for the entry of its call, so that all servers tell the same; the
bytes are kept here. Entries are written by whoever holds the claim, so that the last writer wins. A
failure is the exception: it is added to an entry, and must not undo one that is newer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from webfoot.errors import Error, ServerBusy, SettingsError, StorageFull
from webfoot.files import is_disk_full
from webfoot.results import Failure, Known, Result, from_json, to_json
from webfoot.store import Holdings, Link
from webfoot.store.blobs import BlobMemory, FileBlob, MemoryBlob
from webfoot.store.bucket import Body, Head
from webfoot.store.cached import CachedFiles
from webfoot.store.leases import Leases
from webfoot.store.locks import make_own_folder, remove_abandoned
from webfoot.views import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from webfoot.results import Draft, Entry
    from webfoot.store import Blob
    from webfoot.store.bucket import Bucket

# A holder that was killed keeps others waiting this long; renewing it costs a write each third.
_LEASE_S = 15.0
_MEMORY_BYTES = 64_000_000
_MEMORY_PIECE = 256_000
_REMEMBERED = 10_000
# What was there is taken to be there this long: only the lifecycle rule takes anything away.
_THERE_S = 60.0
# An object older than this is written again when a run gives the same bytes: the lifecycle rule
# counts from then.
_RENEW_FROM_S = 86_400.0
_LINK_S = 3_600.0
# Readers of ranges come back within this time; so long before its end others are told of them.
_RANGE_PAUSE_S = 30.0
_SHARE_USE_EACH_S = 5.0
_ADDING_ATTEMPTS = 5

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class _Seen:
    """An object that was there, and when it was looked at."""

    head: Head
    at: float


@dataclass(frozen=True)
class _Signed:
    """A link, and until when it may be given out."""

    link: Link
    until: float


class S3Store:
    """A store in a bucket.

    Args:
        bucket: The bucket, which honours conditional writes (If-None-Match, If-Match).
        max_bytes: How much of it is kept on this machine, at most half of what is free there.
        lease_s: How long a server that died keeps others from running what it ran, in seconds.

    Raises:
        SettingsError: If this machine's temporary folder cannot be used.
    """

    def __init__(self, bucket: Bucket, max_bytes: int, lease_s: float = _LEASE_S) -> None:
        self._bucket = bucket
        self._leases = Leases(bucket, lease_s)
        self._memory = BlobMemory(_MEMORY_BYTES, _MEMORY_PIECE)
        self._known: OrderedDict[str, tuple[Body, Known]] = OrderedDict()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._links: OrderedDict[tuple[str, str, str], _Signed] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()
        self._shared: OrderedDict[str, float] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[Path | None]] = {}
        self._opened = contextlib.ExitStack()
        self._opened.callback(bucket.close)
        try:
            self._folder, alive = _own_folder()
            self._opened.callback(os.close, alive)
            self._opened.callback(shutil.rmtree, self._folder, ignore_errors=True)
            for name in ("staging", "objects"):
                (self._folder / name).mkdir()
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise SettingsError(
                f"the temporary folder {tempfile.gettempdir()} cannot be used: {error.strerror};"
                " set TMPDIR to another"
            ) from error
        self._files = CachedFiles(self._folder / "objects", min(max_bytes, free // 2))

    async def find(self, key: str) -> Known:
        """What there is under `key`; what cannot be read counts as nothing."""
        before = self._known.get(key)
        body = await self._bucket.get(_entry_name(key), before[0] if before else None)
        if body is None:
            return Known()
        if before is not None and body is before[0]:
            self._known.move_to_end(key)
            return before[1]
        _remember(self._known, key, (body, _read(body.data)))
        return self._known[key][1]

    def revision(self) -> None:
        """None: a bucket would have to be asked."""

    def claim(self, key: str) -> AbstractAsyncContextManager[None]:
        """Hold the key's lease."""
        return self._leases.hold(key)

    def stage(self, run: str, extension: str) -> Path:
        """A path in this process' own temporary folder."""
        return self._folder / "staging" / f"{run}.{extension}"

    async def put(self, draft: Draft, extension: str, staged: Path) -> None:
        """Upload the bytes; whoever publishes them fetches what it needs of them."""
        await self._upload(draft, extension, staged)

    async def publish(self, result: Result, staged: Path | None) -> None:
        """Upload the bytes, then the entry that names them; keep the file here."""
        if staged is not None:
            await self._upload(result, result.extension, staged)
        data = _write(Known(result))
        tag = await self._bucket.write(_entry_name(result.key), data)
        _remember(self._known, result.key, (Body(tag, data), Known(result)))
        if staged is not None:
            with _disk_errors():
                self._files.add(_file_name(result), staged)

    async def _upload(self, file: Draft | Result, extension: str, staged: Path) -> None:
        name = _name_of_bytes(file.etag, extension)
        media_type = MEDIA_TYPES.get(extension, "application/octet-stream")
        tag = await self._bucket.upload(name, staged, file.etag, media_type)
        head = Head(tag, file.size, 0.0) if tag else await self._bucket.head(name)
        if head is None or head.age_s > _RENEW_FROM_S:
            head = Head(await self._bucket.renew(name, staged, media_type), file.size, 0.0)
        _remember(self._seen, name, _Seen(head, time.monotonic()))

    async def remember(self, failure: Failure) -> None:
        """Add a failure to the entry, whatever it is by now; if the bucket is away, it is lost."""
        name = _entry_name(failure.key)
        with contextlib.suppress(Error):
            for _ in range(_ADDING_ATTEMPTS):
                body = await self._bucket.get(name)
                known = _read(body.data) if body is not None else Known()
                data = _write(replace(known, failure=failure))
                if body is None:
                    written = await self._bucket.create(name, data)
                else:
                    written = await self._bucket.replace(name, data, body.etag)
                if written is not None:
                    return

    async def open(self, result: Result) -> Blob | None:
        """Open the bytes: those kept here, or else ranges of the object."""
        name = _object_name(result)
        await self._use(result)
        if (remembered := self._memory.get(name)) is not None:
            return remembered
        if (path := self._files.find(_file_name(result))) is not None:
            with contextlib.suppress(FileNotFoundError):  # Somebody cleans temporary folders.
                return FileBlob(os.open(path, os.O_RDONLY | os.O_CLOEXEC), result.size)
        if await self._look(result) is None:
            return None
        if not self._memory.takes(result.size):
            return _RangesBlob(self._bucket, name, result.size)
        body = await self._bucket.get(name)
        if body is None or len(body.data) != result.size:
            self._forget(name)
            return None
        self._memory.keep(name, body.data)
        return MemoryBlob(body.data)

    async def link(self, result: Result, media_type: str, encoding: str) -> Link | None:
        """A presigned URL of the object."""
        head = await self._look(result)
        if head is None:
            return None
        await self._use(result)
        name, now = _object_name(result), time.monotonic()
        signed = self._links.get((name, media_type, encoding))
        # The same one for half of its life, so that those who cache do so by it.
        if signed is None or signed.until < now or signed.link.etag != head.etag:
            url = await self._bucket.sign(name, _LINK_S, media_type, encoding)
            signed = _Signed(Link(url, head.etag, _LINK_S / 2), now + _LINK_S / 2)
            _remember(self._links, (name, media_type, encoding), signed)
        return signed.link

    async def keep(self, result: Result) -> bool:
        """Fetch the bytes if they are not here; False if they are gone."""
        return await self._fetch(result) is not None

    async def last_used(self, result: Result) -> float:
        """When anybody last read it, as far as it matters who; 0 if its bytes are gone."""
        if await self._look(result) is None:
            return 0.0
        now = time.time()
        used = max(self._used.get(result.etag, 0.0), result.created)
        if now < result.expires - _RANGE_PAUSE_S or now - used < _SHARE_USE_EACH_S:
            return used
        head = await self._bucket.head(_use_name(result))
        return used if head is None else max(used, now - head.age_s)

    async def relieve(self) -> None:
        """Let go of half of what is kept here."""
        self._files.shrink(self._files.size // 2)

    async def local_path(self, result: Result) -> Path:
        """A copy here, fetched if need be."""
        return await self._fetch(result) or self._files.path(_file_name(result))

    def holdings(self) -> Holdings:
        """What is kept here of the bucket."""
        return Holdings(self._files.size, self._files.removed)

    def close(self) -> None:
        """Remove this process' temporary folder."""
        self._opened.close()

    async def _look(self, result: Result) -> Head | None:
        """The object's head, if it is there; what was there a moment ago still is."""
        name, now = _object_name(result), time.monotonic()
        seen = self._seen.get(name)
        if seen is not None and now - seen.at < _THERE_S:
            return seen.head
        head = await self._bucket.head(name)
        if head is None or head.size != result.size:
            self._forget(name)
            return None
        _remember(self._seen, name, _Seen(head, now))
        return head

    def _forget(self, name: str) -> None:
        self._seen.pop(name, None)
        self._memory.drop(name)

    async def _use(self, result: Result) -> None:
        """Note that the result is read; near its end, and behind it, for other servers, too."""
        now = time.time()
        _remember(self._used, result.etag, now)
        shared = self._shared.get(result.etag, 0.0)
        if now < result.expires - _RANGE_PAUSE_S or now - shared < _SHARE_USE_EACH_S:
            return
        _remember(self._shared, result.etag, now)
        await self._bucket.write(_use_name(result), b"")

    async def _fetch(self, result: Result) -> Path | None:
        """The file here, fetched once for all who ask; None if the object is gone."""
        name = _file_name(result)
        _remember(self._used, result.etag, time.time())
        path = self._files.find(name)
        if path is not None and path.exists():
            return path
        task = self._fetching.get(name)
        if task is None:
            task = self._fetching[name] = asyncio.create_task(self._download(result))
            task.add_done_callback(lambda task: self._fetched(name, task))
        return await asyncio.shield(task)

    def _fetched(self, name: str, task: asyncio.Task[Path | None]) -> None:
        del self._fetching[name]
        if not task.cancelled():
            task.exception()  # Those who asked may all have gone.

    async def _download(self, result: Result) -> Path | None:
        name = _file_name(result)
        draft = self.stage(f"fetched-{result.etag}", result.extension)
        with _disk_errors():
            try:
                there = await self._bucket.download(_object_name(result), draft)
                if there and draft.stat().st_size == result.size:
                    return self._files.add(name, draft)
            finally:
                draft.unlink(missing_ok=True)
        self._forget(_object_name(result))
        return None


class _RangesBlob:
    """An object, of which only what is read is fetched."""

    def __init__(self, bucket: Bucket, name: str, size: int) -> None:
        self._bucket = bucket
        self._name = name
        self.size = size

    async def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        if start >= self.size:
            return b""
        data = await self._bucket.read(self._name, start, length)
        if not data:
            raise ServerBusy("the result was removed while it was read; try again")
        return data

    def close(self) -> None:
        """Nothing to let go."""


def _own_folder() -> tuple[Path, int]:
    """A temporary folder of this process'; those of processes that died are removed."""
    parent = Path(tempfile.gettempdir()) / f"webfoot-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    if parent.is_symlink() or parent.stat().st_uid != os.getuid():
        raise PermissionError(errno.EACCES, f"{parent} is another user's")
    remove_abandoned(parent)
    return make_own_folder(parent)


def _entry_name(key: str) -> str:
    return f"calls/{key}.json"


def _object_name(result: Result) -> str:
    return _name_of_bytes(result.etag, result.extension)


def _name_of_bytes(etag: str, extension: str) -> str:
    return f"objects/{etag[:2]}/{etag}.{extension}"


def _use_name(result: Result) -> str:
    return f"uses/{result.etag}"


def _file_name(result: Result) -> str:
    return f"{result.etag}.{result.extension}"


def _remember(memory: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Set `key`; the least lately set goes."""
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _write(known: Known) -> bytes:
    entries: dict[str, Entry | None] = {"result": known.result, "failure": known.failure}
    told = {name: json.loads(to_json(entry)) for name, entry in entries.items() if entry}
    return json.dumps(told, separators=(",", ":")).encode()


def _read(data: bytes) -> Known:
    known = Known()
    with contextlib.suppress(ValueError, AttributeError):
        for entry in json.loads(data).values():
            read = from_json(json.dumps(entry))
            changes = {"result": read} if isinstance(read, Result) else {"failure": read}
            known = replace(known, **changes)
    return known


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageFull(
                "the disk for temporary files is full; free some space, or set a smaller store"
            ) from error
        raise Error(
            f"the temporary folder cannot be written ({error.strerror}); set TMPDIR to another"
        ) from error
