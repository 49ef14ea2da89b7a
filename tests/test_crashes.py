"""What is left after kill -9 at any moment, and on a full disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from webfoot.errors import StorageFull
from webfoot.results import Known
from webfoot.store.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PUBLISHING = """
import asyncio, hashlib, os, sys, time
from pathlib import Path
from webfoot.results import Column, Failure, Result, digest
from webfoot.store.local import LocalStore
store = LocalStore(Path(sys.argv[1]), 2_000_000)
async def main():
    number = 0
    while True:
        number += 1
        key = digest(str(number % 7))
        async with store.claim(key):
            data = os.urandom(1 + number * 7919 % 60_000)
            staged = store.stage(str(number), "parquet")
            staged.write_bytes(data)
            etag, now = hashlib.sha256(data).hexdigest(), time.time()
            columns = (Column("n", "int64"),)
            result = Result(key, "r", "parquet", etag, len(data), 1, columns, 0, now, now + 60, 1)
            await store.publish(result, staged)
            if number == 1:
                print("ready", flush=True)
            if number % 5 == 0:
                await store.remember(Failure(digest("f" + key), {}, now, now + 5, 1))
asyncio.run(main())
"""


def kill_while_publishing(root: Path, after_s: float) -> None:
    """Let two processes publish; kill one, and look at what it leaves to the other and to us."""
    command = [sys.executable, "-c", _PUBLISHING, str(root)]
    servers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
        time.sleep(after_s)
        servers[0].kill()
        servers[0].wait()
        store = LocalStore(root, 10**9)
        staging = {path.name for path in (root / "staging").iterdir()}
        assert len(staging) == 2, "ours, and that of the server that lives"
        assert servers[1].poll() is None
        check(store)
        store.close()
    finally:
        for server in servers:
            server.kill()
            server.communicate()
    store = LocalStore(root, 10**9)
    assert len(list((root / "staging").iterdir())) == 1
    check(store)
    store.close()


def check(store: LocalStore) -> None:
    """Every entry is whole, and names whole bytes."""

    async def look() -> int:
        sound = 0
        for (key,) in store._index.run("SELECT key FROM known"):
            known = await store.find(key)
            assert known != Known(), "it can be read"
            if (entry := known.result) is not None:
                blob = await store.open(entry)
                assert blob is not None
                assert hashlib.sha256(await blob.read(0, blob.size)).hexdigest() == entry.etag
                blob.close()
                sound += 1
        return sound

    assert asyncio.run(look()) > 0


def test_a_server_killed_while_it_publishes_leaves_whole_results(tmp_path: Path) -> None:
    for _ in range(3):
        kill_while_publishing(tmp_path / "store", random.uniform(0.05, 0.4))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_servers_killed_again_and_again_leave_whole_results(tmp_path: Path) -> None:
    for _ in range(60):
        kill_while_publishing(tmp_path / "store", random.uniform(0.0, 1.0))


_FULL = """
import asyncio, sys
from pathlib import Path
from webfoot.access.principal import EVERYBODY
from webfoot.assembly import assemble
from webfoot.errors import StorageFull
from webfoot.settings import Settings

root, folder = Path(sys.argv[1]), Path(sys.argv[2])

def room():
    import shutil
    return shutil.disk_usage(root).free

