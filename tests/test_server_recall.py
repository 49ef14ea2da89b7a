"""What was answered a moment ago is answered again without a look, and only where that is right."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.access.granting import bearer, give_key, revoke
from tests.server_process import COUNT, serve, write_udfs
from tests.test_server_records import lines_in, record_of

from webfoot.access.guards import ANYBODY
from webfoot.access.keys import id_of
from webfoot.access.throttling import Limits as Quota
from webfoot.results import Result
from webfoot.server import create_app, recall
from webfoot.server.exchanges import Exchange
from webfoot.server.limits import Limits, with_limits
from webfoot.server.problems import Reply
from webfoot.server.recall import Recall
from webfoot.server.visits import VISIT, Visit
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
def believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is remembered is good until the test is over, however slow the machine is."""
    monkeypatch.setattr(recall, "_BELIEVED_S", 60.0)


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


@pytest.mark.usefixtures("believed")
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
        asked: dict[str, float] = {}
        while len(asked) < 5:
            now = time.time()
            asked[http.get("/udfs/brief.json").headers["x-webfoot-run"]] = now
        for run, last in asked.items():
            told = http.get(f"/runs/{run}").json()
            # Fresh for 0.4 s, from when the run was over; times are told to a millisecond.
            assert last < told["started"] + told["seconds"] + 0.41


def test_a_record_says_as_much_of_it(servers: tuple[Server, Server]) -> None:
    with httpx.Client(base_url=servers[0].url, timeout=30) as http:
        ids = [http.get("/udfs/small.csv?n=9").headers["x-request-id"] for _ in range(4)]
    told = [record_of(servers[0], number)[0] for number in ids]
    differ = ("timestamp", "request_id", "execution_time_ms")
    assert told[2] | dict.fromkeys(differ) == told[3] | dict.fromkeys(differ)
    assert (told[3]["udf"], told[3]["cache"], told[3]["format"]) == ("small", "hit", "csv")
    assert told[3]["rows"] == 9
    assert told[3]["run"] == told[0]["run"]
    assert told[3]["bytes_sent"] == told[0]["bytes_sent"] > 0


def test_askers_are_told_apart(folder: Path, tmp_path: Path) -> None:
    keys = [give_key(tmp_path / "store/access", "admin") for _ in range(2)]
    with serve(folder, store=tmp_path / "store") as server, httpx.Client(timeout=30) as http:
        url = f"{server.url}/udfs/small.json"
        for _ in range(5):
            for key in keys:
                http.get(url, headers=bearer(key)).raise_for_status()
            assert http.get(url).status_code == 401
            assert http.get(url, headers=bearer(keys[0] + "0")).status_code == 401
        own = f"{server.url}/udfs/own.json"
        answers = [[http.get(own, headers=bearer(key)).json() for key in keys] for _ in range(3)]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] != answers[0][1]
    lines = [line for line in lines_in(server.store) if line.get("udf") == "small"]
    assert Counter(line["principal"] for line in lines) == {f"key:{id_of(key)}": 5 for key in keys}


def test_a_key_that_is_revoked_is_refused_half_a_second_later(folder: Path, tmp_path: Path) -> None:
    access = tmp_path / "store/access"
    key, _ = give_key(access, "viewer"), give_key(access, "viewer")
    with serve(folder, store=tmp_path / "store") as server, httpx.Client(timeout=30) as http:
        url, headers = f"{server.url}/udfs/small.csv", bearer(key)
        http.get(url, headers=headers).raise_for_status()
        revoke(access, "key", id_of(key))
        until = time.monotonic() + 0.55
        while time.monotonic() < until:
            http.get(url, headers=headers)
        assert http.get(url, headers=headers).status_code == 401


