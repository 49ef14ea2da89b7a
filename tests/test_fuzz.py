"""Generated requests: every bad input is a clear 4xx, and a 5xx only says to come again."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, example, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from tests.access.granting import give_key, give_link
from tests.attacks import ALLOWED, FAILS, REFUSED
from tests.server_process import EVERY_TYPE, Server, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[1] / "udfs"
# It asks GitHub, which is not there in tests: a 5xx says nothing about us.
NEEDS_NETWORK = {"releases"}
NOTHING_TO_GET_WRONG = ("GET /shares", "GET /metrics", "GET /alerts")
# What somebody may be told who asks too much at once.
PASSING = {(503, "server-busy"), (504, "query-timeout"), (504, "udf-timeout")}
FORMATS = ["parquet", "csv", "json", "ndjson", "arrow", "html"]
SETTINGS = settings(
    deadline=None,
    database=None,
    derandomize=True,
    verbosity=Verbosity.quiet,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a parameter of every type."""
    with serve(
        write_udfs(tmp_path_factory.mktemp("fuzz"), types=EVERY_TYPE), "--cache", "1h"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the repository's own UDFs, out of reach of any network."""
    store = tmp_path_factory.mktemp("fuzz") / "store"
    environment = {**os.environ, "GITHUB_API_URL": "http://127.0.0.1:9"}
    folder = tmp_path_factory.mktemp("examples") / "udfs"
    folder.symlink_to(EXAMPLES)
    with serve(folder, "--cache", "1h", store=store, environment=environment) as server:
        yield server


@dataclass(frozen=True)
class Closed:
    """A server that asks for keys, and who has some."""

    server: Server
    shown: dict[str, dict[str, str]]
    link: str


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    """The same with keys of every role, of two tenants, and with SQL over a dataset."""
    parent = tmp_path_factory.mktemp("closed")
    folder = write_udfs(parent, types=EVERY_TYPE)
    (parent / "lake.csv").write_text("a\n1\n")
    place = parent / "store/access"
    keys = {
        "operator": give_key(place, "admin"),
        "admin": give_key(place, "admin", tenant="acme"),
        "analyst": give_key(place, "analyst", tenant="acme"),
        "viewer": give_key(place, "viewer", tenant="zeta", udfs=("numbers",), formats=("csv",)),
        "stranger": "wf_0123456789ab_" + "a" * 43,
        "late": give_key(place, "admin", expires=1.0),
    }
    link = give_link(place, "nothing", formats=("csv", "json"))
    environment = {
        **os.environ,
        "WEBFOOT_LAKE": f"lake={parent}/lake.csv",
        "WEBFOOT_SQL_TIMEOUT": "1s",
    }
    shown = {role: {"authorization": f"Bearer {key}"} for role, key in keys.items()}
    with serve(folder, "--cache", "1h", environment=environment) as server:
        yield Closed(server, {**shown, "nobody": {}}, link)


def check(response: httpx.Response, seen: dict[int, int]) -> None:
    """No 5xx but those that pass; and whatever is refused, is refused in the one shape."""
    status = response.status_code
    seen[status] = seen.get(status, 0) + 1
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json", response.text[:2000]
        body = response.json()
        assert status < 500 or (status, body["code"]) in PASSING, (str(response.url), body)
        assert body["status"] == status
        assert body["code"]
        assert body["detail"]


def call_by_schema(
    server: Server, requests: int, shown: dict[str, str] | None = None
) -> dict[int, int]:
    """Requests that schemathesis makes of the OpenAPI document: half as it says, half not."""
    document = httpx.get(f"{server.url}/openapi.json", headers=shown).json()
    kept = {
        path: item
        for path, item in document["paths"].items()
        if not {
            operation["operationId"].split(".")[0]
            for method, operation in item.items()
            if method != "parameters"
        }
        & NEEDS_NETWORK
    }
    schema = schemathesis.openapi.from_dict({**document, "paths": kept})
    operations = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    assert len(operations) == sum(len({"get", "post", "delete"} & set(kept[p])) for p in kept)
    seen: dict[int, int] = {}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for operation in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                if mode is GenerationMode.NEGATIVE and operation.label in NOTHING_TO_GET_WRONG:
                    continue
                strategy = operation.as_strategy(generation_mode=mode)

                @settings(SETTINGS, max_examples=max(requests // len(operations) // 2, 1))
                @given(case=strategy)
                def send(case: Any) -> None:
                    prepared = case.as_transport_kwargs(base_url=server.url)
                    check(
                        client.request(
                            prepared["method"],
                            prepared["url"],
                            params=prepared.get("params"),
                            headers=_sendable(prepared.get("headers")) | (shown or {}),
                            json=prepared.get("json"),
                            content=prepared.get("data"),
                        ),
                        seen,
                    )

                send()
    return seen


def _sendable(headers: Any) -> dict[str, str]:
    return {k: str(v) for k, v in dict(headers or {}).items() if k.lower() != "user-agent"}


TEXTS = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from(
        [
            *(
                "",
                " ",
                "0",
                "-0",
                "+1",
                "1e400",
                "NaN",
                "inf",
                "null",
                "None",
                "true",
                "[]",
                "{}",
                "[[",
                "{",
            ),
            *(
                "1,2",
                ",",
                "a,b",
                "[1, 2]",
                '["a"]',
                '{"name": "a"}',
                '{"x": 1e999}',
                '{"x": NaN}',
                "[" * 3000,
            ),
            *(
                "2024-02-30",
                "2024-01-31",
                "99999-01-01",
                "2024-01-31T25:00",
                "24:00",
                "PT1H",
                "P1Y",
                "-P1D",
            ),
            *(
                "2024-01-31T12:00:00+99:00",
                "9" * 400,
                "1" * 5000,
                "١٢٣",
                "²",
                "1_000",
                "0x10",
                "\uff11",
                "\x00",
            ),
            *(
                "é",
                "🦆",
                "a/b=c",
                "../../etc/passwd",
                "'; DROP TABLE x; --",
                '"',
                "%",
                "\r\nX: y",
                "\ufeff",
            ),
            *(
                "red",
                "RED",
                "deep blue",
                "P999999999999D",
                "PT9e99S",
                "1.5.5",
                "--1",
                "-",
                "_",
                "\u202e",
            ),
        ]
    ),
)
OPTIONS = st.sampled_from(
    ["_limit", "_offset", "_columns", "_order", "_cb", "_x", "", "n", "__class__"]
)


def call_by_hypothesis(server: Server, requests: int) -> dict[int, int]:
    """Any text for any parameter, known and not, once and more often, encoded in every way."""
    known = httpx.get(f"{server.url}/udfs").json()["udfs"]
    udfs = {u["name"]: [p["name"] for p in u["parameters"]] for u in known}
    seen: dict[int, int] = {}

    @st.composite
    def requests_of(draw: st.DrawFn) -> str:
        udf = draw(st.sampled_from(sorted(set(udfs) - NEEDS_NETWORK)))
        names = st.one_of(st.sampled_from(udfs[udf]), OPTIONS) if udfs[udf] else OPTIONS
        pairs = draw(st.lists(st.tuples(names, TEXTS), max_size=5))
        query = draw(
            st.one_of(
                st.just(urlencode(pairs)),
                st.binary(max_size=40).map(lambda data: quote(data, safe="&=+;%")),
            )
        )
        extension = draw(st.sampled_from([*FORMATS, "geojson", "wal", "é"]))
        return f"/udfs/{quote(udf)}.{quote(extension)}?{query}"

    with httpx.Client(timeout=60) as client:

        @settings(SETTINGS, max_examples=requests)
        @given(path=requests_of(), method=st.sampled_from(["GET", "GET", "GET", "HEAD"]))
        def send(path: str, method: str) -> None:
            # As a text, the client would mend what is to be sent as it is.
            response = client.request(
                method, httpx.URL(server.url).copy_with(raw_path=path.encode())
            )
            if method == "HEAD":
                assert response.status_code in (200, 404), path
            else:
                check(response, seen)

        send()
    return seen


ROUTES = [
    *("/", "/udfs", "/udfs/{name}", "/udfs/{name}.{ext}", "/udfs/{name}/map"),
    *("/udfs/{name}/{text}={text}/data.{ext}", "/runs/{id}", "/jobs", "/jobs/{id}"),
    *("/jobs/{id}.{ext}", "/shares", "/shares/{id}", "/query", "/query.{ext}"),
    *("/_system/requests.{ext}", "/_system/runs.{ext}", "/_system/{text}.{ext}"),
    *("/metrics", "/alerts"),
    *("/catalog.duckdb", "/catalog.sql", "/catalog-untyped.{ext}", "/openapi.json", "/docs"),
    *("/healthz", "/readyz", "/static/{id}/{text}", "/{text}", "/{text}/{text}"),
]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=9,
)
SQL = st.one_of(st.sampled_from([*REFUSED, *ALLOWED, *FAILS]), TEXTS, st.just("FROM lake"))
BODIES = st.one_of(
    JSON.map(json.dumps),
    st.sampled_from(
        [
            *('{"udf": "nothing"}', '{"udf": "numbers", "parameters": {"whole": 1}}'),
            *('{"udf": "numbers", "inputs": [{"whole": 1}]}', '[{"whole": 1}]', "[{}]"),
        ]
    ),
    st.fixed_dictionaries(
        {"query": SQL}, optional={"parameters": JSON, "limit": JSON, "exact": JSON}
    ).map(json.dumps),
    st.fixed_dictionaries(
        {"udf": st.sampled_from(["numbers", "nothing", "größe", "", "x"])},
        optional={
            **dict.fromkeys(("parameters", "inputs", "free", "formats", "expires", "rate"), JSON),
        },
    ).map(json.dumps),
    st.lists(st.dictionaries(st.sampled_from(["whole", "text", "x"]), JSON), max_size=3).map(
        json.dumps
    ),
    st.text(max_size=20),
).map(lambda text: text.encode(errors="replace")) | st.binary(max_size=60)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "accept": st.sampled_from(
            ["*/*", "application/json", "text/csv", "application/vnd.apache.parquet", "a/b;q=é"]
        ),
        "content-type": st.sampled_from(
            [
                *("application/json", "text/plain", "application/vnd.apache.parquet"),
                *("application/vnd.apache.arrow.stream", "multipart/form-data", ";"),
            ]
        ),
        "content-encoding": st.sampled_from(["gzip", "br", "identity", "x"]),
        "range": st.sampled_from(["bytes=0-1", "bytes=-5", "bytes=9-", "bytes=0-,5-", "x", "é=1"]),
        "if-none-match": st.sampled_from(["*", '"a"', 'W/"', "x"]),
        "if-match": st.sampled_from(["*", '"a"', ","]),
        "if-modified-since": TEXTS,
        "idempotency-key": TEXTS,
        "cache-control": st.sampled_from(["no-cache", "max-age=x"]),
        "accept-encoding": st.sampled_from(["gzip", "gzip;q=0", "gzip;q=9", "br"]),
        "x-request-id": TEXTS,
        "sec-fetch-site": st.sampled_from(["cross-site", "same-origin"]),
        "x-forwarded-host": TEXTS,
        "x-forwarded-for": TEXTS,
        "origin": TEXTS,
    },
)
METHODS = ["GET", "GET", "GET", "POST", "POST", "HEAD", "DELETE", "PUT", "PATCH", "OPTIONS"]


