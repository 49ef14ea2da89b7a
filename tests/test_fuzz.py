"""Generated requests: every bad input is a clear 4xx, and nothing is a 5xx."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from tests.server_process import EVERY_TYPE, Server, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[1] / "udfs"
# It asks GitHub, which is not there in tests: a 5xx says nothing about us.
NEEDS_NETWORK = {"releases"}
NOTHING_TO_GET_WRONG = ("GET /shares", "GET /metrics")
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


def check(response: httpx.Response, seen: dict[int, int]) -> None:
    """No 5xx; and whatever is refused, is refused in the one shape."""
    seen[response.status_code] = seen.get(response.status_code, 0) + 1
    assert response.status_code < 500, (str(response.url), response.text[:2000])
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        body = response.json()
        assert body["status"] == response.status_code
        assert body["code"]
        assert body["detail"]


def call_by_schema(server: Server, requests: int) -> dict[int, int]:
    """Requests that schemathesis makes of the OpenAPI document: half as it says, half not."""
    document = httpx.get(f"{server.url}/openapi.json").json()
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
                            headers=_sendable(prepared.get("headers")),
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


# Schemathesis' own pytest plugin is not used: the requests here must go to the server itself.


def test_generated_requests_of_the_document_give_no_5xx(types: Server) -> None:
    seen = call_by_schema(types, 140)
    assert {200, 422} <= set(seen), seen


def test_generated_parameters_give_no_5xx(types: Server) -> None:
    seen = call_by_hypothesis(types, 300)
    assert {200, 404, 422} <= set(seen), seen


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
