"""The HTTP contract of a table, on a real server: `/udfs/{name}.{extension}`."""

from __future__ import annotations

import asyncio
import codecs
import csv
import gzip
import io
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import duckdb
import httpx
import polars as pl
import psutil
import pyarrow.parquet as pq
import pytest
import uvicorn
from tests.server_process import (
    COUNT,
    GATE,
    Server,
    connect,
    eventually,
    serve,
    write_udfs,
)

from webfoot import conformance, engine
from webfoot.server import create_app
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UDFS = """
    import os
    import time
    from datetime import date, datetime, UTC
    from typing import Annotated
    from pydantic import Field
    from webfoot import InvalidParameters, udf
    from ._count import count

    @udf
    def small(n: int = 500, note: str = ""):
        count(f"small {n} {note}")
        return [{"i": i, "half": i / 2, "name": f"name {i}, or so"} for i in range(n)]

    @udf
    def large(n: int = 400_000):
        count(f"large {n}")
        columns = "i AS id, i % 7 AS g, hash(i) AS h, md5(i::VARCHAR) AS m"
        return f"SELECT {columns} FROM range({n}) r(i)"

    @udf(cache=0)
    def clock(rows: int = 100_000):
        '''Another answer at every run.'''
        count(f"clock {rows}")
        return f"SELECT {time.time_ns()} AS run, i, md5(i::VARCHAR) AS m FROM range({rows}) r(i)"

    @udf
    def fails(n: int = 1):
        count(f"fails {n}")
        print("printed before it failed")
        raise ValueError(f"there is no {n} é")

    @udf
    def refuses(low: int = 9, high: int = 8):
        count(f"refuses {low}")
        raise InvalidParameters(f"low must be below high, got {low} > {high}")

    @udf
    def values(at: datetime = datetime(2024, 1, 2, tzinfo=UTC), day: date = date(2024, 1, 2),
               texts: list[str] = ["a"], share: Annotated[float, Field(ge=0, le=1)] = 0.5):
        count("values")
        return [{"at": at, "day": day, "texts": "|".join(texts), "share": share}]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    broken = "import nothing_of_this_name\n\ndef stranded():\n    pass\n"
    folder = write_udfs(tmp_path_factory.mktemp("data"), _count=COUNT, tables=UDFS, broken=broken)
    with serve(folder) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    """A client that asks for nothing that a test does not name."""
    with httpx.Client(base_url=f"{server.url}/udfs", timeout=30) as client:
        client.headers["Accept-Encoding"] = "identity"
        for name in ("small", "large"):
            client.get(f"{name}.parquet").raise_for_status()
        yield client


def problem(response: httpx.Response) -> dict[str, Any]:
    """The one shape of every error, checked."""
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["access-control-allow-origin"] == "*"
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    assert body["type"]
    assert body["title"]
    assert body["code"]
    assert body["detail"]
    return body


# HEAD


SIZES = ["small", "large"]


@pytest.mark.parametrize("name", SIZES)
def test_head_and_get_say_the_same(http: httpx.Client, name: str) -> None:
    head, get = (http.request(method, f"{name}.parquet") for method in ("HEAD", "GET"))
    assert (head.status_code, get.status_code) == (200, 200)
    assert head.content == b""
    differ = {"date", "server-timing", "cache-control", "content-length", "x-request-id"}
    heads, gets = dict(head.headers), dict(get.headers)
    assert {k: v for k, v in heads.items() if k not in differ} | {"transfer-encoding": ""} == {
        k: v for k, v in gets.items() if k not in differ
    } | {"transfer-encoding": ""}


def test_head_tells_the_length_of_what_is_tiny_or_large(http: httpx.Client) -> None:
    tiny, middling, large = "small.parquet?n=9", "large.parquet?n=5000", "large.parquet?n=300007"
    sizes = {path: len(http.get(path).content) for path in (tiny, middling, large)}
    assert sizes[tiny] < 16_384 < sizes[middling] < 1_000_000 < sizes[large]
    assert http.head(tiny).headers["content-length"] == str(sizes[tiny])
    assert "content-length" not in http.head(middling).headers
    assert http.head(large).headers["content-length"] == str(sizes[large])


def test_head_never_runs_a_udf_and_does_not_fail_with_it(
    server: Server, http: httpx.Client
) -> None:
    for path in (
        *("small.parquet?n=77", "small.csv?n=77", "fails.parquet?n=77", "stranded.parquet"),
        *("small.parquet?n=x", "small.parquet?unknown=1", "small.parquet?_limit=x"),
        *("small.parquet?n=%FF", "small.parquet?" + "&".join("n=1" for _ in range(2000))),
    ):
        for headers in ({}, {"Range": "bytes=0-"}, {"If-None-Match": "*"}):
            head = http.head(path, headers=headers)
            assert (head.status_code, head.content) == (200, b"")
            assert "content-length" not in head.headers
            assert head.headers["cache-control"] == "no-cache"
    assert server.executions("small 77 ") == server.executions("fails 77") == 0


def test_head_of_what_get_does_not_find_is_404(http: httpx.Client) -> None:
    for path in ("nothing.parquet", "small.xyz", "small.parquet.wal", "nothing.csv?n=1"):
        head, get = http.head(path), http.get(path)
        assert (head.status_code, get.status_code) == (404, 404)
        assert head.content == b""
        assert head.headers["access-control-allow-origin"] == "*"


def test_head_with_a_range_gives_the_length_that_duckdb_wasm_needs(http: httpx.Client) -> None:
    for name in SIZES:
        size = len(http.get(f"{name}.parquet").content)
        head = http.head(f"{name}.parquet", headers={"Range": "bytes=0-"})
        assert (head.status_code, head.content) == (206, b"")
        assert head.headers["content-length"] == str(size)
        assert head.headers["content-range"] == f"bytes 0-{size - 1}/{size}"


# Ranges


RANGES = [
    ("bytes=0-0", slice(0, 1)),
    ("bytes=0-99", slice(0, 100)),
    ("bytes=10-", slice(10, None)),
    ("bytes=-8", slice(-8, None)),
    ("bytes=-999999999999", slice(0, None)),
    ("bytes=4-999999999999", slice(4, None)),
    ("Bytes = 3 - 7", slice(3, 8)),
]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("header", "part"), RANGES, ids=[header for header, _ in RANGES])
def test_a_range_is_these_bytes_and_no_others(
    http: httpx.Client, name: str, header: str, part: slice
) -> None:
    whole = http.get(f"{name}.parquet")
    ranged = http.get(f"{name}.parquet", headers={"Range": header})
    start, stop, _ = part.indices(len(whole.content))
    assert ranged.status_code == 206
    assert ranged.content == whole.content[part]
    assert ranged.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole.content)}"
    assert ranged.headers["content-length"] == str(stop - start)
    assert ranged.headers["etag"] == whole.headers["etag"]


@pytest.mark.parametrize(
    "header",
    ["bytes=5-3", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,4-5", "0-1", "bytes=0--1", ""],
)
def test_a_range_that_is_none_or_several_is_ignored(http: httpx.Client, header: str) -> None:
    whole = http.get("small.parquet", headers={"Range": header})
    assert whole.status_code == 200
    assert whole.content == http.get("small.parquet").content


@pytest.mark.parametrize(
    "header", ["bytes=99999999999-", "bytes=-0", "bytes=99999999999-999999999999"]
)
def test_a_range_behind_the_end_is_416_with_the_length(http: httpx.Client, header: str) -> None:
    size = len(http.get("small.parquet").content)
    for method in ("GET", "HEAD"):
        refused = http.request(method, "small.parquet", headers={"Range": header})
        assert refused.status_code == 416
        assert refused.headers["content-range"] == f"bytes */{size}"
    refused = http.get("small.parquet", headers={"Range": header})
    assert problem(refused)["code"] == "range-not-satisfiable"


# Conditions


def test_the_etag_is_strong_and_its_own_hash(http: httpx.Client) -> None:
    etags = {http.get(f"{name}.parquet").headers["etag"] for name in SIZES}
    assert len(etags) == 2
    assert all(etag.startswith('"') and len(etag) == 66 for etag in etags)


@dataclass(frozen=True)
class Condition:
    """Request headers, with `{etag}` and `{date}` to be filled in, and the status they give."""

    status: int
    headers: dict[str, str]


CONDITIONS = [
    Condition(304, {"If-None-Match": "{etag}"}),
    Condition(304, {"If-None-Match": "W/{etag}"}),
    Condition(304, {"If-None-Match": '"other", {etag}'}),
    Condition(304, {"If-None-Match": "*"}),
    Condition(200, {"If-None-Match": '"other"'}),
    Condition(304, {"If-None-Match": "{etag}", "Range": "bytes=0-1"}),
    Condition(304, {"If-Modified-Since": "{date}"}),
    Condition(304, {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
    Condition(200, {"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}),
    Condition(200, {"If-Modified-Since": "yesterday"}),
    Condition(200, {"If-Modified-Since": "{date}", "If-None-Match": '"other"'}),
    Condition(200, {"If-Match": "{etag}"}),
    Condition(200, {"If-Match": "*"}),
    Condition(412, {"If-Match": '"other"'}),
    Condition(412, {"If-Match": "W/{etag}"}),
    Condition(412, {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}),
    Condition(200, {"If-Unmodified-Since": "{date}"}),
    Condition(206, {"If-Range": "{etag}", "Range": "bytes=0-1"}),
    Condition(206, {"If-Range": "{date}", "Range": "bytes=0-1"}),
    Condition(200, {"If-Range": '"other"', "Range": "bytes=0-1"}),
    Condition(200, {"If-Range": "W/{etag}", "Range": "bytes=0-1"}),
    Condition(200, {"If-Range": "Mon, 01 Jan 2001 00:00:00 GMT", "Range": "bytes=0-1"}),
    Condition(200, {"If-Range": "{etag}"}),
]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_conditions(http: httpx.Client, name: str, condition: Condition) -> None:
    known = http.get(f"{name}.parquet")
    etag, date = known.headers["etag"], known.headers["last-modified"]
    headers = {k: v.format(etag=etag, date=date) for k, v in condition.headers.items()}
    for method in ("GET", "HEAD"):
        response = http.request(method, f"{name}.parquet", headers=headers)
        assert response.status_code == condition.status
        if condition.status == 304:
            assert response.content == b""
            assert response.headers["etag"] == etag
            assert response.headers["cache-control"].startswith("public, max-age=")
        if condition.status == 412 and method == "GET":
            assert problem(response)["code"] == "precondition-failed"


def test_last_modified_and_cache_control_are_true(http: httpx.Client) -> None:
    response = http.get("small.parquet")
    modified = parsedate_to_datetime(response.headers["last-modified"]).timestamp()
    assert time.time() - 300 < modified <= time.time()
    assert response.headers["last-modified"].endswith(" GMT")
    policy, _, age = response.headers["cache-control"].partition("=")
    assert policy == "public, max-age"
    assert 300 < int(age) <= 600


# Formats and views


@pytest.mark.parametrize(
    ("extension", "kind"),
    [
        ("parquet", "application/vnd.apache.parquet"),
        ("csv", "text/csv; charset=utf-8; header=present"),
        ("json", "application/json"),
        ("ndjson", "application/x-ndjson"),
        ("arrow", "application/vnd.apache.arrow.stream"),
        ("html", "text/html; charset=utf-8"),
    ],
)
def test_the_extension_is_the_format(http: httpx.Client, extension: str, kind: str) -> None:
    for method in ("HEAD", "GET"):
        assert http.request(method, f"small.{extension}").headers["content-type"] == kind


@pytest.mark.parametrize("extension", ["parquet", "csv", "json", "ndjson", "arrow"])
def test_every_format_takes_a_selection(server: Server, http: httpx.Client, extension: str) -> None:
    query = "_order=-i&_offset=1&_limit=2&_columns=name,i&n=9"
    path = f"{server.url}/udfs/small.{extension}?{query}"
    expected = [("name 7, or so", 7), ("name 6, or so", 6)]
    content = http.get(path).content
    if extension == "arrow":
        assert pl.read_ipc_stream(content).rows() == expected
    else:
        reader = {"parquet": "parquet", "csv": "csv"}.get(extension, "json")
        with connect() as con:
            assert con.sql(f"FROM read_{reader}('{path}')").fetchall() == expected
    assert server.executions("small 9 ") == 1


def test_only_a_browser_is_shown_an_error_as_a_page(http: httpx.Client) -> None:
    for accept, shown in (("text/html,*/*;q=0.8", "text/html"), ("*/*", "application/problem")):
        told = http.get("small.html?n=x", headers={"Accept": accept})
        assert told.status_code == 422
        assert told.headers["content-type"].startswith(shown)
        assert "valid integer" in told.text


def test_a_preview_runs_nothing_that_is_in_the_data(http: httpx.Client) -> None:
    page = http.get("values.html", params={"texts": "<script>alert(1)</script>"})
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["x-content-type-options"] == "nosniff"


def test_runs_and_executions_are_told(http: httpx.Client) -> None:
    first, again = http.get("small.parquet?n=31"), http.get("small.csv?n=31")
    assert first.headers["x-webfoot-executions"] == again.headers["x-webfoot-executions"] == "1"
    assert first.headers["x-webfoot-run"] == again.headers["x-webfoot-run"]
    assert first.headers["server-timing"].startswith("run;dur=")
    assert again.headers["server-timing"] == "hit"


# Compression


TEXTS = ["csv", "json", "ndjson", "html"]


@pytest.mark.parametrize("extension", TEXTS)
def test_text_is_compressed_for_those_who_ask(http: httpx.Client, extension: str) -> None:
    plain = http.get(f"small.{extension}")
    packed = http.get(f"small.{extension}", headers={"Accept-Encoding": "br, gzip;q=0.8"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    assert plain.headers["etag"] != packed.headers["etag"]


@pytest.mark.parametrize("accepts", ["identity", "gzip;q=0", "br", "*;q=0", "", "gzip;q=0.000, br"])
def test_text_is_not_compressed_for_those_who_do_not(http: httpx.Client, accepts: str) -> None:
    response = http.get("small.csv", headers={"Accept-Encoding": accepts})
    assert "content-encoding" not in response.headers
    assert response.text.startswith("i,half,name\r\n")


@pytest.mark.parametrize("extension", ["parquet", "arrow"])
def test_binary_formats_are_never_compressed_again(http: httpx.Client, extension: str) -> None:
    response = http.get(f"small.{extension}", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in response.headers


def test_the_compressed_variant_has_conditions_and_ranges_of_its_own(http: httpx.Client) -> None:
    asking = {"Accept-Encoding": "gzip"}
    with http.stream("GET", "small.csv", headers=asking) as response:
        packed, etag = b"".join(response.iter_raw()), response.headers["etag"]
    assert gzip.decompress(packed) == http.get("small.csv").content
    for method in ("GET", "HEAD"):
        same = http.request(method, "small.csv", headers=asking | {"If-None-Match": etag})
        assert (same.status_code, same.headers["etag"]) == (304, etag)
    other = http.get("small.csv", headers={"If-None-Match": etag})
    assert other.status_code == 200
    pieces = []
    for span in (f"0-{len(packed) // 2}", f"{len(packed) // 2 + 1}-"):
        headers = asking | {"Range": f"bytes={span}", "If-Range": etag}
        with http.stream("GET", "small.csv", headers=headers) as response:
            assert response.status_code == 206
            assert response.headers["content-encoding"] == "gzip"
            pieces.append(b"".join(response.iter_raw()))
    assert b"".join(pieces) == packed


# Other origins


@pytest.mark.parametrize("origin", ["https://shell.duckdb.org", "null"])
def test_every_origin_may_read(http: httpx.Client, origin: str) -> None:
    headers = {"Origin": origin}
    requests = [
        *(("GET", "small.parquet"), ("HEAD", "small.parquet"), ("GET", "fails.parquet")),
        *(("GET", "nothing.parquet"), ("GET", "small.parquet?n=x"), ("GET", "../udfs")),
        *(("GET", "../nothing"), ("POST", "small.parquet")),
    ]
    for method, path in requests:
        response = http.request(method, path, headers=headers)
        assert response.headers["access-control-allow-origin"] == "*", (method, path)
    partial = http.get("large.parquet", headers=headers | {"Range": "bytes=0-9"})
    assert partial.status_code == 206
    exposed = partial.headers["access-control-expose-headers"].lower().split(", ")
    assert {"content-range", "content-length", "etag", "accept-ranges"} <= set(exposed)
    assert partial.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize("origin", ["https://shell.duckdb.org", "null"])
@pytest.mark.parametrize("asked", ["range", "authorization", "range, if-none-match, x-api-key"])
def test_every_origin_may_ask_whether_it_may(http: httpx.Client, origin: str, asked: str) -> None:
    response = http.options(
        "small.parquet",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": asked,
        },
    )
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "*"
    allowed = response.headers["access-control-allow-headers"].lower()
    assert all(name.strip() in allowed for name in asked.split(","))
    assert "GET" in response.headers["access-control-allow-methods"]


# Queries


@pytest.mark.parametrize(
    "query",
    [
        *("n=x", "n=1.5", "n=1&n=2", "n=99999999999999999999", "m=1", "N=1", "=5", "n=1;m=2"),
        *("note=%FF", "note=%ED%A0%80", "_limit=-1", "_limit=1e3", "_offset=x", "_rows=1"),
        *("_columns=nothing", "_order=nothing", "_columns=i,i", "_limit=1&_limit=2", "n=%00"),
        *("&".join(f"p{i}=1" for i in range(2000)), "note=" + "x" * 64_000, "__proto__=1"),
    ],
    ids=lambda query: query[:20],
)
def test_a_bad_query_is_422_and_runs_nothing(
    server: Server, http: httpx.Client, query: str
) -> None:
    # Which columns there are is only known once the default call has run, as it has here.
    before = server.executions()
    refused = http.get(f"small.parquet?{query}")
    assert refused.status_code == 422
    assert problem(refused)["code"] == "invalid-parameters"
    assert len(refused.content) < 200_000
    assert server.executions() == before


@pytest.mark.parametrize(
    ("query", "note"),
    [
        ("note=a+b", "a b"),
        ("note=a%20b", "a b"),
        ("note=a%2Bb", "a+b"),
        ("note=%C3%A9%F0%9F%A6%86", "é🦆"),
        ("note=a%26b%3Dc%23d%2Fe", "a&b=c#d/e"),
        ("note=a=b", "a=b"),
        ("note=%0D%0ASet-Cookie:%20a=b", "\r\nSet-Cookie: a=b"),
        ("note=" + "x" * 8_000, "x" * 8_000),
    ],
    ids=lambda text: text[:20],
)
def test_a_text_arrives_as_it_was_meant(server: Server, query: str, note: str) -> None:
    response = httpx.get(f"{server.url}/udfs/small.parquet?n=2&{query}")
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    runs = httpx.get(f"{server.url}/runs/{response.headers['x-webfoot-run']}").json()
    assert json.loads(runs["arguments"])["note"] == note


@pytest.mark.parametrize(
    "path",
    [
        *("/udfs/%2e%2e/small.parquet", "/udfs/.parquet"),
        *("/udfs/a/small.parquet", "/udfs/small%2Fx.parquet", "/udfs/sm%00all.parquet"),
        *("/udfs/small%0D%0AX-Y:1.parquet", "/udfs/%FF.parquet", "/udfs/SMALL.parquet"),
        *("/udfs/é.parquet", "/catalog.duckdb.wal", "/udfs/small.PARQUET", "/udfs/small."),
    ],
)
def test_a_path_that_is_no_table_is_no_error_of_the_server(http: httpx.Client, path: str) -> None:
    response = http.get(f"..{path}")
    assert response.status_code == 404
    problem(response)
    assert "x-y" not in response.headers


def test_a_percent_encoded_path_is_the_path(http: httpx.Client) -> None:
    plain, encoded = http.get("small.parquet"), http.get("%73mall%2Eparquet")
    assert encoded.content == plain.content


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"])
def test_other_methods_are_405_and_told_which_are_not(http: httpx.Client, method: str) -> None:
    for path in ("small.parquet", "nothing.csv", "../udfs"):
        refused = http.request(method, path)
        assert refused.status_code == 405
        assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}
        assert problem(refused)["code"] == "method-not-allowed"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "../query?sql=SELECT 1", "POST"),
        ("DELETE", "../query", "POST"),
        ("POST", "../query.json", "GET, HEAD"),
        ("GET", "small/map", "POST"),
        ("PUT", "nothing/map", "POST"),
        ("DELETE", "../jobs/none.csv", "GET, HEAD"),
    ],
)
def test_a_table_that_is_asked_for_otherwise_says_how(
    http: httpx.Client, method: str, path: str, allowed: str
) -> None:
    refused = http.request(method, path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    assert "GET /query.json?sql=" in problem(refused)["detail"]


def _raw(server: Server, head: bytes) -> bytes:
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(head + b"Connection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "head",
    [
        b"GET /udfs/small.parquet HTTP/1.1\r\nHost: a b\r\n",
        b"GET /udfs/small HTTP/1.1\r\nHost: [::1\r\n",
        b"GET /openapi.json HTTP/1.1\r\nHost: \xff\xfe\r\n",
        b'GET / HTTP/1.1\r\nHost: x"><script>\r\nAccept: text/html\r\n',
        b"GET /udfs/fails.parquet HTTP/1.1\r\nHost: \xff\r\nUser-Agent: duckdb/v1.5.5\r\n",
        b"GET /udfs/small.parquet HTTP/1.1\r\nRange: \xff\r\nHost: h\r\n",
        b"GET /udfs/small.parquet HTTP/1.1\r\nIf-None-Match: \xff\r\nHost: h\r\n",
        b"GET /udfs/small.parquet HTTP/1.1\r\nHost: h\r\nIf-Range: \xff\r\nRange: bytes=0-1\r\n",
        b"GET http://other/udfs/small.parquet HTTP/1.1\r\nHost: h\r\n",
        b"GET /udfs/small.parquet HTTP/1.0\r\n",
        b"GET /udfs/small.json?note=\xc3\xa9 HTTP/1.1\r\nHost: h\r\n",
        b"HEAD /udfs/small.parquet HTTP/1.0\r\n",
    ],
)
def test_odd_headers_are_no_error_of_the_server(server: Server, head: bytes) -> None:
    answer = _raw(server, head)
    status = int(answer.split(b" ", 2)[1])
    # An author's error is one, whatever the headers; DuckDB is told it with the status 200.
    assert status in (200, 304, 400, 404)
    assert b"<script>" not in answer


# Errors


def test_an_error_of_the_udf_has_its_true_status_and_is_no_traceback(http: httpx.Client) -> None:
    refused = http.get("fails.parquet")
    assert refused.status_code == 500
    body = problem(refused)
    assert body["code"] == refused.headers["x-webfoot-code"] == "udf-failed"
    assert body["detail"] == "ValueError: there is no 1 é"
    assert body["udf"] == "fails"
    assert body["run"] == refused.headers["x-webfoot-run"]
    assert "traceback" not in body
    assert "tables.py" not in refused.text
    record = http.get(f"../runs/{body['run']}").json()
    assert record["problem"]["detail"] == body["detail"]
    assert "log" not in record
    assert "traceback" not in record["problem"]


def test_a_failure_is_not_repeated_for_a_moment(server: Server, http: httpx.Client) -> None:
    statuses = {http.get("fails.csv?n=44").status_code for _ in range(4)}
    assert statuses == {500}
    assert server.executions("fails 44") == 1


def test_a_udf_refuses_what_its_signature_cannot(http: httpx.Client) -> None:
    refused = http.get("refuses.parquet")
    assert refused.status_code == 422
    assert problem(refused)["detail"] == "low must be below high, got 9 > 8"


def test_a_broken_file_is_told_at_its_own_names_only(http: httpx.Client) -> None:
    refused = http.get("stranded.parquet")
    assert refused.status_code == 500
    assert problem(refused)["code"] == "udf-unavailable"
    assert "nothing_of_this_name" in refused.json()["detail"]
    assert http.get("small.parquet").status_code == 200


def test_in_debug_mode_the_author_sees_their_frames_and_prints(server: Server) -> None:
    with serve(server.folder, "--debug", store=server.folder.parent / "debug") as debugged:
        refused = httpx.get(f"{debugged.url}/udfs/fails.parquet")
        trace = refused.json()["traceback"]
        assert 'tables.py", line ' in trace
        assert "in fails" in trace
        assert "site-packages" not in trace
        assert "app/webfoot" not in trace
        record = httpx.get(f"{debugged.url}/runs/{refused.json()['run']}").json()
        assert record["log"] == "printed before it failed\n"
        assert record["problem"]["traceback"] == trace
        assert record["problem"]["detail"] == "ValueError: there is no 1 é"
        printed = debugged.printed()
        assert "in fails" in printed
        assert "printed before it failed" in printed
        assert "in fails" not in server.printed()


# What a person at a DuckDB prompt sees


@pytest.mark.parametrize(
    ("path", "message", "runs"),
    [
        ("fails.parquet?n=51", "fails: ValueError: there is no 51 é\n  run ", 1),
        ("small.parquet?n=x", "small: n: Input should be a valid integer", 0),
        ("small.parquet?m=5", "small: m: unknown parameter; known: n, note", 0),
        ("small.parquet?_limit=x", "_limit: must be a whole number of rows", 0),
        ("refuses.parquet?low=51", "refuses: low must be below high, got 51 > 8", 1),
        ("stranded.parquet", "stranded: broken.py: ModuleNotFoundError", 0),
    ],
)
def test_duckdb_shows_the_message_after_head_and_one_get(
    server: Server, path: str, message: str, runs: int
) -> None:
    queries = ["FROM '{}'", "SELECT count(*) FROM '{}'", "DESCRIBE FROM '{}'"]
    before = server.executions()
    with ExitStack() as stack:
        # Opened before: how a run has failed is known for a few seconds only.
        connections = [stack.enter_context(connect()) for _ in queries]
        for con, query in zip(connections, queries, strict=True):
            requests = len(server.requests(path))
            with pytest.raises(duckdb.InvalidInputException) as raised:
                con.sql(query.format(f"{server.url}/udfs/{path}")).fetchall()
            assert f"\n\n  {message}" in str(raised.value)
            assert server.requests(path)[requests:] == [("HEAD", 200), ("GET", 200)]
    assert server.executions() - before == runs


def test_only_duckdb_is_told_in_a_file(http: httpx.Client) -> None:
    duck = {"User-Agent": "duckdb/v1.5.5(linux_amd64) cpp"}
    told = http.get("fails.parquet", headers=duck)
    assert told.status_code == 200
    assert told.headers["x-webfoot-status"] == "500"
    assert told.headers["x-webfoot-code"] == "udf-failed"
    assert told.headers["cache-control"] == "no-store"
    assert "etag" not in told.headers
    assert told.content[:4] == told.content[-4:] == b"PAR1"
    assert http.get("fails.csv", headers=duck).status_code == 500
    assert http.get("fails.parquet", headers=duck | {"Range": "bytes=0-1"}).status_code == 500
    with pytest.raises(Exception, match=r"."):
        pq.read_table(io.BytesIO(told.content))
    with pytest.raises(Exception, match=r"."):
        pl.read_parquet(io.BytesIO(told.content))


def test_an_operator_can_switch_that_off(server: Server) -> None:
    environment = {**os.environ, "WEBFOOT_DUCKDB_ERRORS": "false"}
    with serve(server.folder, environment=environment) as plain, connect() as con:
        with pytest.raises(duckdb.HTTPException) as raised:
            con.sql(f"FROM '{plain.url}/udfs/small.parquet?n=x'").fetchall()
        assert raised.value.status_code == 422


# How many requests, and how many bytes


def test_a_first_read_is_two_requests_and_a_repeat_two(server: Server) -> None:
    path = "large.parquet?n=5001"
    with connect() as con:
        for times in (1, 2):
            con.sql(f"FROM '{server.url}/udfs/{path}'").fetchall()
            assert server.requests(path) == [("HEAD", 200), ("GET", 200)] * times


def test_a_tiny_result_is_two_requests_and_then_one(server: Server) -> None:
    path = "small.parquet?n=61"
    head, whole, part = ("HEAD", 200), ("GET", 200), ("GET", 206)
    with connect() as con:
        for _ in range(3):
            con.sql(f"FROM '{server.url}/udfs/{path}'").fetchall()
    assert server.requests(path) == [head, whole, head, part, head]


def test_a_large_result_is_two_requests_first_and_ranges_then(server: Server) -> None:
    path = "large.parquet?n=300000"
    query = f"SELECT sum(g) FROM '{server.url}/udfs/{path}'"
    with connect() as con:
        answers = [con.sql(query).fetchall()]
        assert server.requests(path) == [("HEAD", 200), ("GET", 200)]
        for expected in ([("HEAD", 200), ("GET", 206), ("GET", 206)], [("HEAD", 200)]):
            before = len(server.requests(path))
            answers.append(con.sql(query).fetchall())
            seen = server.requests(path)[before:]
            assert len(seen) <= 1 + 1 + 3, seen  # The footer, and the column in three row groups.
            assert seen[: len(expected)] == expected
        assert seen == [("HEAD", 200)]
    assert answers == [answers[0]] * 3
    assert server.executions("large 300000") == 1


def test_one_row_of_one_column_reads_a_small_part_of_the_file(server: Server) -> None:
    address = f"{server.url}/udfs/large.parquet?n=1000000"
    size = len(httpx.get(address, timeout=30).content)
    with connect() as con:
        con.execute("CALL enable_logging('HTTP')")
        assert con.sql(f"SELECT g FROM '{address}' WHERE id = 5").fetchall() == [(5,)]
        ranges = con.sql(
            "SELECT request.headers['Range'] FROM duckdb_logs_parsed('HTTP')"
            " WHERE request.type = 'GET'"
        ).fetchall()
    spans = [str(span).removeprefix("bytes=").split("-") for (span,) in ranges]
    read = sum(int(last) - int(first) + 1 for first, last in spans)
    assert size > 20_000_000
    assert 0 < read < 0.15 * size


# Freshness


def test_identical_calls_execute_once_until_the_code_changes(tmp_path: Path) -> None:
    text = """
        from webfoot import udf
        from ._count import count

        @udf
        def answer():
            count("answer")
            return [{"is": 41}]
    """
    folder = write_udfs(tmp_path, _count=COUNT, answer=text)
    with serve(folder, "--reload") as server, connect() as con:
        address = f"{server.url}/udfs/answer"
        seen = [httpx.get(f"{address}.json").json() for _ in range(5)]
        assert seen == [[{"is": 41}]] * 5
        assert server.executions("answer") == 1
        assert httpx.get(f"{address}.json").headers["cache-control"] == "no-cache"
        write_udfs(tmp_path, answer=text.replace("41", "42"))
        eventually(lambda: httpx.get(f"{address}.json").json() != [{"is": 41}])
        assert con.sql(f"FROM '{address}.parquet'").fetchall() == [(42,)]
        assert server.executions("answer") == 2
        write_udfs(
            tmp_path, another="from webfoot import udf\n@udf\ndef born():\n    return [{'a': 1}]"
        )
        eventually(lambda: httpx.get(f"{server.url}/udfs/born.json").status_code != 404)
        write_udfs(tmp_path, another="this is no Python")
        eventually(lambda: httpx.get(f"{server.url}/udfs/born.json").status_code != 200)
        assert httpx.get(f"{address}.json").json() == [{"is": 42}]


@pytest.mark.parametrize("header", [{"Cache-Control": "no-cache"}, {"Pragma": "No-Cache"}])
def test_no_cache_forces_a_rerun(
    server: Server, http: httpx.Client, header: dict[str, str]
) -> None:
    n = 70 + len(header["Pragma"]) if "Pragma" in header else 70
    path = f"small.parquet?n={n}"
    counts = [
        http.get(path, headers=h).headers["x-webfoot-executions"] for h in ({}, {}, header, {})
    ]
    assert counts == ["1", "1", "2", "2"]
    assert server.executions(f"small {n} ") == 2


def test_no_cache_reaches_duckdb_even_for_what_is_large(server: Server) -> None:
    path = "large.parquet?n=200000"
    with connect() as con:
        con.execute(
            "CREATE SECRET (TYPE http, EXTRA_HTTP_HEADERS MAP {'Cache-Control': 'no-cache'})"
        )
        for times in (1, 2):
            con.sql(f"SELECT sum(g) FROM '{server.url}/udfs/{path}'").fetchall()
            assert server.executions("large 200000") == times


def test_a_udf_that_is_never_kept_runs_once_for_each_query(server: Server) -> None:
    with connect() as con:
        runs = [
            con.sql(
                f"SELECT DISTINCT run FROM '{server.url}/udfs/clock.parquet?rows={50_000}'"
            ).fetchall()
            for _ in range(3)
        ]
    assert all(len(run) == 1 for run in runs)
    assert len({run[0] for run in runs}) == 3
    assert server.executions("clock 50000") == 3
    assert httpx.get(f"{server.url}/udfs/clock.parquet").headers["cache-control"] == "no-store"


def test_ranges_of_what_is_never_kept_are_of_one_run(server: Server) -> None:
    address = f"{server.url}/udfs/clock.parquet?rows=120000"
    for _ in range(3):
        table = pl.read_parquet(address)
        assert table["run"].n_unique() == 1
        assert table["i"].to_list() == list(range(120_000))
    scanned = pl.scan_parquet(address).select("i", "run").collect()
    assert scanned["run"].n_unique() == 1


# Those who do not behave


HOSTILE = """
    import ctypes
    import os
    import time
    from webfoot import udf

    @udf(timeout="1s")
    def loops():
        while True:
            pass

    @udf(memory="400MB")
    def eats():
        # More than it may, and no more than a machine has on which nobody looks for a while.
        hoard = []
        for _ in range(50):
            hoard.append(bytearray(b"x" * 20_000_000))
            time.sleep(0.005)
        time.sleep(60)

    @udf
    def leaves():
        os._exit(3)

    @udf
    def crashes():
        ctypes.string_at(0)

    @udf
    def exits():
        raise SystemExit(0)

    @udf
    def forks():
        os.fork()
        return [{"pid": 1}]

    @udf
    def chatters():
        for _ in range(20_000):
            print("x" * 100)
        return [{"said": "much"}]

    @udf
    def is_no_table():
        return object()

    @udf
    def behaves(n: int = 0):
        time.sleep(0.05)
        return [{"n": n}]
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    parent = tmp_path_factory.mktemp("hostile")
    with serve(write_udfs(parent, hostile=HOSTILE, raises="raise OSError('at import')")) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("loops", 504, "udf-timeout"),
        ("eats", 500, "memory-exceeded"),
        ("leaves", 500, "udf-crashed"),
        ("crashes", 500, "udf-crashed"),
        ("exits", 500, "udf-failed"),
        ("is_no_table", 500, "invalid-result"),
        ("forks", 200, ""),
        ("chatters", 200, ""),
    ],
)
def test_a_hostile_udf_fails_alone_and_says_why(
    hostile: Server, name: str, status: int, code: str
) -> None:
    with ThreadPoolExecutor(2) as threads:
        answer = threads.submit(httpx.get, f"{hostile.url}/udfs/{name}.json", timeout=50)
        for number in range(5):
            query = {"n": f"{abs(hash(name)) % 1000}{number}"}
            well = httpx.get(f"{hostile.url}/udfs/behaves.json", params=query, timeout=50)
            assert well.json() == [{"n": int(query["n"])}]
        response = answer.result()
    assert response.status_code == status
    if code:
        assert problem(response)["code"] == code
        assert response.json()["udf"] == name


