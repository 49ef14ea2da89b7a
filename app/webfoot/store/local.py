"""A store in a folder, which several servers on one machine may share.

    calls/3f/3f2a….json       an entry: the record of a result, or of a failure
    objects/9c/9c41….parquet  bytes, named by their SHA-256; the file's time is when they were last used
    staging/<server>/…        files being written; a server that died leaves them to the next to start
    locks/3f2a…               held with flock while a key runs, so a killed server's claims end with it

Files are published by renaming, entries after the bytes that they name. Nothing is synced to disk: a
process can be killed at any moment, and after a power cut the bytes are hashed before they are served.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from webfoot.errors import StorageFull
from webfoot.results import Result, from_json, to_json

if TYPE_CHECKING:
    from webfoot.results import Entry, Failure

# Bytes that are asked for again and again are answered from memory: this much of them, in pieces of
# at most this size.
_MEMORY_BYTES = 64_000_000
_MEMORY_PIECE = 256_000
_ENTRIES_IN_MEMORY = 10_000
# Bytes used within this many seconds are never evicted: a reader comes back for its next range.
_IN_USE_S = 60
_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class MemoryBlob:
    """Bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Their number."""
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        return self.data[start : start + length]

    def close(self) -> None:
        """Nothing to let go."""


@dataclass(frozen=True)
class FileBlob:
    """Bytes in a file, which stay readable even if the file is evicted meanwhile."""

    descriptor: int
    size: int

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        return os.pread(self.descriptor, length, start)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class LocalStore:
    """A store in a folder.

    Args:
        root: The folder; made if it is missing.
        max_bytes: How large it may grow before the least recently used results are removed.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._root_text = str(root)
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[tuple[int, int], Entry]] = OrderedDict()
        self._small: OrderedDict[str, bytes] = OrderedDict()
        self._small_bytes = 0
        self._touched: dict[str, float] = {}
        self._trusted_since = psutil.boot_time()
        for name in ("calls", "objects", "staging", "locks"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        self._staging, self._alive = self._make_staging()
        self._bytes = sum(size for _, _, size in self._objects())

    async def find(self, key: str) -> Entry | None:
        """The newest entry of `key`; a torn or dangling one counts as none."""
        path = self._entry_path(key)
        try:
            state = os.stat(path)
        except FileNotFoundError:
            return None
        stamp = (state.st_mtime_ns, state.st_ino)
        known = self._entries.get(key)
        if known is not None and known[0] == stamp:
            self._entries.move_to_end(key)
            return known[1]
        try:
            entry = from_json(Path(path).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        self._entries[key] = (stamp, entry)
        while len(self._entries) > _ENTRIES_IN_MEMORY:
            self._entries.popitem(last=False)
        return entry

    @contextlib.asynccontextmanager
    async def claim(self, key: str) -> AsyncIterator[None]:
        """Hold the key's lock file; waiting costs a look every few hundredths of a second."""
        path = self._root / "locks" / key
        wait = 0.005
        while (descriptor := _try_lock(path)) is None:
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, 0.05)
        try:
            yield
        finally:
            # Unlinked while it is held: who waits for it sees that, and locks its successor.
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def stage(self, run: str, extension: str) -> Path:
        """A path in this server's own staging folder."""
        return self._staging / f"{run}.{extension}"

    async def publish(self, result: Result, staged: Path) -> None:
        """Rename the bytes into place, then the entry that names them."""
        target = Path(self._object_path(result))
        with _full_as_error():
            _replace(staged, target)
            self._bytes += _used_bytes(target.stat())
            self._write_entry(result.key, result)
        if self._bytes > self._max_bytes:
            await asyncio.to_thread(self._evict, int(self._max_bytes * 0.9))

    async def remember(self, failure: Failure) -> None:
        """Keep a failure; on a full disk it is forgotten at once."""
        with contextlib.suppress(OSError):
            self._write_entry(failure.key, failure)

    async def open(self, result: Result) -> MemoryBlob | FileBlob | None:
        """Open a result's bytes and note that they are in use."""
        path = self._object_path(result)
        if (data := self._small.get(path)) is not None:
            self._small.move_to_end(path)
            self._touch(path)
            return MemoryBlob(data)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        state = os.fstat(descriptor)
        if state.st_size != result.size or not self._is_sound(descriptor, state, result):
            os.close(descriptor)
            Path(path).unlink(missing_ok=True)
            return None
        self._touch(path)
        if state.st_size > _MEMORY_PIECE:
            return FileBlob(descriptor, state.st_size)
        data = os.pread(descriptor, state.st_size, 0)
        os.close(descriptor)
        self._keep_small(path, data)
        return MemoryBlob(data)

    async def local_path(self, result: Result) -> Path:
        """The stored file itself."""
        return Path(self._object_path(result))

    def last_used(self, result: Result) -> float:
        """The time of the file that holds the bytes."""
        try:
            return os.stat(self._object_path(result)).st_mtime
        except FileNotFoundError:
            return 0.0

    async def relieve(self) -> None:
        """Evict half of what is stored."""
        await asyncio.to_thread(self._evict, self._bytes // 2)

    def close(self) -> None:
        """Remove this server's staging folder."""
        shutil.rmtree(self._staging, ignore_errors=True)
        os.close(self._alive)

    # Texts and `os.stat`, not Path objects: these are asked for several times in every request.

    def _entry_path(self, key: str) -> str:
        return f"{self._root_text}/calls/{key[:2]}/{key}.json"

    def _object_path(self, result: Result) -> str:
        return f"{self._root_text}/objects/{result.etag[:2]}/{result.etag}.{result.extension}"

    def _write_entry(self, key: str, entry: Entry) -> None:
        draft = self._staging / f"{uuid.uuid4().hex}.json"
        try:
            draft.write_text(to_json(entry))
            _replace(draft, Path(self._entry_path(key)))
        finally:
            draft.unlink(missing_ok=True)

    def _touch(self, path: str) -> None:
        now = time.time()
        if now - self._touched.get(path, 0) < 1:
            return
        if len(self._touched) > _ENTRIES_IN_MEMORY:
            self._touched.clear()
        self._touched[path] = now
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (now, now))

    def _keep_small(self, path: str, data: bytes) -> None:
        self._small[path] = data
        self._small_bytes += len(data)
        while self._small_bytes > _MEMORY_BYTES:
            _, dropped = self._small.popitem(last=False)
            self._small_bytes -= len(dropped)

    def _is_sound(self, descriptor: int, state: os.stat_result, result: Result) -> bool:
        """Whether the bytes are what they were: only a power cut can have torn them."""
        if state.st_ctime >= self._trusted_since:
            return True
        digest = hashlib.sha256()
        for start in range(0, state.st_size, 1 << 20):
            digest.update(os.pread(descriptor, 1 << 20, start))
        return digest.hexdigest() == result.etag

    def _objects(self) -> Iterator[tuple[float, Path, int]]:
        """Every stored file: when it was last used, where it is, and what it takes on the disk."""
        for folder in (self._root / "objects").iterdir():
            for path in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    state = path.stat()
                    yield state.st_mtime, path, _used_bytes(state)

    def _evict(self, target: int) -> None:
        """Remove the least recently used results until `target` bytes are left."""
        stored = sorted(self._objects())
        left = sum(size for _, _, size in stored)
        newest_to_go = time.time() - _IN_USE_S
        for used, path, size in stored:
            if left <= target or used > newest_to_go:
                break
            path.unlink(missing_ok=True)
            if (data := self._small.pop(str(path), None)) is not None:
                self._small_bytes -= len(data)
            left -= size
        self._bytes = left
        self._remove_old_entries()

    def _remove_old_entries(self) -> None:
        """Remove entries whose bytes are gone: they only take room."""
        for path in (self._root / "calls").glob("*/*.json"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                entry = from_json(path.read_bytes())
                if isinstance(entry, Result):
                    gone = self.last_used(entry) == 0
                else:
                    gone = not entry.fresh(time.time())
                if gone:
                    path.unlink(missing_ok=True)

    def _make_staging(self) -> tuple[Path, int]:
        folder = self._root / "staging" / uuid.uuid4().hex
        folder.mkdir()
        descriptor = _try_lock(folder / "alive")
        if descriptor is None:  # A name nobody else knows cannot be taken.
            raise RuntimeError(f"{folder} is locked by another process")
        return folder, descriptor

    def _remove_abandoned(self) -> None:
        """Remove the staging folders of servers that died."""
        for folder in (self._root / "staging").iterdir():
            try:
                descriptor = _try_lock(folder / "alive")
            except FileNotFoundError:
                continue
            if descriptor is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """Lock the file at `path`, made if missing; None if another process, or task, holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The file may have been unlinked by its last holder between the two calls.
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _replace(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)


def _used_bytes(state: os.stat_result) -> int:
    return state.st_blocks * 512


@contextlib.contextmanager
def _full_as_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL_ERRORS:
            raise StorageFull("the store's disk is full; free some space, or set a smaller store") from error
        raise
