"""The store in a bucket: leases, links, and what readers make of redirects.

moto honours conditions (If-None-Match, If-Match) and checks no signatures; rclone checks them,
refuses HEAD on what is signed for GET as Amazon does, and ignores conditions.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fsspec
import httpx
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from tests.places import places_in
from tests.s3_server import KEYS, S3Server, moto_server, rclone_server
from tests.server_process import COUNT, Server, connect, serve, write_udfs
from tests.test_store import CALLS, get, put, read

import webfoot
from webfoot.errors import Error, ServerBusy, SettingsError
from webfoot.estimates import S3_READS, S3_WRITES
from webfoot.results import Failure, Known, Result
from webfoot.settings import S3Access, S3Encryption, S3Place
from webfoot.store import bucket as buckets
from webfoot.store import s3 as s3_stores
from webfoot.store.bucket import Bucket
from webfoot.store.s3 import S3Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

UDFS = """
import time
import numpy as np
import pyarrow as pa
from webfoot import udf
from ._counting import count

@udf(cache="1h")
def large(rows: int = 500_000):
    count(f"large {rows}")
    # Nothing that compresses: 16 bytes a row.
    made = np.random.default_rng(0)
    return pa.table({"n": np.arange(rows), "a": made.random(rows), "b": made.random(rows)})

@udf(cache="1h")
def small(n: int = 1):
    count("small")
    return [{"n": n}]

@udf(cache="1h")
def slow(seconds: float = 2):
    count("slow")
    time.sleep(seconds)
    return [{"seconds": seconds}]
"""


ROWS = 500_000


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("rclone") / "buckets"
    folder.mkdir()
    with rclone_server(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module", params=["moto", "rclone"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose store is in a bucket."""
    s3: S3Server = request.getfixturevalue(request.param)
    folder = write_udfs(tmp_path_factory.mktemp("served"), udfs=UDFS, _counting=COUNT)
    # Low enough for a preview to be above it.
    environment = {**os.environ, **s3.environment, "WEBFOOT_REDIRECT": "10kB"}
    with serve(folder, store=s3.make_place(), environment=environment) as running:
        httpx.get(f"{running.url}/udfs/large.parquet", timeout=60)
        yield running


@pytest.fixture
def large(server: Server) -> str:
    """The URL of a result of 16 MB, without its extension."""
    return f"{server.url}/udfs/large"


# Readers of what is large.