async def main():
    parts = assemble(Settings(folder=folder, store=root / "store", workers=1))
    await parts.start()
    udf = parts.engine.registry.find("sized")

    async def ask(seed, size=1_000_000):
        query = [("seed", str(seed)), ("size", str(size))]
        call = parts.engine.call(udf, query, EVERYBODY)
        return (await parts.engine.result(udf, call)).result

    first = await ask(0)
    filler = root / "filler"
    filler.write_bytes(b"x" * max(room() - 300_000, 0))
    for attempt in range(3):
        try:
            await ask(1)
        except StorageFull as error:
            assert error.status == 507
            print("full:", error.detail)
        else:
            raise AssertionError("there was room")
        assert await parts.engine.stored(parts.engine.call(udf, [("seed", "1")], EVERYBODY)) is None
    left = [path for path in (root / "store/staging").glob("*/*.*") if path.suffix == ".parquet"]
    assert left == [], left
    blob = await parts.store.open(first)
    assert blob.size == first.size, "what is stored is still served"
    blob.close()
    small = await ask(2, 10)
    assert small.size < 5000, "what fits is still stored"

    # Nothing at all is free: not even an entry, a lock or a log can be written.
    with open(root / "rest", "wb", buffering=0) as rest:
        try:
            while rest.write(b"x" * 4096): pass
        except OSError: pass
    try:
        await ask(3, 10)
    except StorageFull:
        print("full to the brim")
    assert await ask(0) == first
    (root / "rest").unlink()

    # What was not used lately goes, and the next call has room.
    import os
    for path in (root / "store/objects").glob("*/*"):
        os.utime(path, (1, 1))
    try:
        await ask(4)
    except StorageFull:
        print("evicted:", not list((root / "store/objects").glob(f"*/{first.etag}*")))
    await ask(4)
    filler.unlink()
    await ask(1)
    await parts.close()
    print("went on")

asyncio.run(main())
"""


def on_small_disk(tmp_path: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script whose first argument is a folder on a disk of 4 MiB: a tmpfs of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=4m none {disk} && exec "$@"'
    # A mount namespace: the disk goes with the script. As root, or in a user namespace.
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    command = [sys.executable, "-c", script, str(disk), *arguments]
    return subprocess.run(
        [*unshare, "sh", "-c", mount, "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_a_full_disk_fails_its_calls_and_the_service_goes_on(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    text = """
        import random
        @udf(cache="forever")
        def sized(seed: int = 0, size: int = 1_000_000) -> list[dict[str, bytes]]:
            return [{"bytes": random.Random(seed).randbytes(size)}]
    """
    folder = write_files(tmp_path / "sizes", sized=text)
    ended = on_small_disk(tmp_path, _FULL, str(folder))
    hint = "\nthis test mounts a tmpfs: as root, or where user namespaces are allowed"
    assert ended.returncode == 0, ended.stdout + ended.stderr + hint
    lines = ended.stdout.splitlines()
    assert lines[:3] == [lines[0]] * 3
    assert lines[0].startswith("full: ")
    assert lines[-2:] == ["evicted: True", "went on"]


_FULL_STORE = """
import asyncio, hashlib, os, sys, time
from pathlib import Path
from webfoot.errors import StorageFull
from webfoot.results import Column, Failure, Known, Result, digest
from webfoot.store.local import LocalStore

root = Path(sys.argv[1])
store = LocalStore(root / "store", 10**9)

async def main():
    key, data = digest("key"), b"x" * 10_000
    staged = store.stage("run", "parquet")
    staged.write_bytes(data)
    with open(root / "rest", "wb", buffering=0) as rest:
        try:
            while rest.write(b"x" * 4096): pass
        except OSError: pass
    now = time.time()
    columns = (Column("n", "int64"),)
    etag = hashlib.sha256(data).hexdigest()
    result = Result(key, "r", "parquet", etag, len(data), 1, columns, 0, now, now + 60, 1)
    try:
        await store.publish(result, staged)
    except StorageFull as error:
        print(error.status)
    assert await store.find(key) == Known()
    await store.remember(Failure(key, {"detail": "x" * 5000}, now, now + 5, 1))
    assert await store.find(key) == Known()
    (root / "rest").unlink()
    staged.write_bytes(data)
    await store.publish(result, staged)
    assert await store.find(key) == Known(result)

asyncio.run(main())
"""


def test_nothing_half_published_is_visible_on_a_full_disk(tmp_path: Path) -> None:
    ended = on_small_disk(tmp_path, _FULL_STORE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout == f"{StorageFull.status}\n"
