"""The store in a folder: real files, and several processes at once."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.test_store import get, put

from webfoot.errors import SettingsError
from webfoot.results import Failure, Known, Result, digest, to_json
from webfoot.store import Holdings
from webfoot.store.blobs import BlobMemory
from webfoot.store.local import LocalStore

KEYS = [digest("key", str(number)) for number in range(40)]


def age(store: LocalStore, result: Result, seconds: float) -> None:
    """Make a result look as if it was last used `seconds` ago."""
    then = time.time() - seconds
    os.utime(store._object_path(result), (then, then))
    store._index.run("UPDATE known SET written = ? WHERE key = ?", then, result.key)


def used_bytes(store: LocalStore) -> int:
    return store._index.size() + sum(size for _, _, size in store._objects())


def object_path(store: LocalStore, result: Result) -> Path:
    return Path(store._object_path(result))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store", 10**9)


def test_a_torn_record_is_a_miss(store: LocalStore) -> None:
    async def tear() -> None:
        result = await put(store, KEYS[0], b"data")
        for text in ("", '{"key": 1', "[]", "null", '{"problem": {}}', to_json(result)[:-20]):
            for column in ("result", "failure"):
                store._index.run(f"UPDATE known SET result = NULL, {column} = ?", text)
                assert await store.find(KEYS[0]) == Known()
        await put(store, KEYS[0], b"data")
        assert await get(store, KEYS[0]) == b"data"

    asyncio.run(tear())


@pytest.mark.parametrize("size", [100, 300_000])
def test_a_truncated_object_is_a_miss_and_is_removed(store: LocalStore, size: int) -> None:
    async def truncate() -> None:
        result = await put(store, KEYS[0], b"x" * size)
        os.truncate(object_path(store, result), size // 2)
        assert await store.open(result) is None
        assert await store.last_used(result) == 0

    asyncio.run(truncate())


@pytest.mark.parametrize("size", [100, 300_000])
def test_wrong_bytes_from_before_the_machine_started_are_a_miss(
    store: LocalStore, size: int
) -> None:
    async def corrupt() -> None:
        result = await put(store, KEYS[0], b"x" * size)
        other = await put(store, KEYS[1], b"y" * size)
        object_path(store, result).write_bytes(b"z" * size)
        store._trusted_since = time.time() + 10
        assert await store.open(result) is None
        assert await store.last_used(result) == 0
        blob = await store.open(other)
        assert blob is not None, "sound bytes are served"
        blob.close()

    asyncio.run(corrupt())


def test_an_open_file_stays_readable_when_it_is_evicted(store: LocalStore) -> None:
    async def evict() -> None:
        data = os.urandom(500_000)
        result = await put(store, KEYS[0], data)
        blob = await store.open(result)
        assert blob is not None
        age(store, result, 120)
        await store._evict(0, 0)
        assert await store.last_used(result) == 0
        assert await blob.read(0, blob.size) == data
        blob.close()

    asyncio.run(evict())


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", 1_000_000)

    async def fill() -> None:
        results = []
        for number in range(9):
            results.append(await put(store, KEYS[number], bytes([number]) * 100_000))
            age(store, results[-1], 1000 - number)
        age(store, results[0], 100)  # Used lately, though it is the oldest.
        results.append(await put(store, KEYS[9], b"9" * 100_000))
        there = [await store.last_used(result) > 0 for result in results]
        assert there[0]
        assert there[-1]
        assert not there[1]
        assert there[1:9] == sorted(there[1:9])
        assert used_bytes(store) <= 1_000_000
        assert store.holdings() == Holdings(used_bytes(store), there.count(False))
        for result, is_there in zip(results, there, strict=True):
            assert ((await store.find(result.key)).result is not None) == is_there

    asyncio.run(fill())


def test_what_was_just_used_is_not_evicted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", 1_000_000)

    async def fill() -> None:
        result = await put(store, KEYS[0], b"0" * 300_000)
        age(store, result, 1000)
        store._touched.clear()
        assert await get(store, KEYS[0]) is not None
        for number in range(1, 10):
            await put(store, KEYS[number], bytes([number]) * 300_000)
        assert await store.last_used(result) > 0

    asyncio.run(fill())


def test_use_between_the_look_and_the_removal_saves_a_result(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def race() -> None:
        result = await put(store, KEYS[0], b"0" * 300_000)
        age(store, result, 1000)
        looked = list(store._objects())
        store._touched.clear()
        assert await get(store, KEYS[0]) is not None
        monkeypatch.setattr(store, "_objects", lambda: iter(looked))
        await store._evict(0, 0)
        assert await store.last_used(result) > 0

    asyncio.run(race())


def test_bytes_in_memory_are_counted_and_let_go(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = BlobMemory(max_bytes=1000, max_piece=1000)
    monkeypatch.setattr(store, "_memory", memory)

    async def use() -> None:
        for _ in range(3):
            for number in range(20):
                result = await put(store, KEYS[number], bytes([number]) * 100)
                await get(store, KEYS[number])
                age(store, result, 1000)
        assert memory.size == sum(len(data) for data in memory._pieces.values()) == 1000
        await store._evict(0, 0)
        assert memory.size == len(memory._pieces) == 0

    asyncio.run(use())


def test_bytes_opened_twice_at_once_are_counted_once(store: LocalStore) -> None:
    async def use() -> None:
        result = await put(store, KEYS[0], b"x" * 100)
        store._trusted_since = time.time() + 10  # Both are hashed first.
        await asyncio.gather(store.open(result), store.open(result))
        assert store._memory.size == 100

    asyncio.run(use())


def test_records_count_and_those_of_old_failures_go(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", 100_000)

    async def fail() -> None:
        for number in range(100):
            key = digest("failure", str(number))
            await store.remember(Failure(key, {"detail": "x" * 1000}, 1.0, 2.0, 1))
            store._index.run("UPDATE known SET written = 1 WHERE key = ?", key)
        await put(store, KEYS[0], b"data")
        assert store._index.run("SELECT key FROM known") == [(KEYS[0],)]
        assert used_bytes(store) <= 20_000

    asyncio.run(fail())


def test_two_servers_together_stay_near_the_bound(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path / "store", 1_000_000) for _ in range(2)]

    async def fill() -> None:
        for number, key in enumerate(KEYS):
            # Neither writes more than the bound; both together do.
            result = await put(stores[number % 18 // 9], key, bytes([number]) * 100_000)
            age(stores[0], result, 1000 - number)
            stored = used_bytes(stores[0])
            assert stored <= 1_300_000

    asyncio.run(fill())


def test_two_servers_may_evict_at_once(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path / "store", 10**9) for _ in range(2)]

    async def evict() -> None:
        for number, key in enumerate(KEYS):
            result = await put(stores[0], key, bytes([number]) * 10_000)
            age(stores[0], result, 1000)
        await asyncio.gather(*(store._evict(0, 0) for store in stores))
        assert list(stores[0]._objects()) == []
        assert stores[0]._index.run("SELECT key FROM known") == []

    asyncio.run(evict())


def test_publishing_goes_on_while_another_server_evicts(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path / "store", 10**9) for _ in range(2)]
    stop = threading.Event()

    def evict() -> None:
        while not stop.is_set():
            asyncio.run(stores[1]._evict(0, 0))

    evicting = threading.Thread(target=evict)
    evicting.start()
    try:
        for _ in range(5):
            for number, key in enumerate(KEYS):
                data = bytes([number]) * 1000
                asyncio.run(put(stores[0], key, data))
                assert asyncio.run(get(stores[0], key)) == data
    finally:
        stop.set()
        evicting.join()


def test_relieving_makes_room(store: LocalStore) -> None:
    async def relieve() -> None:
        for number, key in enumerate(KEYS):
            age(store, await put(store, key, bytes([number]) * 10_000), 1000)
        before = store._bytes
        await store.relieve()
        assert store._bytes <= before / 2
        assert store._bytes == used_bytes(store)

    asyncio.run(relieve())


def test_a_store_is_usable_after_a_restart(tmp_path: Path) -> None:
    first = LocalStore(tmp_path / "store", 10**9)
    asyncio.run(put(first, KEYS[0], b"data"))
    first.close()
    assert list((tmp_path / "store/staging").iterdir()) == []
    second = LocalStore(tmp_path / "store", 10**9)
    assert asyncio.run(get(second, KEYS[0])) == b"data"
    assert second._bytes > 0


def test_strange_files_in_the_store_do_no_harm(tmp_path: Path) -> None:
    first = LocalStore(tmp_path / "store", 10**9)
    for name in (".DS_Store", "objects/.DS_Store", "staging/.DS_Store", "locks/.DS_Store"):
        (tmp_path / "store" / name).write_text("strange")
    second = LocalStore(tmp_path / "store", 10**9)
    asyncio.run(put(second, KEYS[0], b"data"))
    asyncio.run(second._evict(0, 0))
    assert asyncio.run(get(first, KEYS[0])) == b"data"


def test_only_the_staging_of_dead_servers_is_removed(tmp_path: Path) -> None:
    living = LocalStore(tmp_path / "store", 10**9)
    mine = living.stage("run", "parquet")
    mine.write_bytes(b"half")
    dead = tmp_path / "store/staging/dead"
    dead.mkdir()
    (dead / "alive").touch()
    (dead / "run.parquet").write_bytes(b"half")
    LocalStore(tmp_path / "store", 10**9)
    assert mine.exists()
    assert not dead.exists()


def test_servers_may_start_at_once(tmp_path: Path) -> None:
    stores: list[LocalStore] = []
    threads = [
        threading.Thread(target=lambda: stores.append(LocalStore(tmp_path / "store", 10**9)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 20
    assert all(store.stage("run", "parquet").parent.is_dir() for store in stores)
    assert len({store.stage("run", "parquet") for store in stores}) == 20


@pytest.mark.parametrize("place", ["file", "file/below", "store-with-file"])
def test_a_store_that_cannot_be_used_is_told_clearly(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "store-with-file").mkdir()
    (tmp_path / "store-with-file/objects").write_text("in the way")
    with pytest.raises(SettingsError, match=r"the store .* cannot be used: .*; choose another"):
        LocalStore(tmp_path / place, 10**9)


def test_a_store_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", 10**9)

    async def remove() -> None:
        await put(store, KEYS[0], b"data")
        shutil.rmtree(tmp_path / "store")
        assert await get(store, KEYS[0]) is None
        async with store.claim(KEYS[0]):
            await put(store, KEYS[0], b"data")
        assert await get(LocalStore(tmp_path / "store", 10**9), KEYS[0]) == b"data"

    asyncio.run(remove())
    store.close()


def test_a_store_without_permission_is_told_clearly(tmp_path: Path) -> None:
    """As nobody, where the tests run as root, whom nothing is refused."""
    script = f"""
import os
from pathlib import Path
from webfoot.errors import SettingsError
from webfoot.store.local import LocalStore
if os.getuid() == 0:
    os.setuid(65534)
try:
    LocalStore(Path({str(tmp_path / "closed" / "store")!r}), 10**9)
except SettingsError as error:
    print(error)
"""
    (tmp_path / "closed").mkdir(mode=0o500)
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert "cannot be used: Permission denied" in told.stdout
