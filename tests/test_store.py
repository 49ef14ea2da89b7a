"""What every store promises, kept by each: real files, a real S3 server, and several processes."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import pytest
from tests.s3_server import KEYS, moto_server

from webfoot.results import Column, Draft, Failure, Known, Result, digest
from webfoot.store.local import LocalStore
from webfoot.store.s3 import S3Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.s3_server import S3Server

AnyStore: TypeAlias = LocalStore | S3Store

CALLS = [digest("key", str(number)) for number in range(3)]
# Long enough for a living holder to renew it on a slow machine, and to see one end.
LEASE_S = 6.0


@dataclass(frozen=True)
class Kind:
    """One kind of store, in one place.

    Args:
        open: Opens it there, as one more server would.
        code: Python that does so in another process, as `store`.
    """

    open: Callable[[], AnyStore]
    code: str


def local_kind(root: Path) -> Kind:
    code = f"""
from pathlib import Path
from webfoot.store.local import LocalStore
store = LocalStore(Path({str(root)!r}), 10**9)
"""
    return Kind(lambda: LocalStore(root, 10**9), code)


def s3_kind(server: S3Server) -> Kind:
    place = server.make_place()
    code = f"""
from webfoot.settings import S3Access, S3Encryption, S3Place
from webfoot.store.bucket import Bucket
from webfoot.store.s3 import S3Store
store = S3Store(Bucket({place!r}, {server.access!r}), 10**9, {LEASE_S})
"""
    return Kind(lambda: server.open_store(place, LEASE_S), code)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(params=["local", "s3"])
def kind(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kind]:
    opened: list[AnyStore] = []
    if request.param == "local":
        kind = local_kind(tmp_path / "store")
    else:
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        kind = s3_kind(request.getfixturevalue("s3_server"))

    def keep() -> AnyStore:
        opened.append(kind.open())
        return opened[-1]

    yield replace(kind, open=keep)
    for store in opened:
        store.close()


@pytest.fixture
def store(kind: Kind) -> AnyStore:
    return kind.open()


def result_of(key: str, data: bytes, created: float = 0.0) -> Result:
    return Result(
        key=key,
        run="run",
        extension="parquet",
        etag=hashlib.sha256(data).hexdigest(),
        size=len(data),
        rows=1,
        columns=(Column("n", "int64"),),
        seconds=0.1,
        created=created or time.time(),
        expires=math.inf,
        executions=1,
    )


async def put(store: AnyStore, key: str, data: bytes) -> Result:
    staged = store.stage(uuid.uuid4().hex, "parquet")
    staged.write_bytes(data)  # as a worker would
    result = result_of(key, data)
    await store.publish(result, staged)
    return result


async def read(store: AnyStore, result: Result) -> bytes | None:
    blob = await store.open(result)
    if blob is None:
        return None
    data = await blob.read(0, blob.size)
    blob.close()
    return data


async def get(store: AnyStore, key: str) -> bytes | None:
    result = (await store.find(key)).result
    return None if result is None else await read(store, result)


@pytest.mark.parametrize("size", [0, 10, 256_001, 3_000_000])
def test_published_bytes_come_back_here_and_elsewhere(kind: Kind, size: int) -> None:
    async def round_trip() -> None:
        data = os.urandom(size)
        one, other = kind.open(), kind.open()
        result = await put(one, CALLS[0], data)
        for store in (one, other, other):
            assert await store.find(CALLS[0]) == Known(result)
            assert await get(store, CALLS[0]) == data
            assert await store.keep(result)
            assert (await store.local_path(result)).read_bytes() == data
            assert await get(store, CALLS[0]) == data

    asyncio.run(round_trip())


def test_bytes_that_one_puts_another_publishes(kind: Kind) -> None:
    async def share() -> None:
        data = os.urandom(10_000)
        one, other = kind.open(), kind.open()
        staged = one.stage("run", "parquet")
        staged.write_bytes(data)
        result = result_of(CALLS[0], data)
        await one.put(Draft(result.etag, len(data), 1, result.columns), "parquet", staged)
        assert await one.find(CALLS[0]) == Known()
        await other.publish(result, None)
        for store in (one, other, kind.open()):
            assert await get(store, CALLS[0]) == data

    asyncio.run(share())


def test_ranges_are_the_bytes_that_they_name(kind: Kind) -> None:
    async def look() -> None:
        data = os.urandom(500_000)
        result = await put(kind.open(), CALLS[0], data)
        blob = await kind.open().open(result)
        assert blob is not None
        assert blob.size == len(data)
        for start, length in ((0, 1), (499_990, 100), (1000, 300_000), (500_000, 1)):
            assert await blob.read(start, length) == data[start : start + length]
        blob.close()

    asyncio.run(look())


def test_what_was_never_published_is_not_found(store: AnyStore) -> None:
    async def look() -> None:
        nothing = result_of(CALLS[0], b"x")
        assert await store.find(CALLS[0]) == Known()
        assert await store.open(nothing) is None
        assert await store.last_used(nothing) == 0
        assert not await store.keep(nothing)
        assert not (await store.local_path(nothing)).exists()
        assert await store.link(nothing, "text/csv", "") is None

    asyncio.run(look())


def test_what_is_read_is_in_use(store: AnyStore) -> None:
    async def use() -> None:
        before = time.time()
        result = await put(store, CALLS[0], b"data")
        # Some of the clocks have no parts of a second.
        assert before - 2 <= await store.last_used(result) <= time.time() + 2

    asyncio.run(use())


def test_a_failure_takes_no_result_away_and_the_next_result_takes_it_away(
    store: AnyStore,
) -> None:
    async def fail() -> None:
        failure = Failure(CALLS[0], {"code": "udf-failed"}, 1.0, 2.0, 3)
        await store.remember(failure)
        assert await store.find(CALLS[0]) == Known(failure=failure)
        result = await put(store, CALLS[0], b"data")
        assert await store.find(CALLS[0]) == Known(result)
        await store.remember(failure)
        assert await store.find(CALLS[0]) == Known(result, failure)

    asyncio.run(fail())


def test_a_newer_entry_of_another_server_is_seen(kind: Kind) -> None:
    async def replace_it() -> None:
        store, other = kind.open(), kind.open()
        await put(store, CALLS[0], b"one")
        assert await get(store, CALLS[0]) == b"one"
        await put(other, CALLS[0], b"two")
        assert await get(store, CALLS[0]) == b"two"
        await put(store, CALLS[0], b"three")
        assert await get(other, CALLS[0]) == b"three"

    asyncio.run(replace_it())


def test_the_bytes_of_a_replaced_result_stay_what_they_were(kind: Kind) -> None:
    async def replace_it() -> None:
        store, other = kind.open(), kind.open()
        first = await put(store, CALLS[0], b"one")
        await put(other, CALLS[0], b"two")
        assert await read(store, first) == await read(other, first) == b"one"

    asyncio.run(replace_it())


def test_the_same_bytes_may_be_published_again(kind: Kind) -> None:
    async def twice() -> None:
        store = kind.open()
        for key in (*CALLS, CALLS[0]):
            result = await put(store, key, b"same")
            assert await kind.open().find(key) == Known(result)
            assert await get(store, key) == b"same"

    asyncio.run(twice())


def test_what_a_result_replaced_travels_with_it(kind: Kind) -> None:
    async def keep() -> None:
        store = kind.open()
        old = await put(store, CALLS[0], b"old")
        staged = store.stage("new", "parquet")
        staged.write_bytes(b"new")
        new = replace(result_of(CALLS[0], b"new"), before=old)
        await store.publish(new, staged)
        assert await kind.open().find(CALLS[0]) == Known(new)

    asyncio.run(keep())


def test_readers_never_see_half_a_result(kind: Kind) -> None:
    """Readers in other processes poll while results are replaced."""
    script = f"""{kind.code}
