"""A store in a folder, which several servers on one machine may share.

    known.sqlite              by key: the records of the newest result, and of the newest failure
    revision                  a number that is another one after each change of those
    objects/9c/9c41….parquet  bytes, named by their SHA-256; the file's time: when last used
    staging/<server>/…        files being written; a dead server's are removed by the next to start
    locks/                    held while a key runs, so that claims end with their server

Files are published by renaming, entries after the bytes that they name. Nothing is synced to disk:
a process can be killed at any moment, and after a power cut the bytes are hashed before they are
served. A run makes one file, and no more: to make one costs more than all else that is done here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import time
from collections import OrderedDict
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from webfoot.errors import Error, SettingsError, StorageFull
from webfoot.files import is_disk_full
from webfoot.results import Failure, Known, Result, from_json, to_json
from webfoot.sqlite import SqliteFile
from webfoot.store import Holdings
from webfoot.store.blobs import BlobMemory, FileBlob, MemoryBlob
from webfoot.store.locks import make_own_folder, open_claims, remove_abandoned
from webfoot.store.revision import Revision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from webfoot.results import Draft, Entry

# Bytes that are asked for again and again are answered from memory: this much of them, in pieces of
# at most this size.
_MEMORY_BYTES = 64_000_000
_MEMORY_PIECE = 256_000
_KNOWN_IN_MEMORY = 10_000
# Bytes used within this many seconds are never evicted: a reader comes back for its next range.
_IN_USE_S = 60
# An entry that expired this many seconds ago answers nobody any more.
_FORGET_S = 600
# So many entries are looked at at once when some are to be removed.
_ROWS_A_LOOK = 1_000
# Other servers fill the store too: its size is taken anew after each tenth that this one adds.
_RECOUNT_SHARE = 0.1
_PUBLISH = "INSERT OR REPLACE INTO known (key, result, written) VALUES (?, ?, ?)"
_REMEMBER = """
INSERT INTO known (key, failure, written) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET failure = excluded.failure, written = excluded.written
"""
_INDEX = "known.sqlite"
_REVISION = "revision"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS known (
    key TEXT PRIMARY KEY, result TEXT, failure TEXT, written REAL NOT NULL
) WITHOUT ROWID
"""

