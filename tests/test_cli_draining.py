"""A server that ends loses no request that reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn
from tests.server_process import INLINE, eventually, serve, write_udfs

from webfoot.cli.draining import DrainingServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server_process import Server

PATIENCE_S = 20.0
UDFS = """
    import time
    from pathlib import Path
    from webfoot import udf

    @udf(cache="1h")
    def sleeps(seconds: float = 0.0, n: int = 0) -> list[dict[str, float]]:
        time.sleep(seconds)
        return [{"seconds": seconds}]

    @udf
    def held() -> list[dict[str, int]]:
        beside = Path(__file__).parents[1]
        (beside / "begun").touch()
        while not (beside / "go").exists():
            time.sleep(0.02)
        return [{"n": 1}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_udfs(tmp_path, some=UDFS)


def refuses(url: str) -> bool:
    """Whether nobody listens there."""
    address = httpx.URL(url)
    try:
        socket.create_connection((address.host, address.port or 80)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_after_sigterm_it_is_unready_and_answers(folder: Path) -> None:
    with (
        serve(folder, "--drain", "1h") as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        assert http.get("/readyz").json()["status"] == "ready"
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: http.get("/readyz").status_code == 503)
        assert http.get("/readyz").json()["status"] == "draining"
        eventually(lambda: http.get("/healthz").headers.get("connection") == "close")
        assert http.get("/healthz").status_code == 200
        answer = http.get("/udfs/sleeps.json")
        assert answer.json() == [{"seconds": 0.0}]
        assert answer.headers["connection"] == "close"


def test_what_began_before_the_end_is_answered_after_it(folder: Path) -> None:
    with serve(folder, "--drain", "0s") as server, ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(httpx.get, f"{server.url}/udfs/held.json", timeout=60)
        eventually((folder.parent / "begun").exists)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: refuses(server.url))
        (folder.parent / "go").touch()
        assert under_way.result().json() == [{"n": 1}]
        server.process.wait(PATIENCE_S)


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(folder: Path, again: signal.Signals) -> None:
    with serve(folder, "--drain", "1h") as server:
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        server.process.send_signal(again)
        server.process.wait(PATIENCE_S)


class Balancer(ThreadingHTTPServer):
    """Spreads requests over the servers that say they are ready; asks no second one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        self.ready: list[str] = []
        self.sent = 0
        super().__init__(("127.0.0.1", 0), _Requests)

    def watch(self, url: str, gone: threading.Event) -> None:
        """Ask a server every tenth of a second whether it is ready."""
        while not gone.wait(0.1):
            is_ready = False
            with contextlib.suppress(httpx.TransportError):
                is_ready = httpx.get(f"{url}/readyz", timeout=30).status_code == 200
            if is_ready and url not in self.ready:
                self.ready.append(url)
            elif not is_ready and url in self.ready:
                self.ready.remove(url)


class _Requests(BaseHTTPRequestHandler):
    server: Balancer

    def do_GET(self) -> None:
        self.server.sent += 1
        ready = list(self.server.ready)
        try:
            answer = httpx.get(ready[self.server.sent % len(ready)] + self.path, timeout=60)
            status, body = answer.status_code, answer.content
        except (httpx.TransportError, ZeroDivisionError) as error:
            status, body = 502, repr(error).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def balancer() -> Iterator[Balancer]:
    with Balancer() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield running
        finally:
            running.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_rolling_restart_under_load_loses_no_request(folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "WEBFOOT_DRAIN": "15s"}
    answers: list[tuple[int, bytes]] = []
    ended = threading.Event()

    def ask(url: str, number: int) -> None:
        asked = 0
        while not ended.is_set():
            asked += 1
            path = f"/udfs/sleeps.json?seconds=0.05&n={number * 1_000_000 + asked // 3}"
            answer = httpx.get(url + path, timeout=60)
            answers.append((answer.status_code, answer.content))

    def start() -> contextlib.AbstractContextManager[Server]:
        return serve(folder, store=tmp_path / "store", environment=environment)

    with balancer() as front, ThreadPoolExecutor(16) as threads, contextlib.ExitStack() as stack:
        url = f"http://127.0.0.1:{front.server_address[1]}"
        stack.callback(ended.set)

        def add() -> Server:
            server = stack.enter_context(start())
            gone = threading.Event()
            stack.callback(gone.set)
            threading.Thread(target=front.watch, args=(server.url, gone), daemon=True).start()
            while server.url not in front.ready:
                time.sleep(0.05)
            return server

        running = [add(), add()]
        asking = [threads.submit(ask, url, number) for number in range(8)]
        for _ in range(3):
            # As an orchestrator does: the next first, then the oldest ends.
            running.append(add())
            oldest = running.pop(0)
            oldest.process.send_signal(signal.SIGTERM)
            oldest.process.wait(60)
        ended.set()
        for each in asking:
            each.result()
    assert len(answers) > 100
    assert {status for status, _ in answers} == {200}, [
        body for code, body in answers if code != 200
    ]


WAITS = """
    import time
    from pathlib import Path
    from webfoot import udf

    @udf
    def waits(begun: str, until: str) -> list[dict[str, int]]:
        Path(begun).touch()
        while not Path(until).exists():
            time.sleep(0.01)
        return [{"n": 1}]
"""


def test_what_began_long_before_the_end_closes_its_connection_too(tmp_path: Path) -> None:
    begun, until = tmp_path / "begun", tmp_path / "until"
    folder = write_udfs(tmp_path, some=WAITS)
    with (
        serve(folder, "--drain", "2s", *INLINE) as server,
        httpx.Client(base_url=server.url) as http,
        ThreadPoolExecutor() as threads,
    ):
        asked = {"begun": str(begun), "until": str(until)}
        answer = threads.submit(
            httpx.get, f"{server.url}/udfs/waits.json", params=asked, timeout=60
        )
        try:
            eventually(begun.exists)
            # With the date, uvicorn renews the headers that it adds to an answer.
            date = http.get("/healthz").headers["date"]
            eventually(lambda: http.get("/healthz").headers["date"] != date)
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: http.get("/readyz").status_code == 503)
        finally:
            until.touch()
        assert answer.result().headers["connection"] == "close"
        server.process.wait(20)


def test_the_signal_itself_has_answers_close_their_connections() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        pass

    config = uvicorn.Config(app, log_config=None)
    config.load()
    server = DrainingServer(config, begin=lambda: None, drain_s=60, finish_s=60)

    async def ends() -> None:
        await server.on_tick(0)
        of_a_request = server.server_state.default_headers
        await server.on_tick(10)
        server.handle_exit(signal.SIGTERM, None)
        assert of_a_request.count((b"connection", b"close")) == 1
        await server.on_tick(20)
        assert of_a_request.count((b"connection", b"close")) == 1
        assert server.server_state.default_headers is of_a_request

    asyncio.run(ends())
