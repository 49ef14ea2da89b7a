"""Requests over real sockets: made again where that is safe, told plainly where it is not."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
import time
import warnings
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.client.scripted import BEFORE, MIDDLE, Reply, Request, in_turn, scripted

import webfoot
from webfoot.client import connection as connections
from webfoot.client.connection import Connection
from webfoot.errors import (
    Error,
    InvalidParameters,
    RunCancelled,
    ServerBusy,
    UdfNotFound,
    UdfTimeout,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def parquet(**columns: list[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


OK = Reply(body=parquet(n=[1]))
BUSY = Reply(503, {"retry-after": "0"}, json.dumps(ServerBusy("full").problem()).encode())
PAGE = b"<html><head><title>502 Bad Gateway</title></head>\n<body>nginx</body></html>"


def reply_of(error: Error, **headers: str) -> Reply:
    body = json.dumps(error.problem()).encode()
    return Reply(error.status, {"content-type": "application/problem+json", **headers}, body)


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_FIRST_WAIT_S", 0.001)


@pytest.mark.parametrize(
    "trouble",
    [
        BUSY,
        Reply(502, {}, PAGE),
        Reply(503, {}, PAGE),
        Reply(504, {}, PAGE),
        Reply(429, {"retry-after": "0"}),
        Reply(429, {"retry-after": formatdate(0, usegmt=True)}),
        BEFORE,
        MIDDLE,
    ],
    ids=["busy", "502", "503", "504", "429", "429-date", "hangs-up", "cut-short"],
)
def test_trouble_that_passes_is_not_seen(trouble: Reply) -> None:
    with scripted(in_turn(trouble, trouble, OK)) as server, webfoot.Client(server.url) as client:
        assert client.run("f").arrow().to_pydict() == {"n": [1]}
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [(BUSY, ServerBusy), (BEFORE, Unreachable), (MIDDLE, Unreachable), (Reply(502), Error)],
    ids=["busy", "hangs-up", "cut-short", "502"],
)
def test_trouble_that_stays_is_told_after_as_many_attempts_as_were_asked_for(
    trouble: Reply, expected: type[Error]
) -> None:
    with (
        scripted(in_turn(trouble)) as server,
        webfoot.Client(server.url, retries=2) as client,
        pytest.raises(expected),
    ):
        client.run("f")
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "reply",
    [
        reply_of(UdfTimeout("too long", timeout_s=1)),
        reply_of(UdfNotFound("no such")),
        reply_of(InvalidParameters("n: is wrong")),
        Reply(500, {}, PAGE),
        Reply(429),
        Reply(503, {"retry-after": "3600"}),
        Reply(404),
    ],
    ids=["udf-timeout", "not-found", "invalid", "500", "429-bare", "an-hour", "404"],
)
def test_what_another_attempt_cannot_mend_is_told_at_once(reply: Reply) -> None:
    with (
        scripted(in_turn(reply)) as server,
        webfoot.Client(server.url) as client,
        pytest.raises(Error),
    ):
        client.run("f")
    assert len(server.requests) == 1


def test_a_retry_waits_as_long_as_the_server_says(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    trouble = Reply(429, {"retry-after": "7"})
    with scripted(in_turn(trouble, OK)) as server, httpx.Client(base_url=server.url) as http:
        connection = Connection(http, 4)
        monkeypatch.setattr(connection._cut, "wait", waits.append)
        connection.get("x")
    assert [int(wait_s) for wait_s in waits] == [7]


def test_waits_grow_and_are_not_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_FIRST_WAIT_S", 1.0)
    spans: list[float] = []

    def uniform(_: float, high: float) -> float:
        spans.append(high)
        return 0.0

    monkeypatch.setattr("random.uniform", uniform)
    with scripted(in_turn(Reply(503))) as server, httpx.Client(base_url=server.url) as http:
        connection = Connection(http, 5)
        with pytest.raises(Error):
            connection.get("x")
    assert spans == [1.0, 2.0, 4.0, 5.0, 5.0]


# Errors.

CARRIED: dict[str, dict[str, Any]] = {
    "invalid-parameters": {"errors": [{"parameter": "n", "message": "is no number", "value": "x"}]},
    "server-busy": {"retry_after_s": 7},
    "too-many-requests": {"retry_after_s": 9},
    "memory-exceeded": {"limit_bytes": 2_000_000_000},
    "query-memory-exceeded": {"limit_bytes": 1_000_000_000},
    "udf-timeout": {"timeout_s": 1.5},
    "query-timeout": {"timeout_s": 2.5},
    "result-too-large": {"limit_bytes": 4_700_000},
    "deadline-reached": {"limit_s": 28.5},
    "fanout-failed": {"failures": [{"index": 3, "input": {"n": 1}, "problem": {"code": "x"}}]},
}


@pytest.mark.parametrize("cls", [Error, *Error.classes.values()], ids=lambda cls: cls.code)
def test_an_error_of_the_server_is_raised_as_the_same_class_with_its_fields(
    cls: type[Error],
) -> None:
    error = cls("what happened, 'ü'", **CARRIED.get(cls.code, {}))
    assert set(cls.fields) == set(CARRIED.get(cls.code, {}))
    error.udf, error.run = "contours", "0123"
    with (
        scripted(in_turn(reply_of(error))) as server,
        webfoot.Client(server.url, retries=0) as client,
        pytest.raises(cls) as raised,
    ):
        client.run("contours")
    assert type(raised.value) is cls
    assert {**vars(raised.value), "__notes__": None} == {**vars(error), "__notes__": None}


def test_a_traceback_that_the_server_shows_is_shown() -> None:
    problem = webfoot.Error("x").problem() | {"traceback": 'File "udfs/f.py", line 7'}
    with (
        scripted(in_turn(Reply(500, {}, json.dumps(problem).encode()))) as server,
        webfoot.Client(server.url) as client,
        pytest.raises(Error) as raised,
    ):
        client.run("f")
    assert raised.value.__notes__ == ['File "udfs/f.py", line 7']


@pytest.mark.parametrize("status", [200, 404, 502])
def test_an_answer_that_is_not_webfoot_s_is_shown_with_its_status(status: int) -> None:
    with (
        scripted(in_turn(Reply(status, {}, PAGE))) as server,
        webfoot.Client(server.url, retries=0) as client,
    ):
        for call in (lambda: client.run("f"), client.udfs, lambda: client.map("f", [{}])):
            with pytest.raises(Error, match=f"answered {status}") as raised:
                call()
            assert "<title>502 Bad Gateway</title>" in raised.value.detail
            assert "<body>" not in raised.value.detail


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{}", b'{"code": "x"}', b"\xff\xfe"])
def test_any_error_body_is_survived(body: bytes) -> None:
    with (
        scripted(in_turn(Reply(418, {}, body))) as server,
        webfoot.Client(server.url) as client,
        pytest.raises(Error, match="answered 418"),
    ):
        client.run("f")


def test_where_nothing_listens_the_address_is_doubted() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with (
            webfoot.Client(url, retries=1) as client,
            pytest.raises(Unreachable, match=rf"^{url} cannot be reached \(.*refused.*address"),
        ):
            client.run("f")


def test_a_host_that_does_not_exist_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []

    def fail(host: str, *_: object, **__: object) -> None:
        looked_up.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with (
        webfoot.Client("http://hots.example") as client,
        pytest.raises(Unreachable, match=r"hots\.example cannot be reached .*not known"),
    ):
        client.run("f")
    assert looked_up == ["hots.example"]


def test_an_answer_that_does_not_come_is_not_asked_for_again() -> None:
    asked, let_go = threading.Event(), threading.Event()

    def answer(_: Request) -> Reply:
        asked.set()
        let_go.wait(30)
        return OK

    with scripted(answer) as server, webfoot.Client(server.url, timeout=0.05) as client:
        with pytest.raises(Unreachable, match=r"no answer in the time.*timeout="):
            client.run("f")
        # The request may reach it only now.
        assert asked.wait(20)
        let_go.set()
    assert len(server.requests) == 1


# Cutting off.


@contextlib.contextmanager
def waiting_request(connection: Connection) -> Iterator[list[BaseException]]:
    """A thread that makes a request; gives what it raised in the end."""
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            connection.get("x")
        except BaseException as error:  # noqa: BLE001  # it is what the test looks at
            raised.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield raised
    thread.join(20)
    assert not thread.is_alive()


def test_a_request_that_waits_is_cut_off_and_the_server_sees_it() -> None:
    """On a connection that was used before, too: httpx does not tell which one it takes."""
    asked, hung_up = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def serve() -> None:
            accepted, _ = listening.accept()
            with accepted:
                accepted.recv(65536)
                accepted.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                accepted.recv(65536)
                asked.set()
                if accepted.recv(1) == b"":
                    hung_up.set()

        threading.Thread(target=serve, daemon=True).start()
        connection = Connection(httpx.Client(base_url=url, timeout=600), 4)
        connection.get("first")
        with waiting_request(connection) as raised:
            assert asked.wait(20)
            time.sleep(0.3)  # It has sent its request; now let it wait for the answer.
            connection.cut_off()
            assert hung_up.wait(20)
    assert [type(error) for error in raised] == [RunCancelled]


def test_a_wait_between_attempts_is_cut_off_too() -> None:
    with scripted(in_turn(Reply(503, {"retry-after": "30"}))) as server:
        connection = Connection(httpx.Client(base_url=server.url), 4)
        with waiting_request(connection) as raised:
            while not server.requests:
                time.sleep(0.001)
            connection.cut_off()
    assert [type(error) for error in raised] == [RunCancelled]
    assert len(server.requests) == 1


def test_a_client_that_is_dropped_leaves_no_socket_open() -> None:
    gc.collect()  # What other tests have left is not this one's.
    with scripted(in_turn(OK)) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        webfoot.Client(server.url).run("f")
        gc.collect()
    assert [warning for warning in caught if warning.category is ResourceWarning] == []


def test_a_redirect_is_followed_and_the_token_stays_with_its_server() -> None:
    with scripted(in_turn(OK)) as other:
        there = f"{other.url}/udfs/f.parquet"
        with (
            scripted(in_turn(Reply(307, {"location": there}))) as server,
            webfoot.Client(server.url.replace("127.0.0.1", "localhost"), token="s3cret") as client,
        ):
            assert len(client.run("f")) == 1
    assert server.requests[0].headers["authorization"] == "Bearer s3cret"
    assert "authorization" not in other.requests[0].headers
