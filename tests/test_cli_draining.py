"""A server that ends loses no request that reaches it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.server_process import serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server_process import Server

UDFS = """
    import time
    from webfoot import udf

    @udf(cache="1h")
    def sleeps(seconds: float = 0.0, n: int = 0) -> list[dict[str, float]]:
        time.sleep(seconds)
        return [{"seconds": seconds}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_udfs(tmp_path, some=UDFS)


def test_after_sigterm_it_is_unready_and_answers_and_ends(folder: Path) -> None:
    with serve(folder, "--drain", "2s") as server, httpx.Client(base_url=server.url) as http:
        assert http.get("/readyz").json()["status"] == "ready"
        with ThreadPoolExecutor() as threads:
            under_way = threads.submit(
                httpx.get, f"{server.url}/udfs/sleeps.json?seconds=4", timeout=20
            )
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            until = time.monotonic() + 5
            while (told := http.get("/readyz")).status_code == 200:
                assert time.monotonic() < until
            assert told.json()["status"] == "draining"
            assert http.get("/healthz").status_code == 200
            answer = http.get("/udfs/sleeps.json")
            assert answer.json() == [{"seconds": 0.0}]
            assert answer.headers["connection"] == "close"
            # What began before the end is answered after it.
            assert under_way.result().json() == [{"seconds": 4.0}]
        server.process.wait(10)


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(folder: Path, again: signal.Signals) -> None:
    with serve(folder, "--drain", "1h") as server:
        server.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 5
        while httpx.get(f"{server.url}/readyz").status_code == 200:
            assert time.monotonic() < until
        server.process.send_signal(again)
        server.process.wait(10)


class Balancer(ThreadingHTTPServer):
    """Spreads requests over the servers that say they are ready; asks no second one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        self.ready: list[str] = []
        self.sent = 0
        super().__init__(("127.0.0.1", 0), _Requests)

    def watch(self, url: str, until: threading.Event) -> None:
        """Ask a server every tenth of a second whether it is ready."""
        while not until.wait(0.1):
            is_ready = False
            with contextlib.suppress(httpx.TransportError):
                is_ready = httpx.get(f"{url}/readyz", timeout=5).status_code == 200
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
def test_a_rolling_restart_under_load_loses_no_request(folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "WEBFOOT_DRAIN": "5s"}
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

    with contextlib.ExitStack() as stack, balancer() as front, ThreadPoolExecutor(16) as threads:
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
            oldest.process.wait(30)
        ended.set()
        for each in asking:
            each.result()
    assert len(answers) > 100
    assert {status for status, _ in answers} == {200}, [
        body for code, body in answers if code != 200
    ]
