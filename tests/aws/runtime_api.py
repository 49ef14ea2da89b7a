"""A small Lambda: the Runtime API for a real `awslambdaric`, and the Invoke API before it.

An environment is one process. It gets one event at a time, is killed when its time is over, and is
started again by the next event when it has ended.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.aws.events import Event

MOST_BYTES = 6_291_556
APP = Path(__file__).parents[2] / "app"


@dataclass(frozen=True)
class Outcome:
    """What came of an invocation.

    Args:
        body: What the runtime posted, or the platform says.
        error: The type of the error; empty if there was none.
    """

    body: bytes
    error: str = ""

    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@dataclass
class _Invocation:
    event: bytes
    timeout_s: float
    # Known when the event is handed over: a start has time of its own.
    deadline: float = math.inf
    killed_at: float = math.inf
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    outcome: queue.Queue[Outcome] = field(default_factory=queue.Queue)


class Environment:
    """One execution environment of a function.

    Args:
        command: What runs: the runtime, as a rule.
        environment: The function's variables.
        folder: Where it runs, and its output goes.
        timeout_s: How long an invocation is told that it may take.

    It is let be for `grace_s` longer: none, as on Lambda, unless a test sets it, whose process may
    stand still meanwhile.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        timeout_s: float = 30.0,
    ) -> None:
        self.timeout_s = timeout_s
        self.grace_s = 0.0
        self.output = folder / "function.log"
        self._command, self._environment, self._folder = command, environment, folder
        self._waiting: queue.Queue[_Invocation] = queue.Queue()
        self._running: _Invocation | None = None
        self._one_at_a_time = threading.Lock()
        self._server = _Server(self)
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def invoke(self, event: Event, timeout_s: float | None = None) -> Outcome:
        """Have the function answer `event`, after those before it, in `timeout_s` if given."""
        with self._one_at_a_time:
            if self.process is None or self.process.poll() is not None:
                self.start()
            running = _Invocation(json.dumps(event).encode(), timeout_s or self.timeout_s)
            self._running = running
            self._waiting.put(running)
            while True:
                with contextlib.suppress(queue.Empty):
                    return running.outcome.get(timeout=0.02)
                if time.time() > running.killed_at:
                    self.kill()
                    return Outcome(b"{}", "Sandbox.Timedout")
                if self.process is None or self.process.poll() is not None:
                    return Outcome(b"{}", "Runtime.ExitError")

    def start(self) -> None:
        """Start the process."""
        self.starts += 1
        self._waiting = queue.Queue()
        port = self._server.server_address[1]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**self._environment, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def printed(self) -> str:
        """What the function has printed so far."""
        return self.output.read_text() if self.output.exists() else ""

    def kill(self) -> None:
        """End the process at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        """End everything."""
        self.kill()
        self._server.shutdown()
        self._server.server_close()

    def next_event(self) -> _Invocation | None:
        """What the process gets that asks now; None if that has ended meanwhile."""
        waiting, process = self._waiting, self.process
        while process is self.process and (process is None or process.poll() is None):
            with contextlib.suppress(queue.Empty):
                invocation = waiting.get(timeout=0.05)
                invocation.deadline = time.time() + invocation.timeout_s
                invocation.killed_at = invocation.deadline + self.grace_s
                return invocation
        return None

    def end(self, name: str, what: str, body: bytes, kind: str) -> bool:
        """Take the answer to the invocation `name`, or, without one, to the one that waits."""
        running = self._running
        if what == "response" and len(body) > MOST_BYTES:
            body, kind = b"{}", "Function.ResponseSizeTooLarge"
        if running is None or name not in (running.id, ""):
            return False
        running.outcome.put(Outcome(body, kind))
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        super().__init__(("127.0.0.1", 0), _Routes)

    def handle_error(self, request: object, client_address: object) -> None:
        """A process that was killed breaks its connection: that is no news."""


class _Routes(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Headers and body at once: in two parts, each answer would wait 40 ms for an ACK.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        invocation = self.server.environment.next_event()
        if invocation is None:
            self.close_connection = True
            return
        self._reply(
            200,
            invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.id,
                "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": (
                    "arn:aws:lambda:eu-west-1:123456789012:function:webfoot"
                ),
                "Content-Type": "application/json",
            },
        )

    def do_POST(self) -> None:
        body = self._body()
        *_, name, what = self.path.split("/")
        kind = self.headers.get("Lambda-Runtime-Function-Error-Type", "")
        if (name, what) == ("init", "error"):
            name = ""
        known = self.server.environment.end(name, what, body, kind or ("Error" * (what == "error")))
        self._reply(202 if known else 403, b"{}", {})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

    def log_message(self, *args: object) -> None:
        pass


def runtime(handler: str) -> list[str]:
    """The command of AWS' own runtime for Python."""
    return [sys.executable, "-m", "awslambdaric", handler]


def variables(**given: str) -> dict[str, str]:
    """The variables of a function: what Lambda sets, and little else; no HOME."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(APP),
        "AWS_LAMBDA_FUNCTION_NAME": "webfoot",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "TZ": ":UTC",
        # Without it, and without keys, a function lets nobody in.
        "WEBFOOT_OPEN": "true",
        **given,
    }


@contextlib.contextmanager
def environment(
    folder: Path, udfs: Path, *, timeout_s: float = 30.0, **given: str
) -> Iterator[Environment]:
    """A function that serves `udfs`, in a folder that it cannot write to."""
    temp, code = folder / "tmp", folder / "task"
    temp.mkdir(parents=True, exist_ok=True)
    code.mkdir(exist_ok=True)
    running = Environment(
        runtime("webfoot.aws.handler"),
        variables(WEBFOOT_FOLDER=str(udfs), TMPDIR=str(temp), **given),
        folder,
        timeout_s,
    )
    try:
        yield running
    finally:
        running.close()
