"""What was answered a moment ago is answered again without a look, and only where that is right."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.access.granting import bearer, give_key
from tests.server_process import COUNT, serve, write_udfs

from webfoot.results import Result
from webfoot.server import create_app
from webfoot.server.exchanges import Exchange
from webfoot.server.limits import Limits, with_limits
from webfoot.server.problems import Reply
from webfoot.server.recall import Recall
from webfoot.server.visits import VISIT
from webfoot.settings import Settings
from webfoot.store.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.server_process import Server

UDFS = """
import time
from typing import Literal
from webfoot import Principal, udf

@udf
def small(n: int = 500):
    count("small")
    return [{"made": time.time_ns(), "i": i} for i in range(n)]

@udf(cache=0.4)
def brief(n: int = 1):
    count("brief")
    return [{"made": time.time_ns()}]

@udf(partitions=["a", "b"])
def parts(a: Literal["1", "1/b=2"] = "1", b: Literal["0", "2"] = "0"):
    return [{"a": a, "b": b}]

@udf
def own(who: Principal):
    return [{"id": who.id}]

@udf
def fails(n: int = 1):
    raise ValueError("no")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_udfs(tmp_path_factory.mktemp("recall"), tables=COUNT + UDFS)


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """Two, on one store."""
    with serve(folder, store=folder.parent / "s") as one, serve(folder, store=one.store) as two:
        yield one, two


