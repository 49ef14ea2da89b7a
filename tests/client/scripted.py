"""A server on a real socket that answers what the test says, or hangs up."""

from __future__ import annotations

import contextlib
import http.server
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True)
class Request:
    """A request as it came: header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What to answer; `hang_up` closes the connection before, or in the middle of, the answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang_up: str = ""


BEFORE = Reply(hang_up="before")
MIDDLE = Reply(hang_up="middle", body=b"half")


@dataclass
class Scripted:
    """A server that runs.

    Args:
        url: Its address.
        requests: What it was asked, in order.
    """

    url: str
    requests: list[Request]


@contextlib.contextmanager
def scripted(answer: Callable[[Request], Reply]) -> Iterator[Scripted]:
    """Run a server that answers each request with what `answer` gives for it."""
    seen: list[Request] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            seen.append(request)
            reply = answer(request)
            if reply.hang_up == "before":
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            cut_short = 1 if reply.hang_up else 0
            self.send_header("content-length", str(len(reply.body) + cut_short))
            self.end_headers()
            self.wfile.write(reply.body)
            self.close_connection = self.close_connection or bool(reply.hang_up)

        do_DELETE = do_GET = do_POST = handle_any  # noqa: N815  # the handler's way

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # likewise
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        # Not of the default five: many clients connect at once.
        request_queue_size = 100

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield Scripted(f"http://127.0.0.1:{server.server_port}", seen)
        finally:
            server.shutdown()
            thread.join()


def in_turn(*replies: Reply) -> Callable[[Request], Reply]:
    """Answer the first request with the first reply and so on; the last one from then on."""
    left = list(replies)
    lock = threading.Lock()

    def answer(_: Request) -> Reply:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return answer
