"""A request and its answer: who knows something of it notes it there, until it is over."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from contextvars import ContextVar
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from webfoot.errors import Error, UdfNotFound
from webfoot.lineage import Tally

if TYPE_CHECKING:
    from starlette.types import Message, Scope, Send

    from webfoot.access.principal import Principal
    from webfoot.results import Result
    from webfoot.server.spans import Origin

_KEY = "webfoot.exchange"
# What others call a request, repeated in headers, logs and records.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_MOST_AGENT = 100
_PROCESS = secrets.token_hex(6).encode()
_numbers = itertools.count(1)

# What went wrong if nobody was left to read the answer.
CLIENT_GONE = "client-gone"
# Of the request that this task, or this thread, works for.
REQUEST_ID: ContextVar[str] = ContextVar("webfoot_request_id", default="")

Cache = Literal["hit", "stale", "joined", "miss"]


class Exchange:
    """One request and its answer.

    Args:
        scope: The request, as ASGI has it.

    Attributes:
        began: When it came, in seconds since 1970.
        request_id: What the client calls it, or else what we do.
        agent: What the client says that it is.
        principal: Who has made it; None if nobody knows.
        route: The template of its path; empty if there is nothing at it.
        udf: The UDF that it is about; empty if it is about none that there is.
        extension: The format of the result that it asks for.
        key: The key of its call, which stands for the parameters.
        cache: Where the result came from; None if there is none.
        result: The result.
        waited_s: How long that was waited for, in seconds.
        tally: What the runs cost that it has led to.
        origin: Where it comes from; None if no traces are sent.
        code: What went wrong, as `webfoot.errors` has it.
        status: Of the answer; 0 if there was none, as the client had gone.
        sent: How many bytes of body were sent.
        seconds: How long it took; once it is over.
        alike: What its record shares with those of the same request; empty until one is made.
    """

    # Of the class, as most are never set: there are thousands of exchanges a second.
    agent = route = udf = extension = key = code = alike = ""
    principal: Principal | None = None
    cache: Cache | None = None
    result: Result | None = None
    origin: Origin | None = None
    status = sent = 0
    waited_s = seconds = 0.0

    def __init__(self, scope: Scope) -> None:
        self.began, self._clock = time.time(), time.perf_counter()
        self.method: str = scope["method"]
        self.tally = Tally()
        self._id = b""
        for name, value in scope["headers"]:
            if name == b"user-agent":
                self.agent = value[:_MOST_AGENT].decode("latin-1")
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self._id = value
        self._id = self._id or b"%s-%x" % (_PROCESS, next(_numbers))
        self.request_id = self._id.decode()

    def through(self, send: Send) -> Send:
        """Sends the answer, and notes what is sent."""

        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", self._id)]
            elif self.method != "HEAD":
                self.sent += len(message.get("body", b""))
            await send(message)

        return forward

    def repeat(self, earlier: Exchange) -> None:
        """Note what was found out of an earlier exchange, which had the same request."""
        self.route, self.udf, self.extension = earlier.route, earlier.udf, earlier.extension
        self.key, self.cache, self.result = earlier.key, earlier.cache, earlier.result
        if self.agent == earlier.agent:
            self.alike = earlier.alike

    def fail(self, error: Error) -> None:
        """Note what went wrong."""
        self.code = error.code
        # What is not there has any name that a client thinks of.
        if error.udf and not isinstance(error, UdfNotFound):
            self.udf = error.udf

    def end(self, principal: Principal | None) -> None:
        """Take the time; note who it was, if that has been found out."""
        self.seconds = time.perf_counter() - self._clock
        self.principal = principal


def has_failed(status: int, code: str) -> bool:
    """Whether an exchange with such an end has failed: an error may be told with the status 200."""
    return bool(code) or status >= HTTPStatus.BAD_REQUEST


def fault_of(status: int, code: str) -> Literal["client", "server"]:
    """Whose fault it is that an exchange with such an end has failed."""
    known = Error.classes.get(code)
    status = status if known is None else known.status
    return "server" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "client"


def begin(scope: Scope) -> Exchange:
    """Note an exchange in its request, for all who answer it."""
    exchange = scope[_KEY] = Exchange(scope)
    REQUEST_ID.set(exchange.request_id)
    return exchange


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that a request is part of."""
    exchange: Exchange = scope.get(_KEY) or begin(scope)
    return exchange