@pytest.fixture
def ask(folder: Path, tmp_path: Path) -> Callable[[Callable[..., Awaitable[Any]]], None]:
    """Runs a conversation with a server inside this process, which has a store of its own."""
    settings = Settings(folder=folder, store=tmp_path / "store", runner="inline")

    @contextlib.asynccontextmanager
    async def client() -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(settings)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app):
            address = "http://127.0.0.1"
            async with httpx.AsyncClient(transport=transport, base_url=address) as http:
                yield http

    def run(talk: Callable[..., Awaitable[Any]]) -> None:
        async def all_of_it() -> None:
            async with client() as http:
                await talk(http)

        asyncio.run(all_of_it())

    return run


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that a store was asked for."""
    asked: list[str] = []
    find = LocalStore.find

    async def noted(self: LocalStore, key: str) -> Any:
        asked.append(key)
        return await find(self, key)

    monkeypatch.setattr(LocalStore, "find", noted)
    return asked


REQUESTS = [
    ("GET", "small.parquet", {}),
    ("HEAD", "small.parquet", {}),
    ("GET", "small.csv?_for=excel", {}),
    ("GET", "small.csv", {"Accept-Encoding": "gzip"}),
    ("GET", "small.parquet", {"Range": "bytes=0-99"}),
    ("GET", "small.parquet?n=500", {"If-None-Match": "*"}),
    ("GET", "parts/a=1/b=2/data.parquet", {}),
    ("GET", "small.json?_each=n&n=1&n=2", {}),
]


@pytest.mark.parametrize(("method", "path", "headers"), REQUESTS)
def test_the_same_again_is_the_same_answer_without_a_look(
    ask: Any, looks: list[str], method: str, path: str, headers: dict[str, str]
) -> None:
    async def talk(http: httpx.AsyncClient) -> None:
        async def once() -> httpx.Response:
            return await http.request(method, f"/udfs/{path}", headers=headers)

        await http.get(f"/udfs/{path}", headers=headers)
        # A view is made of what is stored by then: what it costs is told once.
        first = await once()
        looks.clear()
        second = await once()
        assert looks == []
        assert second.status_code == first.status_code < 400
        assert second.content == first.content
        told, again = dict(first.headers), dict(second.headers)
        assert told.pop("x-request-id") != again.pop("x-request-id")
        assert told == again

    ask(talk)


def test_a_look_is_taken_again_soon_and_notes_the_use(ask: Any, looks: list[str]) -> None:
    async def talk(http: httpx.AsyncClient) -> None:
        for _ in range(2):
            await http.get("/udfs/small.parquet")
        looks.clear()
        await asyncio.sleep(0.3)
        await http.get("/udfs/small.parquet")
        assert len(looks) == 1

    ask(talk)


def test_other_headers_are_another_question(ask: Any) -> None:
    async def talk(http: httpx.AsyncClient) -> None:
        whole = await http.get("/udfs/small.parquet")
        etag = whole.headers["etag"]
        for _ in range(2):
            for headers, status, length in (
                ({}, 200, len(whole.content)),
                ({"Range": "bytes=0-9"}, 206, 10),
                ({"Range": "bytes=0-19"}, 206, 20),
                ({"Range": "bytes=0-19", "If-Range": '"another"'}, 200, len(whole.content)),
                ({"If-None-Match": etag}, 304, 0),
                ({"If-Match": '"another"'}, 412, None),
            ):
                answer = await http.get("/udfs/small.parquet", headers=headers)
                assert answer.status_code == status, headers
                assert length is None or len(answer.content) == length

    ask(talk)


def test_folders_are_told_apart_as_they_were_sent(ask: Any) -> None:
    async def talk(http: httpx.AsyncClient) -> None:
        for _ in range(3):
            one = await http.get("/udfs/parts/a=1%2Fb=2/data.json")
            two = await http.get("/udfs/parts/a=1/b=2/data.json")
            assert one.json() == [{"a": "1/b=2", "b": "0"}]
            assert two.json() == [{"a": "1", "b": "2"}]

    ask(talk)


def test_a_failure_is_no_answer_to_remember(ask: Any, looks: list[str]) -> None:
    async def talk(http: httpx.AsyncClient) -> None:
        await http.get("/udfs/fails.parquet")
        looks.clear()
        answer = await http.get("/udfs/fails.parquet")
        assert answer.status_code == 500
        assert looks

    ask(talk)


def test_a_body_is_another_question(ask: Any) -> None:
    async def talk(http: httpx.AsyncClient) -> None:
        for _ in range(2):
            for n in (1, 2):
                answer = await http.post("/udfs/small/map", json=[{"n": n}])
                assert answer.headers["x-webfoot-rows"] == str(n)

    ask(talk)


def test_what_another_server_has_made_is_answered_at_once(servers: tuple[Server, Server]) -> None:
    with httpx.Client(timeout=30) as http:
        urls = [f"{server.url}/udfs/small.parquet?n=7" for server in servers]
        for number in range(20):
            for url in urls * 2:
                http.get(url).raise_for_status()
            anew = http.get(urls[number % 2], headers={"Cache-Control": "no-cache"})
            runs = {http.get(url).headers["x-webfoot-run"] for url in urls}
            assert runs == {anew.headers["x-webfoot-run"]}


def test_nothing_is_answered_beyond_its_time(servers: tuple[Server, Server]) -> None:
    with httpx.Client(base_url=servers[0].url, timeout=30) as http:
        seen: dict[str, list[float]] = {}
        until = time.monotonic() + 3
        while time.monotonic() < until:
            asked = time.time()
            (row,) = http.get("/udfs/brief.json").json()
            seen.setdefault(row["made"], []).append(asked - row["made"] / 1e9)
    assert len(seen) > 3
    # Fresh for 0.4 s, from when the run was over.
    assert max(max(ages) for ages in seen.values()) < 0.6


def test_a_record_says_as_much_of_it(servers: tuple[Server, Server]) -> None:
    with httpx.Client(base_url=servers[0].url, timeout=30) as http:
        ids = [http.get("/udfs/small.csv?n=9").headers["x-request-id"] for _ in range(4)]
        time.sleep(0.5)
        records = {row["request_id"]: row for row in http.get("/_system/requests.json").json()}
    told = [records[number] for number in ids]
    differ = ("timestamp", "request_id", "execution_time_ms")
    assert told[2] | dict.fromkeys(differ) == told[3] | dict.fromkeys(differ)
    assert (told[3]["udf"], told[3]["cache"], told[3]["format"]) == ("small", "hit", "csv")
    assert told[3]["rows"] == 9
    assert told[3]["run"] == told[0]["run"]
    assert told[3]["bytes_sent"] == told[0]["bytes_sent"] > 0


def test_askers_are_told_apart(folder: Path, tmp_path: Path) -> None:
    keys = [give_key(tmp_path / "store/access", "analyst") for _ in range(2)]
    with serve(folder, store=tmp_path / "store") as server, httpx.Client(timeout=30) as http:
        url = f"{server.url}/udfs/own.json"
        answers = [[http.get(url, headers=bearer(key)).json() for key in keys] for _ in range(3)]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] != answers[0][1]
        assert http.get(url).status_code == 401


# The record itself


class Revised:
    """The part of a store that is asked."""

    number: bytes | None = b"1"

    def revision(self) -> bytes | None:
        return self.number


def scope(**changed: Any) -> dict[str, Any]:
    plain = {"method": "GET", "path": "/udfs/t.csv", "query_string": b"", "headers": []}
    return {**plain, VISIT: "somebody", **changed}


def hit(lifetime_s: float = 60, **noted: Any) -> Exchange:
    now = time.time()
    exchange = Exchange(scope())
    exchange.udf, exchange.key, exchange.cache = "t", "key", "hit"
    exchange.result = Result(
        *("key", "run", "parquet", "etag", 9, 1, (), 0.1, now, now + lifetime_s, 1)
    )
    for name, value in noted.items():
        setattr(exchange, name, value)
    return exchange


REPLY = Reply(200, [], b"body")


@pytest.fixture
def store() -> Revised:
    return Revised()


@pytest.fixture
def recall(store: Revised) -> Recall:
    return Recall(store)  # type: ignore[arg-type]  # all that it asks of one


def test_what_is_kept_is_found_until_the_store_changes(recall: Recall, store: Revised) -> None:
    recall.keep(scope(), REPLY, hit(), b"1")
    found = recall.find(scope())
    assert found is not None
    assert found.reply is REPLY
    store.number = b"2"
    assert recall.find(scope()) is None


def test_what_changed_while_it_was_made_is_not_found(recall: Recall, store: Revised) -> None:
    before = store.revision()
    store.number = b"2"
    recall.keep(scope(), REPLY, hit(), before)
    assert recall.find(scope()) is None


@pytest.mark.parametrize(
    "exchange",
    [
        *(hit(udf=""), hit(key=""), hit(cache="miss"), hit(cache="stale"), hit(code="no")),
        *(hit(method="POST"), hit(result=None), hit(lifetime_s=0), hit(lifetime_s=-1)),
    ],
)
def test_only_plain_answers_that_are_fresh_are_kept(recall: Recall, exchange: Exchange) -> None:
    recall.keep(scope(), REPLY, exchange, b"1")
    assert recall.find(scope()) is None


def test_what_had_a_cost_is_not_kept(recall: Recall) -> None:
    exchange = hit()
    exchange.tally.runs = 1
    recall.keep(scope(), REPLY, exchange, b"1")
    assert recall.find(scope()) is None


def test_a_store_that_cannot_tell_of_changes_is_always_asked(
    recall: Recall, store: Revised
) -> None:
    store.number = None
    recall.keep(scope(), REPLY, hit(), store.revision())
    assert recall.find(scope()) is None


def test_the_end_of_a_result_is_the_end_of_its_answers(recall: Recall) -> None:
    recall.keep(scope(), REPLY, hit(0.05), b"1")
    assert recall.find(scope()) is not None
    time.sleep(0.06)
    assert recall.find(scope()) is None


def test_limits_of_a_platform_are_looked_at_each_time(recall: Recall) -> None:
    recall.keep(scope(), REPLY, hit(), b"1")
    limited = with_limits(scope(), Limits(most_bytes=1))
    assert recall.find(limited) is None


@pytest.mark.parametrize(
    ("reply", "query"), [(Reply(200, [], bytes(70_000)), b""), (REPLY, b"n=" + b"1" * 2000)]
)
def test_what_is_large_is_not_kept(recall: Recall, reply: Reply, query: bytes) -> None:
    recall.keep(scope(query_string=query), reply, hit(), b"1")
    assert recall.find(scope(query_string=query)) is None


def test_of_many_the_first_go(recall: Recall) -> None:
    scopes = [scope(query_string=b"n=%d" % number) for number in range(1500)]
    for each in scopes:
        recall.keep(each, REPLY, hit(), b"1")
    found = [recall.find(each) is not None for each in scopes]
    assert found == [False] * 500 + [True] * 1000


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "HEAD"},
        {"path": "/udfs/t.json"},
        {"raw_path": b"/udfs/t%2Ecsv"},
        {"root_path": "/behind"},
        {"query_string": b"n=1"},
        {"headers": [(b"range", b"bytes=0-1")]},
        {VISIT: "another"},
    ],
)
def test_what_differs_is_another_request(recall: Recall, changed: dict[str, Any]) -> None:
    recall.keep(scope(), REPLY, hit(), b"1")
    assert recall.find(scope(**changed)) is None


def test_what_decides_nothing_is_the_same_request(recall: Recall) -> None:
    recall.keep(scope(), REPLY, hit(), b"1")
    asked = scope(headers=[[b"traceparent", b"00-1"], [b"user-agent", b"duckdb/v1"]])
    assert recall.find(asked) is not None