@pytest.mark.usefixtures("believed")
def test_who_comes_by_another_door_is_asked_who_they_are(folder: Path, tmp_path: Path) -> None:
    """Without keys, a server lets in this machine's own requests."""
    settings = Settings(folder=folder, store=tmp_path / "store", runner="inline")

    async def talk() -> None:
        app = create_app(settings)
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app))
        async with app.router.lifespan_context(app), http:
            for _ in range(3):
                near = await http.get("http://127.0.0.1/udfs/small.csv")
                far = await http.get("http://192.0.2.1/udfs/small.csv")
                assert (near.status_code, far.status_code) == (200, 401)

    asyncio.run(talk())


@pytest.mark.usefixtures("believed")
def test_limits_count_requests_for_the_same_too(folder: Path, tmp_path: Path) -> None:
    key = give_key(tmp_path / "access", "viewer", limits=Quota(daily=3))
    settings = Settings(
        folder=folder, store=tmp_path / "store", runner="inline", access=tmp_path / "access"
    )

    async def talk() -> None:
        app = create_app(settings)
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), headers=bearer(key))
        async with app.router.lifespan_context(app), http:
            url = "http://127.0.0.1/udfs/small.csv"
            codes = [(await http.get(url)).status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]

    asyncio.run(talk())


# The record itself


class Changing:
    """The parts of a store and an engine that are asked."""

    number: bytes | None = b"1"
    registry: object = "all UDFs"

    def revision(self) -> bytes | None:
        return self.number


@dataclass
class Clock:
    """Stands in for the module `time`."""

    now: float = 1_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@dataclass(frozen=True)
class Memory:
    """A `Recall`, asked as the gate and the endpoint ask it."""

    recall: Recall

    def finds(self, **changed: Any) -> bool:
        """Whether it has the answer to such a request."""
        return self.recall.find(request(**changed)) is not None

    def keep(self, exchange: Exchange, reply: Reply | None = None, **changed: Any) -> None:
        """Have it told of an answer."""
        asked = request(**changed)
        assert self.recall.find(asked) is None
        self.recall.keep(asked, reply or REPLY, exchange)


def visit(*, limited: bool = False) -> Visit:
    return Visit(ANYBODY, None, limited, private=False)  # type: ignore[arg-type]  # not looked at


def request(**changed: Any) -> dict[str, Any]:
    plain = {"method": "GET", "path": "/udfs/t.csv", "query_string": b"", "headers": []}
    return {**plain, "server": ("127.0.0.1", 80), VISIT: visit(), **changed}


def hit(lifetime_s: float = 60, **noted: Any) -> Exchange:
    exchange = Exchange(request())
    exchange.udf, exchange.key, exchange.cache = "t", "key", "hit"
    exchange.result = Result(
        *("key", "run", "parquet", "etag", 9, 1, (), 0.1, 1_000.0, 1_000.0 + lifetime_s, 1)
    )
    for name, value in noted.items():
        setattr(exchange, name, value)
    return exchange


REPLY = Reply(200, [], b"body")


@pytest.fixture
def changing() -> Changing:
    return Changing()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recall, "time", clock)
    return clock


@pytest.fixture
def memory(changing: Changing, clock: Clock) -> Memory:
    return Memory(Recall(changing, changing))  # type: ignore[arg-type]  # all that it asks of them


def test_what_is_kept_is_found_until_the_store_changes(memory: Memory, changing: Changing) -> None:
    memory.keep(hit())
    found = memory.recall.find(request())
    assert found is not None
    assert found.reply is REPLY
    assert found.principal is ANYBODY.principal
    changing.number = b"2"
    assert not memory.finds()


def test_what_is_kept_is_found_until_the_udfs_change(memory: Memory, changing: Changing) -> None:
    memory.keep(hit())
    changing.registry = "others"
    assert not memory.finds()


@pytest.mark.parametrize("changes", [{"number": b"2"}, {"registry": "others"}])
def test_what_changed_while_it_was_made_is_not_found(
    memory: Memory, changing: Changing, changes: dict[str, Any]
) -> None:
    asked = request()
    memory.recall.find(asked)
    vars(changing).update(changes)
    memory.recall.keep(asked, REPLY, hit())
    assert not memory.finds()