def test_a_full_queue_is_503_and_says_when_to_come_back(tmp_path: Path) -> None:
    folder = write_udfs(
        tmp_path,
        _gate=GATE,
        slow="""
        from webfoot import udf
        from ._gate import wait_at

        @udf
        def slow(n: int):
            wait_at("busy")
            return [{"n": n}]
    """,
    )
    with serve(folder, "--workers", "1", "--queue", "1") as server:
        with ThreadPoolExecutor(6) as threads:
            urls = [f"{server.url}/udfs/slow.json?n={n}" for n in range(6)]
            asked = as_completed([threads.submit(httpx.get, url) for url in urls])
            busy = [next(asked).result() for _ in range(4)]
            server.open("busy")
            assert [answer.result().status_code for answer in asked] == [200, 200]
        for answer in busy:
            assert problem(answer)["code"] == "server-busy"
            assert int(answer.headers["retry-after"]) >= 1


# Clients that go away


@contextmanager
def in_process(folder: Path, **settings: Any) -> Iterator[str]:
    """The same server in a thread of this process, for what no option can change."""
    app = create_app(Settings(folder=folder, store=folder.parent / "store", **settings))
    config = uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def test_a_run_that_nobody_waits_for_is_stopped_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LINGER_S", 0.3)
    folder = write_udfs(
        tmp_path,
        _gate=GATE,
        endless="""
        import os
        from pathlib import Path
        from webfoot import udf
        from ._gate import wait_at

        @udf
        def endless():
            place = Path(__file__).parents[1]
            (place / "aside").write_text(str(os.getpid()))
            (place / "aside").rename(place / "pid")
            wait_at("never")
    """,
    )
    begun = tmp_path / "pid"
    with in_process(folder, workers=1) as url:
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as client:
            client.sendall(b"GET /udfs/endless.parquet HTTP/1.1\r\nHost: h\r\n\r\n")
            eventually(begun.exists)
            assert psutil.pid_exists(int(begun.read_text()))
        eventually(lambda: not psutil.pid_exists(int(begun.read_text())))


