"""Several environments of one function, and the Invoke API by which it reaches them itself."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.aws.runtime_api import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.aws.events import Event
    from tests.aws.runtime_api import Environment, Outcome

# An event that nobody waits for is tried so often, as Lambda does unless told otherwise.
_ATTEMPTS = 3
_NOTHING_TO_DO = {"source": "aws.events"}
_PATIENCE_S = 40.0


class Fleet:
    """A function with a number of environments; more events than these are throttled."""

    def __init__(self) -> None:
        self.environments: list[Environment] = []
        # The one that was used last is used first, as Lambda does.
        self._idle: queue.LifoQueue[Environment] = queue.LifoQueue()
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.throttled = 0
        self.forbidden = False
        # How long an event may take that nobody waits for; None if as long as any other.
        self.unwaited_s: float | None = None
        # What the Invoke API was given, in order; and what came of events nobody waits for.
        self.events: list[Event] = []
        self.left: list[Outcome] = []

    @property
    def url(self) -> str:
        """The address of the Invoke API."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, environment: Environment) -> None:
        """Have one more; it is started when it is needed."""
        self.environments.append(environment)
        self._idle.put(environment)

    def invoke(self, event: Event) -> Outcome:
        """Have an environment answer `event` as soon as one is free."""
        return self._use(self._idle.get(), event)

    @property
    def next(self) -> Environment:
        """The one that is used next."""
        return self._idle.queue[-1]

    def busy(self) -> list[Environment]:
        """Those that have something to do."""
        return [one for one in self.environments if one not in self._idle.queue]

    def start(self) -> None:
        """Start all of them at once, so that none is found to be slow."""
        with ThreadPoolExecutor(len(self.environments)) as pool:
            for outcome in pool.map(self.invoke, [_NOTHING_TO_DO] * len(self.environments)):
                assert outcome.error == ""

    def rest(self) -> None:
        """Wait until none has anything to do: what nobody waits for goes on for a while."""
        patient_until = time.monotonic() + _PATIENCE_S
        while self.busy():
            assert time.monotonic() < patient_until, "an instance does not come to its end"
            time.sleep(0.01)

    def take(self, event: Event) -> Outcome | None:
        """Have a free environment answer `event`; None if there is none."""
        try:
            free = self._idle.get_nowait()
        except queue.Empty:
            self.throttled += 1
            return None
        return self._use(free, event)

    def leave(self, event: Event) -> None:
        """Have an environment take `event` when one is free, and others if that fails."""

        def work() -> None:
            for _ in range(_ATTEMPTS):
                outcome = self._use(self._idle.get(), event, self.unwaited_s)
                if not outcome.error:
                    break
                time.sleep(0.2)  # A minute, on Lambda.
            self.left.append(outcome)

        threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def _use(self, free: Environment, event: Event, timeout_s: float | None = None) -> Outcome:
        try:
            return free.invoke(event, timeout_s)
        finally:
            self._idle.put(free)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        super().__init__(("127.0.0.1", 0), _Invoke)

    def handle_error(self, request: object, client_address: object) -> None:
        """A function that was killed breaks its connections: that is no news."""


class _Invoke(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        fleet = self.server.fleet
        event = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        kind = self.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        fleet.events.append(event)
        if kind == "Event":
            fleet.leave(event)
            self._reply(202, b"", {})
            return
        if fleet.forbidden:
            said = {"Message": "User is not authorized to perform: lambda:InvokeFunction"}
            told = {"x-amzn-ErrorType": "AccessDeniedException"}
            self._reply(403, json.dumps(said).encode(), told)
            return
        outcome = fleet.take(event)
        if outcome is None:
            said = {"Type": "User", "message": "Rate Exceeded."}
            told = {"x-amzn-ErrorType": "TooManyRequestsException"}
            self._reply(429, json.dumps(said).encode(), told)
        elif outcome.error:
            said = {"errorType": outcome.error, "errorMessage": "RequestId: 1 Error: it ended"}
            self._reply(200, json.dumps(said).encode(), {"X-Amz-Function-Error": "Unhandled"})
        else:
            self._reply(200, outcome.body, {})

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def fleet_of(
    count: int, folder: Path, udfs: Path, given: Mapping[str, str], timeout_s: float = 60.0
) -> Iterator[Fleet]:
    """A function that serves `udfs` in so many environments, and may invoke itself."""
    with ExitStack() as stack:
        # Its address is known before the environments, which are told it.
        fleet = Fleet()
        stack.callback(fleet.close)
        told = {**given, "AWS_ENDPOINT_URL_LAMBDA": fleet.url}
        for number in range(count):
            one = environment(folder / str(number), udfs, timeout_s=timeout_s, **told)
            fleet.add(stack.enter_context(one))
        yield fleet