def call_every_route(closed: Closed, requests: int) -> dict[int, int]:
    """Anything at every address, by everybody: any method, headers, query and body."""
    seen: dict[int, int] = {}

    @st.composite
    def targets(draw: st.DrawFn) -> str:
        parts = {
            "name": st.sampled_from(["numbers", "texts", "nothing", "größe", "x"]),
            "ext": st.sampled_from([*FORMATS, "sql", "duckdb", "x"]),
            "id": st.sampled_from(["0123456789abcdef", "0123456789ab", ".."]) | TEXTS,
            "text": TEXTS,
        }
        path = draw(st.sampled_from(ROUTES))
        for part, texts in parts.items():
            while f"{{{part}}}" in path:
                path = path.replace(f"{{{part}}}", quote(draw(texts), safe=""), 1)
        names = st.sampled_from(["whole", "text", "sql", "parameters", "limit", "q"])
        pairs = draw(st.lists(st.tuples(names | OPTIONS, TEXTS | SQL), max_size=3))
        if draw(st.integers(0, 9)) == 0:
            pairs.append(("_share", closed.link))
        return f"{path}?{urlencode(pairs, errors='replace')}"

    with httpx.Client(base_url=closed.server.url, timeout=60) as client:

        @example(
            target="/jobs", method="POST", role="analyst", headers={}, body=b'{"udf": "nothing"}'
        )
        @example(
            target="/query", method="POST", role="admin", headers={}, body=b'{"q": "FROM lake"}'
        )
        @example(target="/udfs/numbers.csv", method="GET", role="operator", headers={}, body=b"")
        @settings(SETTINGS, max_examples=requests)
        @given(
            target=targets(),
            method=st.sampled_from(METHODS),
            role=st.sampled_from([*sorted(closed.shown), *["operator", "analyst"] * 3]),
            headers=HEADERS,
            body=BODIES,
        )
        def send(target: str, method: str, role: str, headers: dict[str, str], body: bytes) -> None:
            url = httpx.URL(closed.server.url).copy_with(raw_path=target.encode())
            given = {**headers, **closed.shown[role]}
            shown = [(name.encode(), _line(text)) for name, text in given.items()]
            content = body if method in ("POST", "PUT", "PATCH") else None
            response = client.request(method, url, headers=shown, content=content)
            if response.status_code == 400 and method == "OPTIONS":
                return  # Of the framework, in a text: what a page of another site may not ask.
            if method == "HEAD":
                seen[response.status_code] = seen.get(response.status_code, 0) + 1
                assert response.status_code < 500, target
            else:
                check(response, seen)

        send()
    return seen


