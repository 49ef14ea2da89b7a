"""The gate on a real server: there is room for so many, and pages of other sites change nothing."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.access.granting import bearer, give_key
from tests.access.issuers import AUDIENCE, provider
from tests.server_process import COUNT, GATE, eventually, serve, write_udfs

from webfoot.access.throttling import Limits
from webfoot.server.bounds import refuse_oversized

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.access.issuers import Provider
    from tests.server_process import Server

UDFS = """
from webfoot import udf

@udf(waits=True)
def gated(gate: str, n: int = 1):
    count(gate)
    wait_at(gate)
    return [{"n": n}]

@udf
def plain(n: int = 1):
    return [{"n": n}]

@udf
def limited(n: int = 1):
    return [{"n": n}]

@udf
def limited_in_sql(n: int = 1):
    return [{"n": n}]

@udf
def limited_in_jobs(n: int = 1):
    return [{"n": n}]
"""
ROLES = """
[udfs."limited*"]
rate = "2/h"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_udfs(tmp_path_factory.mktemp("gate"), tables=COUNT + GATE + UDFS)
    (folder.parent / "roles.toml").write_text(ROLES)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """Open, with room for four, and a limit on one UDF."""
    options = ("--requests", "4", "--roles", str(folder.parent / "roles.toml"))
    with serve(folder, *options) as running:
        yield running


@pytest.fixture(scope="module")
def closed(folder: Path) -> Iterator[tuple[Server, Path]]:
    store = folder.parent / "closed"
    give_key(store / "access", "viewer")
    with serve(folder, store=store) as running:
        yield running, store / "access"


def test_beyond_what_fits_requests_are_refused_at_once(server: Server) -> None:
    with ThreadPoolExecutor(4) as threads, httpx.Client(base_url=server.url) as http:
        waiting = [
            threads.submit(httpx.get, f"{server.url}/udfs/gated.json?gate=full&n={n}")
            for n in range(4)
        ]
        eventually(lambda: server.executions("full") == 4)
        refused = [http.get("/udfs/plain.json"), http.get("/udfs"), http.post("/jobs", json={})]
        for answer in refused:
            assert answer.status_code == 503
            assert answer.json()["code"] == "server-busy"
            assert answer.headers["retry-after"] == "1"
        assert not any(answer.done() for answer in waiting)
        # Who asks whether the server lives is not one of them.
        assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200
        server.open("full")
        assert [answer.result().status_code for answer in waiting] == [200] * 4
        assert http.get("/udfs/plain.json").status_code == 200


def test_a_udf_has_a_limit_for_all_together(server: Server) -> None:
    answers = [httpx.get(f"{server.url}/udfs/limited.json?n={n}") for n in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "udf:limited: 2 requests are answered in 1h" in answers[2].json()["detail"]
    assert httpx.head(f"{server.url}/udfs/limited.json?n=3").status_code == 200
    assert httpx.get(f"{server.url}/udfs/plain.json").status_code == 200


def test_what_sql_calls_counts_for_the_limits_of_udfs(server: Server) -> None:
    def ask(*numbers: int) -> httpx.Response:
        calls = " UNION ALL ".join(f"FROM limited_in_sql(n := {n})" for n in numbers)
        return httpx.post(f"{server.url}/query", json={"query": calls}, timeout=30)

    assert ask(1, 2).json()["rows"] == 2
    refused = ask(3)
    assert refused.status_code == 429
    assert refused.json()["code"] == "too-many-requests"
    assert int(refused.headers["retry-after"]) > 1000
    assert "udf:limited_in_sql: 2 requests are answered in 1h" in refused.json()["detail"]
    assert httpx.post(f"{server.url}/query", json={"query": "FROM plain()"}).is_success


def test_jobs_count_for_the_limits_of_udfs(server: Server) -> None:
    def submit(n: int) -> httpx.Response:
        asked = {"udf": "limited_in_jobs", "parameters": {"n": n}}
        return httpx.post(f"{server.url}/jobs", json=asked)

    assert [submit(n).status_code for n in range(3)] == [202, 202, 429]


def test_an_open_server_answers_as_it_always_did(server: Server) -> None:
    answer = httpx.get(f"{server.url}/udfs/plain.parquet")
    assert answer.headers["cache-control"].startswith("public, max-age=")
    assert "vary" not in answer.headers
    # A proxy in front may have a use of its own for a header.
    basic = {"authorization": "Basic " + base64.b64encode(b"user:password").decode()}
    assert httpx.get(f"{server.url}/udfs/plain.parquet", headers=basic).status_code == 200
    refused = httpx.post(f"{server.url}/shares", json={"udf": "plain"})
    assert refused.status_code == 403
    assert "everybody may read the plain address" in refused.json()["detail"]


@pytest.mark.parametrize("line", ["POST /udfs/plain/map", "GET /udfs/plain.json"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["content-length: 99999999999"], 413),
        ([f"content-length: {'9' * 15}"], 413),
        ([f"x-{n}: 1" for n in range(110)], 431),
    ],
)
def test_what_is_too_large_is_refused_unread(
    server: Server, line: str, headers: list[str], status: int
) -> None:
    head, _, body = talk(server, f"{line} HTTP/1.1", *headers).partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    problem = json.loads(body)
    assert problem["status"] == status
    assert len(problem["detail"]) > 20


