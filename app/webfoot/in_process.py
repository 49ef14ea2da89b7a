"""A server inside this process, without a socket: the same calls for a folder as for an address."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
import weakref
from concurrent.futures import Future
from functools import cache
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from anyio.from_thread import start_blocking_portal

from webfoot.access.opening import open_access
from webfoot.client.connection import Connection
from webfoot.client.fanout import Fanout
from webfoot.errors import UdfNotFound
from webfoot.server import create_app
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from anyio.from_thread import BlockingPortal
    from starlette.types import ASGIApp, Message

    from webfoot.outcomes import Input

# What answers is in this process; nobody asks for it by name.
ADDRESS = "http://localhost"
# Of a body, so that what nobody reads is not made.
_PIECES_AHEAD = 4
# Threads that call at the same time get the same server.
_STARTING = threading.Lock()


class Host:
    """A folder, served in this process until it is closed.

    Args:
        folder: The folder of UDF files.

    Raises:
        OSError: If it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        # Errors are raised where the call is made; a library does not print them, too.
        logging.getLogger("webfoot").addHandler(logging.NullHandler())
        # Requests do not leave this process: nothing gives up waiting, and what a bucket has is
        # read for them. Whoever runs a folder in a notebook or a test is its author, and edits it.
        settings = Settings.from_environment(
            folder=folder,
            runner="inline",
            reload=True,
            debug=True,
            hold=math.inf,
            redirect=sys.maxsize,
        )
        self._app = create_app(settings, open_access(), resume_jobs=False)
        with contextlib.ExitStack() as opened:
            self._portal = opened.enter_context(start_blocking_portal())
            lifespan = self._app.router.lifespan_context(self._app)
            opened.enter_context(self._portal.wrap_async_context_manager(lifespan))
            self._finalizer = weakref.finalize(self, opened.pop_all().close)

    def transport(self) -> httpx.BaseTransport:
        """What takes requests; closing it ends those under way."""
        return _Transport(self, self._app, self._portal)

    def take_up(self, job: str) -> None:
        """Go on with the job of that id, if the process that ran it has ended."""
        self._portal.call(self._app.jobs.take_up, job)

    def close(self) -> None:
        """Stop serving."""
        self._finalizer()


class _Calls:
    """Calls of UDFs from code that no server runs."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def outcomes(self, name: str, inputs: Sequence[Input]) -> Fanout:
        """Call the UDF `name` with each input, in this process."""
        http = httpx.Client(
            base_url=ADDRESS, transport=self._host.transport(), timeout=httpx.Timeout(None)
        )
        path = f"udfs/{name}/map?_partial=allow"
        return Fanout(Connection(http, 0), path, inputs, concurrency=1)


def caller() -> _Calls:
    """Makes the calls of `webfoot.run` and `webfoot.map` outside a server.

    They are of the folder that the settings name, which is loaded once, when it is first needed.

    Raises:
        UdfNotFound: If there is no such folder.
    """
    folder = Settings.from_environment().folder
    if not folder.is_dir():
        raise UdfNotFound(
            f"outside a server, UDFs are those of the folder {folder}/, and there is none; go where"
            " it is, or name it in WEBFOOT_FOLDER"
        )
    with _STARTING:
        return _calls(folder)


@cache
def _calls(folder: Path) -> _Calls:
    return _Calls(Host(folder))


class _Transport(httpx.BaseTransport):
    """Takes requests to an ASGI application that runs on another thread's event loop.

    Args:
        host: Runs it, for as long as there is somebody to ask.
        app: The application.
        portal: Where it runs.
    """

    def __init__(self, host: Host, app: ASGIApp, portal: BlockingPortal) -> None:
        self._host = host
        self._app = app
        self._portal = portal
        self._exchanges: set[_Exchange] = set()
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        exchange = self._portal.call(_Exchange, self._portal, request.read())
        with self._lock:
            self._exchanges.add(exchange)
        self._portal.start_task_soon(exchange.run, self._app, _scope(request))
        try:
            status, headers = exchange.begun.result(request.extensions["timeout"]["read"])
        except TimeoutError:
            self._leave(exchange)
            raise httpx.ReadTimeout("no answer", request=request) from None
        except BaseException:
            self._leave(exchange)
            raise
        return httpx.Response(status, headers=headers, stream=_Body(exchange, self._leave))

    def close(self) -> None:
        with self._lock:
            exchanges = list(self._exchanges)
        for exchange in exchanges:
            self._leave(exchange)

    def _leave(self, exchange: _Exchange) -> None:
        with self._lock:
            self._exchanges.discard(exchange)
        exchange.leave()


class _Exchange:
    """One request and its response.

    Args:
        portal: Where it takes place.
        body: The body of the request.
    """

    def __init__(self, portal: BlockingPortal, body: bytes) -> None:
        self.begun: Future[tuple[int, Any]] = Future()
        self._portal = portal
        self._body: bytes | None = body
        self._failure: Exception | None = None
        self._left = anyio.Event()
        self._sending, self._receiving = anyio.create_memory_object_stream[bytes](_PIECES_AHEAD)

    async def run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        """Let the application answer."""
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001  # a bug, told where the call was made
            self._failure = httpx.RemoteProtocolError(f"the server failed: {error!r}")
            self._failure.__cause__ = error
            self._begin(self._failure)
        finally:
            self._begin(httpx.ReadError("the exchange ended without an answer"))
            self._sending.close()

    def pieces(self) -> Iterator[bytes]:
        """The body of the response; waits for each piece."""
        with contextlib.suppress(anyio.EndOfStream, anyio.ClosedResourceError):
            while True:
                yield self._portal.call(self._receiving.receive)
        if self._failure is not None:
            raise self._failure

    def leave(self) -> None:
        """Nobody waits any more."""
        self._begin(httpx.ReadError("the connection was closed"))
        with contextlib.suppress(RuntimeError):  # The server has stopped.
            self._portal.call(self._hang_up)

    def _begin(self, answer: tuple[int, Any] | Exception) -> None:
        if not self.begun.done():
            if isinstance(answer, Exception):
                self.begun.set_exception(answer)
            else:
                self.begun.set_result(answer)

    def _hang_up(self) -> None:
        self._left.set()
        self._receiving.close()

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin((message["status"], message.get("headers", [])))
        elif message.get("body"):
            with contextlib.suppress(anyio.BrokenResourceError):  # Nobody reads it any more.
                await self._sending.send(message["body"])


class _Body(httpx.SyncByteStream):
    def __init__(self, exchange: _Exchange, leave: Any) -> None:
        self._exchange = exchange
        self._leave = leave

    def __iter__(self) -> Iterator[bytes]:
        return self._exchange.pieces()

    def close(self) -> None:
        self._leave(self._exchange)


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("localhost", 0),
        "server": (request.url.host, request.url.port or 80),
    }
