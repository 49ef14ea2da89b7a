"""A function behind an address, as clients reach it: HTTP in, events to the function, HTTP out."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Protocol

from tests.aws.events import Asked, answer_of, event_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.aws.events import Event
    from tests.aws.runtime_api import Outcome


class Function(Protocol):
    """What answers events."""

    def invoke(self, event: Event) -> Outcome:
        """Answer one."""


class Gateway(ThreadingHTTPServer):
    """One of the four services.

    Args:
        function: What answers.
        kind: Which of the services it is.
    """

    daemon_threads = True

    def __init__(self, function: Function, kind: str) -> None:
        self.function, self.kind = function, kind
        # Method and status of each request so far.
        self.requests: list[tuple[str, int]] = []
        super().__init__(("127.0.0.1", 0), _Requests)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


class _Requests(BaseHTTPRequestHandler):
    server: Gateway
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # The gateways say by which scheme they were reached; here it is this one.
        headers = {**dict(self.headers.items()), "x-forwarded-proto": "http"}
        asked = Asked(self.command, self.path, headers, body)
        outcome = self.server.function.invoke(event_of(self.server.kind, asked))
        if outcome.error:
            self.server.requests.append((self.command, 502))
            self.send_error(502, outcome.error)
            return
        answered = answer_of(outcome.json())
        self.server.requests.append((self.command, answered.status))
        self.send_response(answered.status)
        for name, value in answered.headers.items():
            self.send_header(name, value)
        if "content-length" not in answered.headers and self.command != "HEAD":
            self.send_header("content-length", str(len(answered.body)))
        self.end_headers()
        self.wfile.write(answered.body)
        self.wfile.flush()

    do_HEAD = do_POST = do_DELETE = do_OPTIONS = do_GET  # noqa: N815  # as the library calls them

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def reachable(function: Function, kind: str = "function_url") -> Iterator[Gateway]:
    """Put `function` behind an address until the end of the block."""
    with Gateway(function, kind) as gateway:
        threading.Thread(target=gateway.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield gateway
        finally:
            gateway.shutdown()