def test_a_server_that_stops_tells_those_who_wait(tmp_path: Path) -> None:
    folder = write_udfs(
        tmp_path,
        slow="""
        import time
        from pathlib import Path
        from webfoot import udf

        @udf
        def slow():
            (Path(__file__).parents[1] / "begun").touch()
            time.sleep(50)
            return [{"n": 1}]
    """,
    )
    with ThreadPoolExecutor(1) as threads:
        with in_process(folder, workers=1) as url:
            waiting = threads.submit(httpx.get, f"{url}/udfs/slow.parquet")
            eventually((tmp_path / "begun").exists)
        answer = waiting.result()
    assert answer.status_code == 503
    assert problem(answer)["code"] == "run-cancelled"
    assert answer.headers["retry-after"] == "1"


def test_nothing_more_is_read_for_a_reader_that_has_left(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, tables=UDFS)
    app = create_app(Settings(folder=folder, store=tmp_path / "store", runner="inline"))
    leaves = asyncio.Event()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/udfs/large.parquet",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "query_string": b"n=200000",
        "headers": [],
    }

    async def receive() -> dict[str, Any]:
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def read() -> int:
        sent = 0

        async def send(message: Any) -> None:
            nonlocal sent
            sent += len(message.get("body", b""))

        await app(scope, receive, send)
        return sent

    async def stay_and_then_leave() -> tuple[int, int]:
        whole = await read()
        leaves.set()
        return whole, await read()

    whole, part = asyncio.run(stay_and_then_leave())
    assert whole > 5_000_000
    assert part <= 2 << 20