@pytest.mark.slow
def test_duckdb_reads_50_mb_by_redirects_in_one_run(server: Server) -> None:
    url = f"{server.url}/udfs/large.parquet?rows=3200000"
    query = f"SELECT count(*), sum(n), max(a) < 1 FROM '{url}'"
    for _ in range(2):
        with connect() as con:
            assert con.execute(query).fetchone() == (3_200_000, 3_200_000 * 3_199_999 // 2, True)
    assert int(httpx.head(url).headers["content-length"]) > 50_000_000
    requests = server.requests("rows=3200000")
    assert {status for method, status in requests if method == "GET"} == {307}
    assert server.executions("large 3200000") == 1


def with_duckdb(url: str) -> int:
    with connect() as con:
        row = con.execute(f"SELECT sum(n) FROM '{url}.parquet'").fetchone()
    assert row is not None
    return int(row[0])


def with_duckdb_after_its_head(url: str) -> int:
    """In one session: the second query goes by what HEAD said at the first."""
    with connect() as con:
        first = con.execute(f"SELECT sum(a) FROM '{url}.parquet'").fetchone()
        second = con.execute(f"SELECT sum(a), sum(n) FROM '{url}.parquet'").fetchone()
    assert first is not None
    assert second is not None
    assert second[0] == pytest.approx(first[0])
    return int(second[1])


def with_fsspec(url: str) -> int:
    with fsspec.open(f"{url}.parquet") as file:
        return int(pq.read_table(file, columns=["n"])["n"].to_numpy().sum())


def with_client(url: str) -> int:
    with webfoot.Client(url.removesuffix("/udfs/large")) as client:
        return int(client.run("large").arrow()["n"].to_numpy().sum())


@pytest.mark.parametrize(
    "read_sum",
    [
        with_duckdb,
        with_duckdb_after_its_head,
        with_fsspec,
        with_client,
        lambda url: int(pd.read_parquet(f"{url}.parquet")["n"].sum()),
        lambda url: int(pd.read_csv(f"{url}.csv")["n"].sum()),
    ],
    ids=["duckdb", "duckdb-twice", "fsspec", "client", "pandas", "pandas-csv"],
)
def test_readers_follow_redirects_to_the_same_rows(
    server: Server, large: str, read_sum: Callable[[str], int]
) -> None:
    assert read_sum(large) == ROWS * (ROWS - 1) // 2
    assert server.executions(f"large {ROWS}") == 1
    assert ("GET", 307) in server.requests("large.")


@pytest.mark.parametrize("server", ["moto"], indirect=True)
def test_polars_follows_redirects_for_each_range(large: str) -> None:
    """Not from rclone, which has 200 where it should have 206."""
    total = pl.scan_parquet(f"{large}.parquet").select("n").sum().collect().item()
    assert total == ROWS * (ROWS - 1) // 2


def test_head_is_answered_here_and_says_what_get_will_say_there(large: str) -> None:
    head = httpx.head(f"{large}.parquet")
    assert head.status_code == 200
    moved = httpx.get(f"{large}.parquet")
    assert moved.status_code == 307
    assert "etag" not in moved.headers
    assert moved.headers["access-control-allow-origin"] == "*"
    assert moved.headers["x-webfoot-rows"] == str(ROWS)
    assert 0 < int(moved.headers["cache-control"].removeprefix("public, max-age=")) <= 1800
    there = httpx.get(moved.headers["location"])
    for name in ("etag", "content-length", "content-type"):
        assert head.headers[name] == there.headers[name]
    assert len(there.content) == int(head.headers["content-length"])


def test_a_link_is_the_same_for_a_while_so_that_it_can_be_cached(large: str) -> None:
    one, other = (httpx.get(f"{large}.parquet").headers["location"] for _ in range(2))
    assert one == other


def test_conditions_and_impossible_ranges_are_answered_before_the_redirect(large: str) -> None:
    url = f"{large}.parquet"
    etag = httpx.head(url).headers["etag"]
    for method in ("HEAD", "GET"):
        unchanged = httpx.request(method, url, headers={"if-none-match": etag})
        assert (unchanged.status_code, unchanged.headers["etag"]) == (304, etag)
        other = httpx.request(method, url, headers={"if-match": '"another"'})
        assert other.status_code == 412
        behind = httpx.request(method, url, headers={"range": "bytes=999999999-"})
        assert behind.status_code == 416
    assert httpx.get(url, headers={"if-none-match": '"another"'}).status_code == 307


def test_views_are_redirected_as_what_they_are(large: str) -> None:
    for extension, encoding in (("csv", "gzip"), ("csv", "identity"), ("ndjson", "gzip")):
        url, wanted = f"{large}.{extension}?_limit=300000", {"accept-encoding": encoding}
        moved = httpx.get(url, headers=wanted, timeout=60)
        assert moved.status_code == 307
        assert "content-encoding" not in moved.headers
        raw = b""
        with httpx.stream("GET", moved.headers["location"], headers=wanted) as there:
            raw = b"".join(there.iter_raw())
        assert there.headers.get("content-encoding", "identity") == encoding
        assert there.headers["content-type"] == httpx.head(url).headers["content-type"]
        text = gzip.decompress(raw) if encoding == "gzip" else raw
        rows = pd.read_json(io.BytesIO(text), lines=True) if extension == "ndjson" else None
        assert len(pd.read_csv(io.BytesIO(text)) if rows is None else rows) == 300_000


def test_a_key_in_a_header_of_its_own_is_never_sent_on(large: str) -> None:
    """DuckDB would: its readers get the bytes from here, by a tag of ours."""
    url, key = f"{large}.parquet", {"x-api-key": "secret"}
    head, got = httpx.head(url, headers=key), httpx.get(url, headers=key)
    assert got.status_code == 200
    assert head.headers["etag"] == got.headers["etag"] != httpx.head(url).headers["etag"]
    assert len(pd.read_parquet(io.BytesIO(got.content))) == ROWS
    part = httpx.get(url, headers={**key, "range": "bytes=5000000-8000000"})
    assert (part.status_code, part.content) == (206, got.content[5_000_000:8_000_001])


def test_a_preview_stays_with_its_policy(large: str) -> None:
    shown = httpx.get(f"{large}.html", headers={"accept-encoding": "identity"}, timeout=60)
    assert (shown.status_code, len(shown.content) > 10_000) == (200, True)
    assert "default-src 'none'" in shown.headers["content-security-policy"]


def test_what_a_post_made_is_got_from_there(large: str) -> None:
    url, inputs = f"{large}/map", [{"rows": ROWS}]
    accept = {"accept": "application/vnd.apache.parquet"}
    moved = httpx.post(url, json=inputs, headers=accept, timeout=60)
    assert moved.status_code == 303
    assert len(pd.read_parquet(io.BytesIO(httpx.get(moved.headers["location"]).content))) == ROWS


def test_what_is_small_is_answered_here(server: Server) -> None:
    url = f"{server.url}/udfs/small.parquet"
    assert httpx.get(url).status_code == 200
    part = httpx.get(url, headers={"range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"PAR1")


def test_an_address_for_get_is_refused_to_others(rclone: S3Server) -> None:
    """Why HEAD is not redirected; and nobody can make an address of his own."""
    place = rclone.make_place()
    store = rclone.open_store(place)

    async def make() -> str:
        result = await put(store, CALLS[0], b"data")
        link = await store.link(result, "text/csv", "")
        assert link is not None
        return link.url

    url = asyncio.run(make())
    store.close()
    assert httpx.get(url).content == b"data"
    assert httpx.head(url).status_code == 403
    assert httpx.get(url[:-4] + "beef").status_code == 403
    assert httpx.get(url.split("?", maxsplit=1)[0]).is_client_error


# Several servers.


def test_two_servers_on_one_bucket_make_one_run(moto: S3Server, tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, udfs=UDFS, _counting=COUNT)
    place, environment = moto.make_place(), {**os.environ, **moto.environment}
    with (
        serve(folder, store=place, environment=environment) as one,
        serve(folder, store=place, environment=environment) as other,
        ThreadPoolExecutor(8) as threads,
    ):
        urls = [f"{server.url}/udfs/slow.parquet?seconds=0.5" for server in (one, other)] * 4
        answers = list(threads.map(lambda url: httpx.get(url, timeout=50), urls))
        assert {answer.status_code for answer in answers} == {200}
        assert len({(answer.headers["etag"], answer.content) for answer in answers}) == 1
        assert {httpx.head(url).headers["etag"] for url in urls} == {answers[0].headers["etag"]}
        assert one.executions("slow") == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_server_takes_over_from_one_that_was_killed(moto: S3Server, tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, udfs=UDFS, _counting=COUNT)
    place, environment = moto.make_place(), {**os.environ, **moto.environment}
    path = "/udfs/slow.parquet?seconds=3"
    with serve(folder, store=place, environment=environment) as survivor:
        with (
            ThreadPoolExecutor(2) as threads,
            serve(folder, store=place, environment=environment) as victim,
        ):
            lost = threads.submit(httpx.get, victim.url + path, timeout=50)
            while survivor.executions("slow") < 1:
                time.sleep(0.01)
            waiting = threads.submit(httpx.get, survivor.url + path, timeout=100)
            os.kill(victim.process.pid, signal.SIGKILL)
            assert isinstance(lost.exception(), httpx.TransportError)
            answer = waiting.result()
        assert answer.status_code == 200
        assert survivor.executions("slow") == 2
        assert "took over" in survivor.printed()


# The store itself, where it differs from a folder.


@pytest.fixture
def place(moto: S3Server) -> S3Place:
    return moto.make_place()


@pytest.fixture
def open_store(moto: S3Server, place: S3Place) -> Iterator[Callable[..., S3Store]]:
    opened: list[S3Store] = []

    def open_it(lease_s: float = 15.0, **access: Any) -> S3Store:
        bucket = Bucket(place, replace(moto.access, **access))
        opened.append(S3Store(bucket, 10**9, lease_s))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def names(moto: S3Server, place: S3Place) -> list[str]:
    listed = moto.client.list_objects_v2(Bucket=place.bucket).get("Contents", [])
    return sorted(item["Key"].removeprefix(f"{place.prefix}/") for item in listed)


def test_the_bucket_has_bytes_by_hash_and_entries_by_key(
    moto: S3Server, place: S3Place, open_store: Callable[[], S3Store]
) -> None:
    async def fill() -> None:
        store = open_store()
        async with store.claim(CALLS[0]):
            assert f"claims/{CALLS[0]}" in names(moto, place)
            result = await put(store, CALLS[0], b"data")
        path = f"objects/{result.etag[:2]}/{result.etag}.parquet"
        assert names(moto, place) == [f"calls/{CALLS[0]}.json", path]
        told = moto.client.head_object(Bucket=place.bucket, Key=place.name(path))
        assert told["ContentType"] == "application/vnd.apache.parquet"

    asyncio.run(fill())


def test_all_that_is_written_is_encrypted_as_asked(
    moto: S3Server, place: S3Place, open_store: Callable[..., S3Store]
) -> None:
    async def fill() -> None:
        store = open_store(encryption=S3Encryption("aws:kms", "the-key"))
        async with store.claim(CALLS[0]):
            await put(store, CALLS[0], b"data")
            for name in names(moto, place):
                told = moto.client.head_object(Bucket=place.bucket, Key=place.name(name))
                assert told["ServerSideEncryption"] == "aws:kms", name
                assert told["SSEKMSKeyId"] == "the-key"

    asyncio.run(fill())


def test_an_upload_in_parts_that_fails_leaves_nothing(
    moto: S3Server,
    place: S3Place,
    open_store: Callable[[], S3Store],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buckets, "_PARTS_FROM_BYTES", 8_000_000)

    def fail(**_: Any) -> None:
        raise ConnectionResetError("as from a network that is gone")

    async def publish() -> None:
        store = open_store()
        data = os.urandom(20_000_000)
        await store.find(CALLS[0])
        assert store._bucket._client is not None
        events = store._bucket._client.meta.events
        events.register("before-call.s3.CompleteMultipartUpload", fail)
        with pytest.raises(ConnectionResetError):
            await put(store, CALLS[0], data)
        assert names(moto, place) == []
        pending = moto.client.list_multipart_uploads(Bucket=place.bucket)
        assert pending.get("Uploads", []) == []
        events.unregister("before-call.s3.CompleteMultipartUpload", fail)
        await put(store, CALLS[0], data)
        assert await get(open_store(), CALLS[0]) == data

    asyncio.run(publish())


def test_bytes_published_again_count_as_new_for_the_lifecycle_rule(
    moto: S3Server,
    place: S3Place,
    open_store: Callable[[], S3Store],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def publish(key: str) -> str:
        result = await put(open_store(), key, b"data")
        name = place.name(f"objects/{result.etag[:2]}/{result.etag}.parquet")
        told = moto.client.head_object(Bucket=place.bucket, Key=name)["ContentType"]
        moto.client.put_object(Bucket=place.bucket, Key=name, Body=b"data", ContentType="old")
        return told

    assert asyncio.run(publish(CALLS[0])) == "application/vnd.apache.parquet"
    assert asyncio.run(publish(CALLS[1])) == "old"
    monkeypatch.setattr(s3_stores, "_RENEW_FROM_S", -1)
    assert asyncio.run(publish(CALLS[2])) == "application/vnd.apache.parquet"


@pytest.mark.parametrize("size", [100, 300_000])
def test_bytes_that_the_lifecycle_rule_removed_are_a_miss(
    moto: S3Server, place: S3Place, open_store: Callable[[], S3Store], size: int
) -> None:
    async def remove() -> None:
        result = await put(open_store(), CALLS[0], os.urandom(size))
        name = place.name(f"objects/{result.etag[:2]}/{result.etag}.parquet")
        moto.client.delete_object(Bucket=place.bucket, Key=name)
        store = open_store()
        assert (await store.find(CALLS[0])).result == result
        assert await store.last_used(result) == 0
        assert await store.open(result) is None
        assert await store.link(result, "text/csv", "") is None
        assert not await store.keep(result)

    asyncio.run(remove())


@pytest.mark.parametrize("text", ["", "[]", "null", '{"result": 1}', '{"result": {"key": "a"}}'])
def test_an_entry_that_cannot_be_read_is_a_miss(
    moto: S3Server, place: S3Place, open_store: Callable[[], S3Store], text: str
) -> None:
    name = place.name(f"calls/{CALLS[0]}.json")
    moto.client.put_object(Bucket=place.bucket, Key=name, Body=text.encode())

    async def look() -> None:
        store = open_store()
        assert await store.find(CALLS[0]) == Known()
        result = await put(store, CALLS[0], b"data")
        assert await open_store().find(CALLS[0]) == Known(result)

    asyncio.run(look())


@pytest.mark.parametrize("earlier", [None, b"earlier"])
def test_a_failure_does_not_undo_a_result_that_is_published_meanwhile(
    open_store: Callable[[], S3Store], monkeypatch: pytest.MonkeyPatch, earlier: bytes | None
) -> None:
    store, other = open_store(), open_store()
    if earlier is not None:
        asyncio.run(put(other, CALLS[0], earlier))
    failure = Failure(CALLS[0], {"code": "udf-failed"}, 1.0, 2.0, 3)
    ask = store._bucket.get
    published: list[Result] = []

    async def get_then_lose(name: str, known: Any = None) -> Any:
        body = await ask(name, known)
        if not published:
            published.append(await put(other, CALLS[0], b"data"))
        return body

    monkeypatch.setattr(store._bucket, "get", get_then_lose)

    async def fail() -> None:
        await store.remember(failure)
        assert await other.find(CALLS[0]) == Known(published[0], failure)

    asyncio.run(fail())


def test_a_reader_of_an_expired_result_is_known_to_other_servers(
    open_store: Callable[[], S3Store],
) -> None:
    async def expire() -> None:
        one, other = open_store(), open_store()
        fresh = await put(one, CALLS[0], b"data")
        ended = replace(fresh, created=time.time() - 100, expires=time.time() - 10)
        assert time.time() - await other.last_used(ended) > 90
        before = time.time()
        assert await read(one, ended) == b"data"
        # Reckoned from an age, which grows by as long as S3 takes to tell it.
        assert await other.last_used(ended) > before - 50

    asyncio.run(expire())


def test_a_holder_whose_lease_is_gone_is_stopped(
    moto: S3Server, place: S3Place, open_store: Callable[..., S3Store]
) -> None:
    async def hold() -> None:
        async with open_store(lease_s=2.0).claim(CALLS[0]):
            name = place.name(f"claims/{CALLS[0]}")
            moto.client.put_object(Bucket=place.bucket, Key=name, Body=b"another's")
            await asyncio.sleep(50)

    with pytest.raises(ServerBusy, match="could not be told in time"):
        asyncio.run(asyncio.wait_for(hold(), 40))
    assert names(moto, place) == [f"claims/{CALLS[0]}"], "it is another's, and stays"


def test_a_holder_that_cannot_renew_is_stopped_before_others_take_over(
    open_store: Callable[..., S3Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off, other = open_store(lease_s=6.0), open_store(lease_s=6.0)
    inside: list[str] = []

    async def refuse(name: str, data: bytes, etag: str) -> str:
        raise ServerBusy("as if it could not be reached")

    monkeypatch.setattr(cut_off._bucket, "replace", refuse)
    monkeypatch.setattr(cut_off._bucket, "remove", refuse)

    async def hold() -> None:
        async with cut_off.claim(CALLS[0]):
            inside.append("cut off")
            try:
                await asyncio.sleep(20)
            finally:
                inside.remove("cut off")

    async def take_over() -> None:
        while not inside:  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.01)
        async with other.claim(CALLS[0]):
            assert inside == []

    async def both() -> None:
        stopped, _ = await asyncio.gather(hold(), take_over(), return_exceptions=True)
        assert isinstance(stopped, ServerBusy)
        assert _ is None

    asyncio.run(asyncio.wait_for(both(), 30))


def test_a_claim_that_is_cancelled_while_it_is_taken_is_let_go(
    open_store: Callable[[], S3Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    create = store._bucket.create
    written = asyncio.Event()

    async def create_slowly(name: str, data: bytes) -> str | None:
        etag = await create(name, data)
        written.set()
        await asyncio.sleep(0.05)  # The answer is on its way.
        return etag

    async def enter() -> None:
        async with store.claim(CALLS[0]):
            pass

    async def cancel() -> None:
        monkeypatch.setattr(store._bucket, "create", create_slowly)
        entering = asyncio.create_task(enter())
        await written.wait()
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        monkeypatch.undo()
        await asyncio.wait_for(enter(), 10)  # Sooner than a lease ends.

    asyncio.run(cancel())


def test_a_server_that_ignores_conditions_is_told_of(
    rclone: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    store = rclone.open_store(rclone.make_place())

    async def hold() -> None:
        for key in CALLS[:2]:
            async with store.claim(key):
                pass

    asyncio.run(hold())
    store.close()
    assert [record.levelname for record in caplog.records if "ignores" in record.message] == [
        "ERROR"
    ]


def test_the_files_of_a_process_that_died_are_removed_here(
    open_store: Callable[[], S3Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = open_store()
    dead = first._folder.parent / "dead"
    dead.mkdir()
    (dead / "alive").touch()
    open_store()
    assert first._folder.exists()
    assert not dead.exists()


# What can be wrong with it.


def asked(place: S3Place, access: S3Access) -> None:
    store = S3Store(Bucket(place, access), 10**9)
    try:
        asyncio.run(put(store, CALLS[0], b"data"))
    finally:
        store.close()


def test_a_missing_bucket_is_told_with_its_cure(moto: S3Server) -> None:
    with pytest.raises(Error, match=r"s3://no-such-bucket refuses \(NoSuchBucket\); make"):
        asked(S3Place("no-such-bucket"), moto.access)


def test_wrong_keys_are_told_with_their_cure(
    rclone: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = rclone.make_place()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(Error, match=r"refuses \(\w+\); (check the credentials|allow)") as caught:
        asked(place, rclone.access)
    assert "wrong" not in caught.value.detail


def test_a_server_that_is_away_is_an_error_that_may_pass(
    place: S3Place, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_ATTEMPTS", 1)
    with pytest.raises(ServerBusy, match="cannot be reached"):
        asked(place, replace(moto.access, endpoint="http://127.0.0.1:9"))


def test_boto3_is_loaded_by_the_first_request(moto: S3Server, place: S3Place) -> None:
    script = f"""
import asyncio, sys
from webfoot.settings import S3Access, S3Encryption, S3Place
from webfoot.store.bucket import Bucket
from webfoot.store.s3 import S3Store
import webfoot.assembly
store = S3Store(Bucket({place!r}, {moto.access!r}), 10**9)
print("boto3" in sys.modules)
asyncio.run(store.find("a"))
print("boto3" in sys.modules)
store.close()
"""
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert told.stdout.split() == ["False", "True"]


def test_a_folder_in_this_process_reads_from_a_bucket(
    moto: S3Server, place: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests go nowhere else: what is large is answered with its bytes."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WEBFOOT_STORE", str(place))
    folder = write_udfs(tmp_path, udfs=UDFS, _counting=COUNT)
    with webfoot.Client(folder) as client:
        assert len(client.run("large").arrow()) == ROWS
    assert f"calls/{CALLS[0]}.json" not in names(moto, place)
    assert len(names(moto, place)) == 2


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"needs boto3.*install webfoot\[aws\]"):
        Bucket(S3Place("tables"), S3Access())


def test_a_temporary_folder_that_cannot_be_used_is_told(
    open_store: Callable[[], S3Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match="set TMPDIR to another"):
        open_store()


def test_a_run_makes_as_many_requests_as_its_estimate_counts(
    tmp_path: Path, write_files: Callable[..., Path], open_store: Callable[..., S3Store]
) -> None:
    place = places_in(tmp_path, write_files, open_store)()
    methods: list[str] = []

    async def ask() -> None:
        await place.ask(n=1)
        place.store._bucket._client.meta.events.register("before-send.s3", note)
        await place.ask(n=2)

    def note(request: Any, **_: Any) -> None:
        methods.append(request.method)

    asyncio.run(ask())
    assert methods.count("PUT") == S3_WRITES
    assert methods.count("GET") + methods.count("HEAD") == S3_READS
