"""A store in a folder, which several servers on one machine may share.

    calls/3f/3f2a….json       an entry: the record of a result, or of a failure
    objects/9c/9c41….parquet  bytes, named by their SHA-256; the file's time: when last used
    staging/<server>/…        files being written; a dead server's are removed by the next to start
    locks/3f2a…               held with flock while a key runs, so claims end with their server

Files are published by renaming, entries after the bytes that they name. Nothing is synced to disk:
a process can be killed at any moment, and after a power cut the bytes are hashed before they are
served.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import itertools
import logging
import os
import shutil
import time
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from webfoot.errors import Error, SettingsError, StorageFull
from webfoot.results import Result, from_json, to_json
from webfoot.store.blobs import BlobMemory, FileBlob, MemoryBlob
from webfoot.store.locks import try_lock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from webfoot.results import Entry, Failure

# Bytes that are asked for again and again are answered from memory: this much of them, in pieces of
# at most this size.
_MEMORY_BYTES = 64_000_000
_MEMORY_PIECE = 256_000
_ENTRIES_IN_MEMORY = 10_000
# Bytes used within this many seconds are never evicted: a reader comes back for its next range.
_IN_USE_S = 60
# An entry that expired this many seconds ago answers nobody any more.
_FORGET_S = 600
# Other servers fill the store too: its size is taken anew after each tenth that this one adds.
_RECOUNT_SHARE = 0.1
_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)


_log = logging.getLogger(__name__)


class LocalStore:
    """A store in a folder.

    Args:
        root: The folder; made if it is missing.
        max_bytes: How large it may grow before the least recently used results are removed.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root.absolute()
        self._root_text = str(self._root)
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[tuple[int, int], Entry]] = OrderedDict()
        self._memory = BlobMemory(_MEMORY_BYTES, _MEMORY_PIECE)
        self._touched: dict[str, float] = {}
        self._trusted_since = psutil.boot_time()
        self._evicting = False
        self._numbers = itertools.count()
        try:
            self._staging, self._alive = self._settle()
        except OSError as error:
            raise SettingsError(
                f"the store {root} cannot be used: {error.strerror}; choose another folder"
            ) from error
        self._bytes = sum(size for _, _, size in self._files("objects", "calls"))
        self._recount_at = self._bytes + self._max_bytes * _RECOUNT_SHARE

    async def find(self, key: str) -> Entry | None:
        """The newest entry of `key`; a torn or dangling one counts as none."""
        path = self._entry_path(key)
        try:
            state = os.stat(path)  # noqa: PTH116  # see below, at `_entry_path`
        except OSError:
            return None
        stamp = (state.st_mtime_ns, state.st_ino)
        known = self._entries.get(key)
        if known is not None and known[0] == stamp:
            self._entries.move_to_end(key)
            return known[1]
        try:
            entry = _read_entry(path)
        except (OSError, ValueError):
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
        while (descriptor := self._try_claim(path)) is None:
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, 0.05)
        try:
            yield
        finally:
            # Unlinked while it is held: who waits for it sees that, and locks its successor.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(descriptor)

    def stage(self, run: str, extension: str) -> Path:
        """A path in this server's own staging folder."""
        if not self._staging.is_dir():  # Somebody removed the store.
            with _errors_of_the_store():
                lost = self._alive
                self._staging, self._alive = self._settle()
                os.close(lost)
        return self._staging / f"{run}.{extension}"

    async def publish(self, result: Result, staged: Path) -> None:
        """Rename the bytes into place, then the entry that names them."""
        with _errors_of_the_store():
            self._bytes += _replace(staged, self._object_path(result))
            self._write_entry(result.key, result)
        if self._bytes > min(self._max_bytes, self._recount_at):
            await self._evict(self._max_bytes, int(self._max_bytes * 0.9))

    async def remember(self, failure: Failure) -> None:
        """Keep a failure; on a full disk it is forgotten at once."""
        with contextlib.suppress(OSError):
            self._write_entry(failure.key, failure)

    async def open(self, result: Result) -> MemoryBlob | FileBlob | None:
        """Open a result's bytes and note that they are in use."""
        path = self._object_path(result)
        if (remembered := self._memory.get(path)) is not None:
            self._touch(path)
            return remembered
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        blob = FileBlob(descriptor, os.fstat(descriptor).st_size)
        try:
            sound = blob.size == result.size and await self._is_sound(blob, result)
        except BaseException:
            blob.close()
            raise
        if not sound:
            blob.close()
            self._forget(path)
            return None
        self._touch(path)
        if not self._memory.takes(blob.size):
            return blob
        with contextlib.closing(blob):
            self._memory.keep(path, blob.read(0, blob.size))
        return self._memory.get(path)

    async def keep(self, result: Result) -> bool:
        """Note that the bytes are in use, and so not to be evicted; False if they are gone."""
        self._touch(self._object_path(result))
        return self.last_used(result) > 0

    async def local_path(self, result: Result) -> Path:
        """The stored file itself."""
        return Path(self._object_path(result))

    def last_used(self, result: Result) -> float:
        """The time of the file that holds the bytes."""
        try:
            return os.stat(self._object_path(result)).st_mtime  # noqa: PTH116  # see below
        except OSError:
            return 0.0

    async def relieve(self) -> None:
        """Evict half of what is stored."""
        await self._evict(0, self._bytes // 2)

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
        draft = self._staging / f"{next(self._numbers)}.json"
        try:
            draft.write_text(to_json(entry))
            self._bytes += _replace(draft, self._entry_path(key))
            self._entries.pop(key, None)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def _touch(self, path: str) -> None:
        now = time.time()
        if abs(now - self._touched.get(path, 0)) < 1:
            return
        if len(self._touched) > _ENTRIES_IN_MEMORY:
            self._touched.clear()
        self._touched[path] = now
        with contextlib.suppress(OSError):  # Evicted, or another user's.
            os.utime(path, (now, now))

    def _forget(self, path: str) -> None:
        with contextlib.suppress(OSError):
            Path(path).unlink(missing_ok=True)

    async def _is_sound(self, blob: FileBlob, result: Result) -> bool:
        """Whether the bytes are what they were: only a power cut can have torn them."""
        if os.fstat(blob.descriptor).st_ctime >= self._trusted_since:
            return True
        return await asyncio.to_thread(_hash, blob) == result.etag

    def _files(self, *folders: str) -> Iterator[tuple[float, Path, int]]:
        """Every stored file: when it was last used, where it is, and what it takes on the disk."""
        for folder in folders:
            for path in (self._root / folder).glob("*/*"):
                with contextlib.suppress(OSError):
                    state = path.stat()
                    yield state.st_mtime, path, _used_bytes(state)

    async def _evict(self, limit: int, target: int) -> None:
        """If more than `limit` bytes are stored, remove the least used until `target` are left."""
        if self._evicting:
            return
        self._evicting = True
        before = self._bytes
        try:
            left, removed = await asyncio.to_thread(self._sweep, limit, target)
        finally:
            self._evicting = False
        for path in removed:
            self._memory.drop(path)
        # What was published meanwhile may be counted twice; never not at all.
        self._bytes += left - before
        self._recount_at = self._bytes + self._max_bytes * _RECOUNT_SHARE

    def _sweep(self, limit: int, target: int) -> tuple[int, list[str]]:
        """Evict, on a thread: touches nothing but the files.

        Returns:
            How many bytes are left, and the objects removed.
        """
        objects = sorted(self._files("objects"))
        entries = list(self._files("calls"))
        left = sum(size for _, _, size in (*objects, *entries))
        removed: list[str] = []
        if left <= limit:
            return left, removed
        for _, path, size in objects:
            if left <= target:
                break
            if _in_use(path):
                continue
            path.unlink(missing_ok=True)
            removed.append(str(path))
            left -= size
        for _, path, size in entries:
            if not _in_use(path) and self._is_waste(path):
                path.unlink(missing_ok=True)
                left -= size
        return left, removed

    def _is_waste(self, entry_path: Path) -> bool:
        """Whether an entry answers nobody: its bytes are gone, or it has long expired."""
        try:
            entry = from_json(entry_path.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True
        gone = isinstance(entry, Result) and self.last_used(entry) == 0
        return gone or not entry.fresh(time.time() - _FORGET_S)

    def _try_claim(self, path: Path) -> int | None:
        with _errors_of_the_store():
            try:
                return try_lock(path)
            except FileNotFoundError:  # Somebody removed the store.
                path.parent.mkdir(parents=True, exist_ok=True)
                return try_lock(path)

    def _settle(self) -> tuple[Path, int]:
        """Make the folders, remove what servers that died left, and make a staging folder."""
        for name in ("calls", "objects", "staging", "locks"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        while True:
            folder = self._root / "staging" / uuid.uuid4().hex
            folder.mkdir()
            # A server that starts just now may take the folder for abandoned and remove it.
            with contextlib.suppress(FileNotFoundError):
                descriptor = try_lock(folder / "alive")
                if descriptor is not None:
                    return folder, descriptor

    def _remove_abandoned(self) -> None:
        """Remove the staging folders and the locks of servers that died."""
        for folder in (self._root / "staging").iterdir():
            with contextlib.suppress(OSError):
                descriptor = try_lock(folder / "alive")
                if descriptor is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(descriptor)
        for path in (self._root / "locks").iterdir():
            with contextlib.suppress(OSError):
                descriptor = try_lock(path)
                if descriptor is not None:
                    path.unlink(missing_ok=True)
                    os.close(descriptor)


def _in_use(path: Path) -> bool:
    try:
        return path.stat().st_mtime > time.time() - _IN_USE_S
    except FileNotFoundError:
        return False


def _hash(blob: FileBlob) -> str:
    digest = hashlib.sha256()
    for start in range(0, blob.size, 1 << 20):
        digest.update(blob.read(start, 1 << 20))
    return digest.hexdigest()


def _read_entry(path: str) -> Entry:
    return from_json(Path(path).read_bytes())


def _replace(source: Path, target: str) -> int:
    """Rename a file into place; what it takes on the disk."""
    used = _used_bytes(os.stat(source))  # noqa: PTH116  # as above: on every run, twice
    try:
        os.replace(source, target)  # noqa: PTH105  # likewise
    except FileNotFoundError:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)  # noqa: PTH105  # likewise
    return used


def _used_bytes(state: os.stat_result) -> int:
    return state.st_blocks * 512


@contextlib.contextmanager
def _errors_of_the_store() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL_ERRORS:
            raise StorageFull(
                "the store's disk is full; free some space, or set a smaller store"
            ) from error
        _log.exception("the store cannot be written")
        raise Error(
            f"the store cannot be written ({error.strerror}); the server's log says where"
        ) from error