def test_a_reader_that_leaves_a_large_file_disturbs_nobody(server: Server) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(b"GET /udfs/large.parquet HTTP/1.1\r\nHost: h\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert httpx.get(f"{server.url}/udfs/small.parquet").status_code == 200
    assert "Exception in ASGI" not in server.printed()
    assert "a bug in Webfoot" not in server.printed()


# Any client at all


@pytest.mark.parametrize("name", SIZES)
def test_the_server_passes_every_required_check_of_conformance(server: Server, name: str) -> None:
    rows = {"small": 500, "large": 60_000}[name]
    with httpx.Client(timeout=30) as client:
        address = f"{server.url}/udfs/{name}.parquet?n={rows}"
        client.get(address).raise_for_status()
        findings = conformance.check(address, client)
    failed = [(f.name, f.detail) for f in findings if f.outcome in ("fail", "warn")]
    assert failed == []


# spreadsheets


def read_cells(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True))


INLINE = [
    ("small.csv?_for=sheets&n=x", 422, "small: n: Input should be a valid integer"),
    ("small.csv?_errors=inline&m=1", 422, "small: m: unknown parameter; known: n, note"),
    ("%3D1.csv?_for=sheets", 404, "'=1: there is no UDF '=1'"),
    ("smal.csv?_for=excel", 404, "smal: there is no UDF 'smal'; did you mean 'small'?"),
    ("fails.csv?_for=sheets&n=71", 500, "fails: ValueError: there is no 71 é\n  run "),
    ("refuses.csv?_for=sheets", 422, "refuses: low must be below high, got 9 > 8"),
    ("small.csv?_for=shets", 422, "_for: must be sheets or excel, got 'shets'"),
    ("small.csv?_for=sheets&_columns=%3D1", 422, "_columns: the result has no column '=1'"),
    ("stranded.csv?_for=sheets", 500, "stranded: broken.py: "),
    ("small.csv?_for=sheets&n=%FF", 422, "the query is not UTF-8"),
]


