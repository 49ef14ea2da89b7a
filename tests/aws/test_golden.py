"""One set of requests, two servers: a Lambda function answers as uvicorn does, to the byte."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.aws.events import KINDS, Answered, Asked, answer_of, event_of, lower, recorded
from tests.aws.runtime_api import Environment, environment
from tests.server_process import Server, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UDFS = '''
    from datetime import date
    from typing import Literal
    from webfoot import udf

    @udf(cache="1h")
    def squares(rows: int = 3, word: str = "é 🦆"):
        """Squares.

        Args:
            rows: How many.
        """
        return [{"n": n, "square": n * n, "word": word} for n in range(rows)]

    @udf(partitions=["region"])
    def sales(region: Literal["nörth a", "s/w"], day: date = date(2024, 1, 31)):
        return [{"region": region, "day": day, "pieces": 7}]

    @udf
    def broken(n: int = 1):
        raise ValueError(f"no table for {n}")
'''
DUCKDB = {"user-agent": "duckdb/v1.5.5(linux_amd64) python"}
# What is of one server or one moment: the same answer may differ in it.
MOMENTARY = {"date", "server", "x-webfoot-run", "server-timing", "last-modified"}
MOMENTARY |= {"x-webfoot-billed-ms", "x-webfoot-memory", "x-webfoot-cost", "x-request-id"}

REQUESTS = {
    "parquet": Asked("GET", "/udfs/squares.parquet?rows=50"),
    "parquet-head": Asked("HEAD", "/udfs/squares.parquet?rows=50"),
    "head-of-nothing": Asked("HEAD", "/udfs/squares.parquet?rows=51"),
    "first-range": Asked("GET", "/udfs/squares.parquet?rows=50", {"range": "bytes=0-99"}),
    "suffix-range": Asked("GET", "/udfs/squares.parquet?rows=50", {"range": "bytes=-8"}),
    "range-behind": Asked("GET", "/udfs/squares.parquet?rows=50", {"range": "bytes=999999-"}),
    "two-ranges": Asked("GET", "/udfs/squares.parquet?rows=50", {"range": "bytes=0-1,4-5"}),
    "range-head": Asked("HEAD", "/udfs/squares.parquet?rows=50", {"range": "bytes=0-"}),
    "if-none-match": Asked("GET", "/udfs/squares.parquet?rows=50", {"if-none-match": "*"}),
    "if-match-not": Asked("GET", "/udfs/squares.parquet?rows=50", {"if-match": '"other"'}),
    "csv": Asked("GET", "/udfs/squares.csv?rows=5"),
    "csv-gzip": Asked("GET", "/udfs/squares.csv?rows=500", {"accept-encoding": "gzip"}),
    "csv-columns": Asked("GET", "/udfs/squares.csv?_columns=n,square&_limit=2"),
    "json": Asked("GET", "/udfs/squares.json?rows=2&word=a%20%26%20b%2Bc%3D%25"),
    "plus": Asked("GET", "/udfs/squares.json?rows=1&word=a+b"),
    "blank": Asked("GET", "/udfs/squares.json?rows="),
    "ndjson": Asked("GET", "/udfs/squares.ndjson"),
    "arrow": Asked("GET", "/udfs/squares.arrow"),
    "folders": Asked("GET", "/udfs/sales/region=n%C3%B6rth%20a/data.csv"),
    "slash-in-a-folder": Asked("GET", "/udfs/sales/region=s%2Fw/data.csv"),
    "unknown-udf": Asked("GET", "/udfs/square.parquet"),
    "unknown-udf-head": Asked("HEAD", "/udfs/square.parquet"),
    "unknown-path": Asked("GET", "/nothing/here"),
    "invalid": Asked("GET", "/udfs/squares.csv?rows=many"),
    "unknown-parameter": Asked("GET", "/udfs/squares.csv?row=1"),
    "repeated": Asked("GET", "/udfs/squares.csv?rows=1&rows=2"),
    "failed": Asked("GET", "/udfs/broken.parquet"),
    "failed-for-duckdb": Asked("GET", "/udfs/broken.parquet", DUCKDB),
    "failed-for-a-sheet": Asked("GET", "/udfs/broken.csv?_for=sheets"),
    "map": Asked(
        "POST",
        "/udfs/squares/map",
        {"content-type": "application/json", "accept": "text/csv"},
        b'[{"rows": 1}, {"rows": 2}]',
    ),
    "map-of-no-json": Asked(
        "POST", "/udfs/squares/map", {"content-type": "application/json"}, b"\xff\x00["
    ),
    "method": Asked("DELETE", "/udfs/squares.csv"),
    "preflight": Asked(
        "OPTIONS",
        "/udfs/squares.csv",
        {"origin": "https://sheet.example", "access-control-request-method": "GET"},
    ),
    "cors": Asked("GET", "/udfs/squares.csv", {"origin": "https://sheet.example"}),
    "list": Asked("GET", "/udfs", {"accept": "application/json"}),
    "page": Asked("GET", "/udfs/squares", {"accept": "text/html"}),
    "front-page": Asked("GET", "/", {"accept": "text/html"}),
    "script": Asked("GET", "/catalog.sql"),
    "openapi": Asked("GET", "/openapi.json"),
    "health": Asked("GET", "/healthz"),
    "health-head": Asked("HEAD", "/healthz"),
}
# All others are 200: servers that fail alike would agree, too.
STATUS = {
    **dict.fromkeys(("first-range", "suffix-range", "range-head"), 206),
    **dict.fromkeys(("unknown-udf", "unknown-udf-head", "unknown-path"), 404),
    **dict.fromkeys(("invalid", "unknown-parameter", "repeated", "map-of-no-json"), 422),
    "if-none-match": 304,
    "method": 405,
    "if-match-not": 412,
    "range-behind": 416,
    "failed": 500,
}
# What these services do not hand over: paths as they were encoded, and all but the last value of
# what is repeated (load balancers do, when multi-value headers are turned on).
LOST = {
    *(("slash-in-a-folder", "http_api"), ("slash-in-a-folder", "rest_api")),
    ("repeated", "load_balancer"),
}
CASES = [(name, kind) for kind in KINDS for name in REQUESTS if (name, kind) not in LOST]


def request_of(name: str, kind: str) -> Asked:
    """What is asked; what fails is another call each time, as failures are remembered a moment."""
    asked = REQUESTS[name]
    if not name.startswith("failed"):
        return asked
    mark = "&" if "?" in asked.url else "?"
    return replace(asked, url=f"{asked.url}{mark}n={CASES.index((name, kind))}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_udfs(tmp_path_factory.mktemp("golden"), some=UDFS)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serve(folder) as running:
        yield running


@pytest.fixture(scope="module")
def function(folder: Path) -> Iterator[Environment]:
    with environment(folder.parent / "function", folder) as running:
        yield running


def by_uvicorn(server: Server, kind: str, asked: Asked) -> Answered:
    """The answer of `webfoot serve`, behind a proxy that is known by the same names."""
    event = recorded(kind)
    context = event["requestContext"]
    headers = {
        "accept": "*/*",
        "host": context.get("domainName") or event["headers"]["host"],
        "x-forwarded-proto": "https",
        **asked.headers,
    }
    if kind == "rest_api":
        headers["x-forwarded-prefix"] = "/Prod"
    request = httpx.Request(
        asked.method, server.url + asked.url, headers=headers, content=asked.body
    )
    with httpx.Client(transport=httpx.HTTPTransport(), timeout=30) as client:
        response = client.send(request, stream=True)
        body = b"".join(response.iter_raw())
    return Answered(response.status_code, lower(dict(response.headers)), body)


def by_lambda(function: Environment, kind: str, asked: Asked) -> Answered:
    outcome = function.invoke(event_of(kind, asked))
    assert outcome.error == "", function.printed()
    return answer_of(outcome.json())


def settled(answered: Answered) -> Answered:
    """The answer without what is of the moment."""
    headers = {name: value for name, value in answered.headers.items() if name not in MOMENTARY}
    if "cache-control" in headers:
        headers["cache-control"] = re.sub(r"max-age=\d+", "max-age=…", headers["cache-control"])
    if "allow" in headers:  # Starlette lists a set.
        headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
    body = re.sub(rb"\b[0-9a-f]{16}\b", b"(a run's id)...", answered.body)
    return Answered(answered.status, headers, body)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_function_answers_as_uvicorn_does(
    name: str, kind: str, server: Server, function: Environment
) -> None:
    asked = request_of(name, kind)
    if asked.method == "HEAD" and name != "head-of-nothing":  # It tells of what is there already.
        by_lambda(function, kind, replace(asked, method="GET"))
        by_uvicorn(server, kind, replace(asked, method="GET"))
    ours, theirs = by_lambda(function, kind, asked), by_uvicorn(server, kind, asked)
    assert theirs.status == STATUS.get(name, 200)
    assert settled(ours) == settled(theirs)


def test_one_run_answers_whatever_the_request_came_through(
    function: Environment, server: Server
) -> None:
    asked = Asked("GET", "/udfs/squares.parquet?rows=77")
    answers = [by_lambda(function, kind, asked) for kind in KINDS]
    assert len({answer.headers["x-webfoot-run"] for answer in answers}) == 1
    assert len({answer.body for answer in answers}) == 1
    assert {answer.headers["etag"] for answer in answers} == {
        by_uvicorn(server, "http_api", asked).headers["etag"]
    }