@pytest.mark.parametrize(
    "exchange",
    [
        *(hit(udf=""), hit(key=""), hit(cache="miss"), hit(cache="stale"), hit(code="no")),
        *(hit(method="POST"), hit(result=None), hit(lifetime_s=0), hit(lifetime_s=-1)),
    ],
)
def test_only_plain_answers_that_are_fresh_are_kept(memory: Memory, exchange: Exchange) -> None:
    memory.keep(exchange)
    assert not memory.finds()


def test_what_had_a_cost_is_not_kept(memory: Memory) -> None:
    exchange = hit()
    exchange.tally.runs = 1
    memory.keep(exchange)
    assert not memory.finds()


def test_a_store_that_cannot_tell_of_changes_is_always_asked(
    memory: Memory, changing: Changing
) -> None:
    changing.number = None
    memory.keep(hit())
    assert not memory.finds()


@pytest.mark.parametrize(("lifetime_s", "good_s"), [(60, 0.25), (0.125, 0.125)])
def test_answers_are_good_for_a_moment_and_no_longer_than_the_result(
    memory: Memory, clock: Clock, lifetime_s: float, good_s: float
) -> None:
    memory.keep(hit(lifetime_s))
    clock.now += good_s
    assert memory.finds()
    clock.now += 0.001
    assert not memory.finds()


def test_limits_of_a_platform_are_looked_at_each_time(memory: Memory) -> None:
    memory.keep(hit())
    limited = with_limits(request(), Limits(most_bytes=1))
    assert memory.recall.find(limited) is None


def test_what_a_platform_limits_is_not_kept(memory: Memory) -> None:
    memory.keep(hit(), **with_limits(request(), Limits(most_bytes=1)))
    assert not memory.finds()


def test_who_has_limits_is_counted_each_time(memory: Memory) -> None:
    memory.keep(hit(), None, **{VISIT: visit(limited=True)})
    assert not memory.finds()


@pytest.mark.parametrize(
    ("reply", "asked"),
    [
        (Reply(200, [], bytes(70_000)), {}),
        (REPLY, {"query_string": b"n=" + b"1" * 5000}),
        (REPLY, {"headers": [(b"authorization", b"Bearer " + b"1" * 5000)]}),
    ],
)
def test_what_is_large_is_not_kept(memory: Memory, reply: Reply, asked: dict[str, Any]) -> None:
    memory.keep(hit(), reply, **asked)
    assert not memory.finds(**asked)


def test_of_many_the_first_go(memory: Memory) -> None:
    queries = [b"n=%d" % number for number in range(1500)]
    for query in queries:
        memory.keep(hit(), query_string=query)
    found = [memory.finds(query_string=query) for query in queries]
    assert found == [False] * 500 + [True] * 1000


def test_what_is_good_no_longer_is_forgotten_with_the_keys_that_were_shown(
    memory: Memory, clock: Clock
) -> None:
    shown = b"Bearer wf_secret"
    memory.keep(hit(), headers=[(b"authorization", shown)])
    assert repr(shown) in repr(memory.recall._answers)
    clock.now += 1
    memory.keep(hit())
    assert repr(shown) not in repr(memory.recall._answers)


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "HEAD"},
        {"path": "/udfs/t.json"},
        {"raw_path": b"/udfs/t%2Ecsv"},
        {"root_path": "/behind"},
        {"query_string": b"n=1"},
        {"headers": [(b"range", b"bytes=0-1")]},
        {"headers": [(b"authorization", b"Bearer wf_another")]},
        {"headers": [(b"x-api-key", b"wf_another")]},
        {"server": ("192.0.2.1", 80)},
    ],
)
def test_what_differs_is_another_request(memory: Memory, changed: dict[str, Any]) -> None:
    memory.keep(hit())
    assert not memory.finds(**changed)


def test_what_decides_nothing_is_the_same_request(memory: Memory) -> None:
    memory.keep(hit())
    assert memory.finds(headers=[[b"traceparent", b"00-1"], [b"user-agent", b"duckdb/v1"]])