@pytest.mark.parametrize(("path", "status", "message"), INLINE)
def test_an_error_is_seen_in_a_spreadsheet(
    http: httpx.Client, path: str, status: int, message: str
) -> None:
    response = http.get(path)
    assert (response.status_code, response.headers["x-webfoot-status"]) == (200, str(status))
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"].startswith("text/csv")
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["x-webfoot-code"]
    assert response.content.startswith(codecs.BOM_UTF8) == ("excel" in path)
    (header,), (cell,) = read_cells(response.content)
    assert header == "error"
    assert cell.startswith(message)
    head = http.head(path)
    assert head.status_code == 200
    assert head.headers["content-type"] == response.headers["content-type"]
    assert head.content == b""


@pytest.mark.parametrize(
    "path", ["small.csv?n=x", "small.csv?_bom=1&n=x", "small.json?_for=sheets"]
)
def test_an_error_has_its_status_for_everybody_else(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert problem(response)["status"] == 422


def test_a_spreadsheet_gets_no_formula_and_everybody_else_the_data(http: httpx.Client) -> None:
    path = "values.csv?texts=%3D1%2B1&_columns=texts,share"
    options = ("", "&_for=sheets", "&_for=excel")
    plain, sheet, excel = (http.get(path + option) for option in options)
    assert read_cells(plain.content)[1] == ["=1+1", "0.5"]
    assert read_cells(sheet.content)[1] == read_cells(excel.content)[1] == ["'=1+1", "0.5"]
    assert excel.content == codecs.BOM_UTF8 + sheet.content
    assert len({response.headers["etag"] for response in (plain, sheet, excel)}) == 3


@pytest.mark.parametrize("options", ["_for=sheets", "_for=excel", "_bom=1", "_errors=inline"])
def test_head_and_get_agree_for_spreadsheets_too(http: httpx.Client, options: str) -> None:
    path = f"small.csv?{options}"
    got = http.get(path)
    head = http.head(path)
    assert (head.status_code, head.headers["etag"]) == (200, got.headers["etag"])
    ranged = http.get(path, headers={"Range": "bytes=0-9"})
    assert (ranged.status_code, ranged.content) == (206, got.content[:10])


def test_a_blank_cell_means_the_default(http: httpx.Client) -> None:
    blank = http.get("small.csv?_for=sheets&n=&note=")
    assert len(read_cells(blank.content)) == 501


SLOW_FROM_NOW_ON = """
    import time
    from pathlib import Path
    from webfoot import udf

    @udf(cache=0, stale="1h")
    def slow(seconds: int):
        ran = Path(__file__).parents[1] / "ran"
        if ran.exists():
            time.sleep(seconds)
        ran.touch()
        return [{"at": time.time()}]
"""


@pytest.mark.slow
def test_an_old_result_answers_a_spreadsheet_while_a_new_one_takes_its_time(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, slow=SLOW_FROM_NOW_ON)
    with serve(folder) as server, httpx.Client(base_url=f"{server.url}/udfs", timeout=30) as http:
        first = http.get("slow.csv?_for=sheets&seconds=10")
        assert "x-webfoot-stale" not in first.headers
        second = http.get("slow.csv?_for=sheets&seconds=10")
        assert second.content == first.content
        assert int(second.headers["x-webfoot-stale"]) >= 5
        assert second.headers["cache-control"] == "no-store"
        # The run went on, and others wait for it as always.
        third = http.get("slow.csv?seconds=10")
        assert third.content != first.content
        assert third.headers["x-webfoot-executions"] == "2"
        assert "x-webfoot-stale" not in third.headers