import asyncio, hashlib
async def poll():
    seen = set()
    while len(seen) < 50:
        entry = (await store.find({CALLS[0]!r})).result
        if entry is None:
            assert not seen, "it was there before"
            continue
        blob = await store.open(entry)
        assert blob is not None, "a record without its bytes"
        data = await blob.read(0, blob.size)
        blob.close()
        assert len(data) == entry.size and hashlib.sha256(data).hexdigest() == entry.etag
        seen.add(entry.etag)
asyncio.run(poll())
store.close()
"""
    readers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    number = 0

    async def publish() -> None:
        nonlocal number
        store = kind.open()
        while any(reader.poll() is None for reader in readers):
            number += 1
            await put(store, CALLS[0], bytes([number % 251]) * (1 + number * 7919 % 400_000))

    asyncio.run(publish())
    assert [reader.returncode for reader in readers] == [0, 0]


def test_a_claim_is_held_by_one_at_a_time(kind: Kind) -> None:
    inside = 0
    stores = [kind.open() for _ in range(2)]

    async def enter(store: AnyStore) -> None:
        nonlocal inside
        async with store.claim(CALLS[0]):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.001)
            inside -= 1

    async def crowd() -> None:
        await asyncio.gather(*(enter(store) for store in stores for _ in range(5)))

    asyncio.run(crowd())


def test_a_claim_ends_with_an_error_and_with_a_cancellation(store: AnyStore) -> None:
    async def fail(error: type[BaseException]) -> None:
        async with store.claim(CALLS[0]):
            raise error

    async def enter() -> None:
        for error in (ValueError, TimeoutError, asyncio.CancelledError):
            with pytest.raises(error):
                await fail(error)
            # Sooner than a lease ends.
            async with asyncio.timeout(LEASE_S - 1), store.claim(CALLS[0]):
                pass

    asyncio.run(enter())


def claiming(kind: Kind, folder: Path, times: int, seconds: float) -> subprocess.Popen[bytes]:
    """A process that claims the first call again and again, and writes when it does."""
    script = f"""{kind.code}
import asyncio
async def main():
    for _ in range({times}):
        async with store.claim({CALLS[0]!r}):
            with open({str(folder / "log")!r}, "a") as log:
                log.write("in\\n"); log.flush()
                await asyncio.sleep({seconds})
                log.write("out\\n")
asyncio.run(main())
store.close()
"""
    return subprocess.Popen([sys.executable, "-c", script])


def test_a_claim_is_held_by_one_process_at_a_time(kind: Kind, tmp_path: Path) -> None:
    processes = [claiming(kind, tmp_path, 8, 0.002) for _ in range(3)]
    assert [process.wait(50) for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "in\nout\n" * 24


def test_a_killed_holder_lets_go(kind: Kind, tmp_path: Path) -> None:
    store = kind.open()

    async def claim() -> None:
        async with store.claim(CALLS[0]):
            pass

    with claiming(kind, tmp_path, 1, 60) as holder:
        while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
            time.sleep(0.01)
        # Longer than a lease: the holder lives, and renews its own.
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(claim(), LEASE_S + 2.5))
        holder.kill()
    asyncio.run(asyncio.wait_for(claim(), 40))


def test_what_a_store_needs_here_goes_with_it(kind: Kind) -> None:
    store = kind.open()
    staged = store.stage("run", "parquet")
    staged.write_bytes(b"half")
    store.close()
    assert not staged.exists()