def test_of_several_lengths_the_first_counts() -> None:
    headers = [(b"content-length", b"99999999999"), (b"content-length", b"0")]
    refused = refuse_oversized({"path": "/", "query_string": b"", "headers": headers})
    assert refused is not None
    assert refused.status == 413


def talk(server: Server, *lines: str) -> str:
    """What is answered to a request that no library would send."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connected:
        text = "\r\n".join([*lines, "host: here", "connection: close", "", ""])
        connected.sendall(text.encode())
        answer = b""
        while piece := connected.recv(65_536):
            answer += piece
    return answer.decode()


@pytest.mark.parametrize(
    ("line", "status"),
    [("GET /udfs/plain.json?n=" + "1" * 64_500 + " HTTP/1.1", 422), ("GET /" + "a" * 65_100, 414)],
)
def test_a_url_has_an_end(server: Server, line: str, status: int) -> None:
    said = talk(server, line if line.endswith("1.1") else f"{line} HTTP/1.1")
    assert said.startswith(f"HTTP/1.1 {status} ")


def test_a_head_without_an_end_is_not_read_to_it(server: Server) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connected:
        connected.sendall(b"GET /udfs HTTP/1.1\r\n")
        sent = 0
        with contextlib.suppress(OSError):  # Closed, or reset, as it happens.
            while sent < 50_000_000:
                connected.sendall(b"x-more: " + b"x" * 10_000 + b"\r\n")
                sent += 10_000
    assert sent < 20_000_000, "what was on the way, and no more"
    assert httpx.get(f"{server.url}/healthz").status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_changes_nothing_with_the_browsers_key(
    closed: tuple[Server, Path], site: str
) -> None:
    server, place = closed
    key = give_key(place, "analyst")
    basic = {"authorization": "Basic " + base64.b64encode(f":{key}".encode()).decode()}
    body = {"udf": "plain"}
    foreign = {"sec-fetch-site": site}
    refused = httpx.post(f"{server.url}/jobs", json=body, headers=basic | foreign)
    assert refused.status_code == 403
    assert "a page of another site" in refused.json()["detail"]
    for headers in (basic, basic | {"sec-fetch-site": "same-origin"}, bearer(key) | foreign):
        assert httpx.post(f"{server.url}/jobs", json=body, headers=headers).status_code == 202
    assert httpx.get(f"{server.url}/udfs/plain.json", headers=basic | foreign).status_code == 200


def test_a_key_makes_so_many_requests_at_once(closed: tuple[Server, Path]) -> None:
    server, place = closed
    headers = bearer(give_key(place, "viewer", limits=Limits(concurrency=2)))
    with ThreadPoolExecutor(3) as threads:
        asked = [
            threads.submit(
                httpx.get, f"{server.url}/udfs/gated.json?gate=key&n={n}", headers=headers
            )
            for n in range(3)
        ]
        refused, answered = wait(asked, timeout=40, return_when=FIRST_COMPLETED)
        server.open("key")
    assert [answer.result().status_code for answer in refused] == [429]
    assert [answer.result().status_code for answer in answered] == [200, 200]
    assert httpx.get(f"{server.url}/udfs/plain.json", headers=headers).status_code == 200


def test_a_day_has_so_many_requests_and_head_is_none(closed: tuple[Server, Path]) -> None:
    server, place = closed
    headers = bearer(give_key(place, "viewer", limits=Limits(daily=3)))
    url = f"{server.url}/udfs/plain.json"
    left_s = 86_400 - time.time() % 86_400
    if left_s < 30:  # The next day would have its own three.
        time.sleep(left_s)
    answers = []
    for _ in range(4):
        assert httpx.head(url, headers=headers).status_code == 200
        answers.append(httpx.get(url, headers=headers))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[3].headers["retry-after"]) > 60 or time.time() % 86_400 > 86_300


def test_a_change_is_seen_within_a_second_and_without_a_restart(folder: Path) -> None:
    store = folder.parent / "changing"
    with serve(folder, store=store) as server:
        url = f"{server.url}/udfs/plain.json"
        assert httpx.get(url).status_code == 200
        key = give_key(store / "access", "viewer")
        time.sleep(1)
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers=bearer(key)).status_code == 200
    with serve(folder, store=store) as server:
        assert "It asks everybody for a key" in server.printed()
        assert httpx.get(f"{server.url}/udfs/plain.json").status_code == 401


def test_a_udf_that_is_saved_is_there_for_those_who_may_call_it(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, tables=COUNT + GATE + UDFS)
    store = tmp_path / "store"
    keys = [give_key(store / "access", "viewer", udfs=udfs) for udfs in (("plain*",), ("gated",))]
    with serve(folder, "--reload", store=store) as server:
        plain, gated = (httpx.Client(base_url=server.url, headers=bearer(key)) for key in keys)
        with plain, gated:
            assert plain.get("/udfs/plainer.json").status_code == 404
            (folder / "tables.py").unlink()
            write_udfs(tmp_path, more=UDFS.replace("def plain", "def plainer"))
            eventually(lambda: plain.get("/udfs/plainer.json").status_code == 200)
            assert plain.get("/udfs/plain.json").status_code == 404
            assert gated.get("/udfs/plainer.json").status_code == 404
            assert gated.get("/udfs/gated").status_code == 200


@pytest.fixture(scope="module")
def login() -> Iterator[Provider]:
    with provider() as running:
        yield running


def test_tokens_of_an_identity_provider_are_accepted(folder: Path, login: Provider) -> None:
    environment = {
        **os.environ,
        "WEBFOOT_JWT_ISSUER": login.url,
        "WEBFOOT_JWT_AUDIENCE": AUDIENCE,
        "WEBFOOT_JWT_TENANT": "org",
    }
    store = folder.parent / "tokens"
    with serve(folder, store=store, environment=environment) as server:
        url = f"{server.url}/udfs/plain.json"
        assert httpx.get(url).status_code == 401
        tokens = {
            200: [login.token(org="acme"), login.token("curve", "ES256", org="zeta")],
            401: [login.token(org="acme", exp=1), login.token(), login.token("two", org="acme")],
            404: [login.token(org="acme", roles=["unknown"]), login.token(org="acme", roles=None)],
        }
        for status, each in tokens.items():
            for token in each:
                assert httpx.get(url, headers=bearer(token)).status_code == status
        executions = [
            httpx.get(url, headers=bearer(login.token(org=org))).headers["x-webfoot-executions"]
            for org in ("acme", "zeta")
        ]
        assert executions == ["1", "1"]
        viewer = bearer(login.token(org="acme", roles=["viewer"]))
        assert (
            httpx.post(f"{server.url}/jobs", json={"udf": "plain"}, headers=viewer).status_code
            == 403
        )