def _line(text: str) -> bytes:
    """A text as a header can have it: what ends lines, or is around a value, no client sends."""
    kept = "".join(letter for letter in text if letter.isprintable())
    return kept.encode()[:9_000].strip()


# Schemathesis' own pytest plugin is not used: the requests here must go to the server itself.


def test_generated_requests_of_the_document_give_no_5xx(types: Server) -> None:
    seen = call_by_schema(types, 70)
    assert {200, 422} <= set(seen), seen


def test_generated_parameters_give_no_5xx(types: Server) -> None:
    seen = call_by_hypothesis(types, 300)
    assert {200, 404, 422} <= set(seen), seen


def test_generated_requests_of_everybody_give_no_5xx(closed: Closed) -> None:
    seen = call_every_route(closed, 200)
    assert {200, 202, 401, 403, 404, 405, 422} <= set(seen), seen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_generated_requests_of_everybody_give_no_5xx(closed: Closed) -> None:
    seen = Counter(call_every_route(closed, 5_000))
    for role in ("operator", "admin", "analyst", "viewer"):
        seen.update(call_by_schema(closed.server, 500, closed.shown[role]))
    assert {200, 202, 401, 403, 404, 405, 422} <= set(seen), seen
    assert sum(seen.values()) >= 6_000, seen


@pytest.mark.slow
def test_generated_requests_of_the_examples_give_no_5xx(examples: Server) -> None:
    seen = call_by_schema(examples, 60)
    assert {200, 422} <= set(seen), seen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_generated_requests_give_no_5xx(types: Server, examples: Server) -> None:
    seen: dict[int, int] = {}
    for made in (
        call_by_schema(types, 4_000),
        call_by_hypothesis(types, 5_000),
        call_by_schema(examples, 1_500),
        call_by_hypothesis(examples, 2_000),
    ):
        for status, count in made.items():
            seen[status] = seen.get(status, 0) + count
    assert sum(seen.values()) >= 10_000, seen