_Texts: TypeAlias = tuple[str | None, str | None]
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
        # As it was read from its texts.
        self._known: OrderedDict[str, tuple[_Texts, Known]] = OrderedDict()
        self._memory = BlobMemory(_MEMORY_BYTES, _MEMORY_PIECE)
        self._touched: dict[str, float] = {}
        self._evicting = False
        self._evicted = 0
        self._open_files = contextlib.ExitStack()
        try:
            self._settle()
            self._bytes = self._index.size() + sum(size for _, _, size in self._objects())
        except OSError as error:
            raise SettingsError(
                f"the store {root} cannot be used: {error.strerror}; choose another folder"
            ) from error
        self._recount_at = self._bytes + self._max_bytes * _RECOUNT_SHARE

    async def find(self, key: str) -> Known:
        """What there is under `key`; what cannot be read counts as nothing."""
        with _StoreErrors():
            rows = self._index.run("SELECT result, failure FROM known WHERE key = ?", key)
        if not rows:
            return Known()
        [texts] = rows
        before = self._known.get(key)
        if before is not None and before[0] == texts:
            self._known.move_to_end(key)
            return before[1]
        self._known[key] = texts, (known := _read(*texts))
        while len(self._known) > _KNOWN_IN_MEMORY:
            self._known.popitem(last=False)
        return known

    def revision(self) -> bytes:
        """A number that all who write to the folder change."""
        return self._revision.now()

    @contextlib.asynccontextmanager
    async def claim(self, key: str) -> AsyncIterator[None]:
        """Hold the key's lock; waiting costs a look every few hundredths of a second."""
        claims = self._claims
        wait = 0.005
        with _StoreErrors():
            while not claims.take(key):
                await asyncio.sleep(wait)
                wait = min(wait * 1.5, 0.05)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                claims.release(key)

    def stage(self, run: str, extension: str) -> Path:
        """A path in this server's own staging folder."""
        if not self._staging.is_dir():  # Somebody removed the store.
            with _StoreErrors():
                self._settle()
        return self._staging / f"{run}.{extension}"

    async def put(self, draft: Draft, extension: str, staged: Path) -> None:
        """Rename the bytes into place."""
        with _StoreErrors():
            self._bytes += _replace(staged, self._path(draft.etag, extension))

    async def publish(self, result: Result, staged: Path | None) -> None:
        """Rename the bytes into place, then the entry that names them."""
        with _StoreErrors():
            if staged is not None:
                self._bytes += _replace(staged, self._object_path(result))
            self._write(_PUBLISH, result)
        if self._bytes > min(self._max_bytes, self._recount_at):
            await self._evict(self._max_bytes, int(self._max_bytes * 0.9))

    async def remember(self, failure: Failure) -> None:
        """Keep a failure; on a full disk it is forgotten at once."""
        with contextlib.suppress(OSError):
            self._write(_REMEMBER, failure)

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
            self._memory.keep(path, blob.read_now(0, blob.size))
        return self._memory.get(path)

    async def keep(self, result: Result) -> bool:
        """Note that the bytes are in use, and so not to be evicted; False if they are gone."""
        self._touch(self._object_path(result))
        return self._last_used(result) > 0

    async def local_path(self, result: Result) -> Path:
        """The stored file itself."""
        return Path(self._object_path(result))

    async def link(self, result: Result, media_type: str, encoding: str) -> None:
        """None: the files are nowhere but here."""

    async def last_used(self, result: Result) -> float:
        """The time of the file that holds the bytes."""
        return self._last_used(result)

    def _last_used(self, result: Result) -> float:
        try:
            return os.stat(self._object_path(result)).st_mtime  # noqa: PTH116  # see below
        except OSError:
            return 0.0

    async def relieve(self) -> None:
        """Evict half of what is stored."""
        await self._evict(0, self._bytes // 2)

    def holdings(self) -> Holdings:
        """What the folder has, as far as this server knows."""
        return Holdings(self._bytes, self._evicted)

    def close(self) -> None:
        """Remove this server's staging folder."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._open_files.close()

    # A text and `os.stat`, not a Path object: it is asked for several times in every request.

    def _object_path(self, result: Result) -> str:
        return self._path(result.etag, result.extension)

    def _path(self, etag: str, extension: str) -> str:
        return f"{self._root_text}/objects/{etag[:2]}/{etag}.{extension}"

    def _write(self, statement: str, entry: Entry) -> None:
        text = to_json(entry)
        self._index.run(statement, entry.key, text, time.time())
        self._revision.change()
        # About as much as it takes; the next count is exact.
        self._bytes += len(text)

    def _touch(self, path: str) -> None:
        now = time.time()
        if abs(now - self._touched.get(path, 0)) < 1:
            return
        if len(self._touched) > _KNOWN_IN_MEMORY:
            self._touched.clear()
        self._touched[path] = now
        with contextlib.suppress(OSError):  # Evicted, or another user's.
            os.utime(path, (now, now))

    def _forget(self, path: str) -> None:
        with contextlib.suppress(OSError):
            Path(path).unlink(missing_ok=True)

    @cached_property
    def _trusted_since(self) -> float:
        import psutil  # noqa: PLC0415  # 7 ms, which a start on Lambda goes without

        return psutil.boot_time()

    async def _is_sound(self, blob: FileBlob, result: Result) -> bool:
        """Whether the bytes are what they were: only a power cut can have torn them."""
        if os.fstat(blob.descriptor).st_ctime >= self._trusted_since:
            return True
        return await asyncio.to_thread(_hash, blob) == result.etag

    def _objects(self) -> Iterator[tuple[float, Path, int]]:
        """Every object: when it was last used, where it is, and what it takes on the disk."""
        for path in (self._root / "objects").glob("*/*"):
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
            indexed = self._index.size()
            left, removed = await asyncio.to_thread(self._sweep, indexed, limit, target)
        finally:
            self._evicting = False
        self._evicted += len(removed)
        for path in removed:
            self._memory.drop(path)
        # What was published meanwhile may be counted twice; never not at all.
        self._bytes += left - before
        self._recount_at = self._bytes + self._max_bytes * _RECOUNT_SHARE

    def _sweep(self, indexed: int, limit: int, target: int) -> tuple[int, list[str]]:
        """Evict, on a thread: touches nothing but the files.

        Args:
            indexed: What the index takes, in bytes.
            limit: If no more than this is stored, nothing is removed.
            target: How much may be left, if it can be.

        Returns:
            How many bytes are left, and the objects removed.
        """
        objects = sorted(self._objects())
        removed: list[str] = []
        left = sum(size for _, _, size in objects) + indexed
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
        # On a full disk, of which nothing could be removed, it cannot even be opened. It is opened
        # anew, because one thread at a time may use it.
        with (
            contextlib.suppress(OSError),
            contextlib.closing(SqliteFile(self._root / _INDEX, _SCHEMA)) as index,
        ):
            self._remove_waste(index)
            left += index.size() - indexed
        return left, removed

    def _remove_waste(self, index: SqliteFile) -> None:
        """Remove what answers nobody: its bytes are gone, or it has long expired."""
        statement = """
        SELECT key, written, result, failure FROM known WHERE key > ? AND written < ?
        ORDER BY key LIMIT ?
        """
        settled, last = time.time() - _IN_USE_S, ""
        while True:
            page = index.run(statement, last, settled, _ROWS_A_LOOK)
            for key, written, *texts in page:
                if not self._is_useful(_read(*texts)):
                    # Unless it was replaced meanwhile.
                    index.run("DELETE FROM known WHERE key = ? AND written = ?", key, written)
            if len(page) < _ROWS_A_LOOK:
                break
            last = page[-1][0]
        index.shrink()

    def _is_useful(self, known: Known) -> bool:
        lately = time.time() - _FORGET_S
        result, failure = known.result, known.failure
        there = result is not None and result.fresh(lately) and self._last_used(result) > 0
        return there or (failure is not None and failure.fresh(lately))

    def _settle(self) -> None:
        """Make the folders and open the files; remove what servers that died left."""
        for name in ("objects", "staging", "locks"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        self._index = SqliteFile(self._root / _INDEX, _SCHEMA)
        self._open_files.callback(self._index.close)
        self._revision = Revision(self._root / _REVISION)
        self._open_files.callback(self._revision.close)
        self._claims = open_claims(self._root / "locks")
        self._open_files.callback(self._claims.close)
        remove_abandoned(self._root / "staging")
        self._staging, alive = make_own_folder(self._root / "staging")
        self._open_files.callback(os.close, alive)


def _in_use(path: Path) -> bool:
    try:
        return path.stat().st_mtime > time.time() - _IN_USE_S
    except FileNotFoundError:
        return False


def _hash(blob: FileBlob) -> str:
    digest = hashlib.sha256()
    for start in range(0, blob.size, 1 << 20):
        digest.update(blob.read_now(start, 1 << 20))
    return digest.hexdigest()


def _read(result: str | None, failure: str | None) -> Known:
    known = Known()
    with contextlib.suppress(ValueError):
        if result is not None and isinstance(read := from_json(result), Result):
            known = replace(known, result=read)
    with contextlib.suppress(ValueError):
        if failure is not None and isinstance(read := from_json(failure), Failure):
            known = replace(known, failure=read)
    return known


def _replace(source: Path, target: str) -> int:
    """Rename a file into place; what it takes on the disk."""
    used = _used_bytes(os.stat(source))  # noqa: PTH116  # as above: on every run
    try:
        os.replace(source, target)  # noqa: PTH105  # likewise
    except FileNotFoundError:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)  # noqa: PTH105  # likewise
    return used


def _used_bytes(state: os.stat_result) -> int:
    return state.st_blocks * 512


class _StoreErrors:
    """A context in which what the system refuses is an error of the store.

    No generator: it is entered in every request.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, OSError):
            return
        if is_disk_full(error):
            raise StorageFull(
                "the store's disk is full; free some space, or set a smaller store"
            ) from error
        _log.exception("the store cannot be written")
        raise Error(
            f"the store cannot be written ({error.strerror}); the server's log says where"
        ) from error
