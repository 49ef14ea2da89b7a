"""Invocations of a Lambda function, answered by the same application that `webfoot serve` makes.

Mangum translates events to ASGI and back. Here is what it leaves open: what the service before the
function allows, an answer before the platform ends the call, and one application for a process.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from mangum import Mangum

from webfoot.access.opening import access_of
from webfoot.assembly import assemble
from webfoot.aws.fronts import LAMBDA_BYTES, front_of
from webfoot.aws.invoking import Busy, Died, Refused, make_invoker
from webfoot.aws.jobs import event_for, is_batch, is_job, run_batch, run_job
from webfoot.aws.orders import Deadline, is_order, obey
from webfoot.aws.queries import answer_of, is_query, request_of
from webfoot.aws.runner import make_runner
from webfoot.errors import DeadlineReached, ResultTooLarge, ServerBusy
from webfoot.jobs.running import Jobs
from webfoot.server.application import Application
from webfoot.server.limits import Limits, with_limits, within
from webfoot.server.problems import Reply, problem_reply
from webfoot.server.transfer import send_reply

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from starlette.types import Message, Receive, Scope, Send

    from webfoot.aws.fronts import Front
    from webfoot.aws.invoking import Invoker
    from webfoot.jobs import Job
    from webfoot.settings import Settings

# An answer is made this much earlier than the platform would end the call, in seconds: it has yet
# to be written, and sent.
_MARGIN_S = 0.5
# What is left of a response's limit for its headers.
_HEADERS_BYTES = 16_000
# A text of this size is within every limit, however much of it JSON escapes: six bytes for one.
_SURELY_FITS = 150_000
# At the end, Lambda gives a process two seconds, or a third of one.
_CLOSING_S = 1.0
_SENDING_S = 0.2
_SCHEDULED = "aws.events"


class Context(Protocol):
    """What Lambda tells of an invocation."""

    def get_remaining_time_in_millis(self) -> int:
        """How long it may still take."""


class Handler:
    """Answers the events of one Lambda function; made once for each process.

    Lambda hands over one event at a time. Whatever a run leaves unfinished goes on when the next
    event comes: between two events the process stands still.

    Args:
        settings: How the application behaves.
    """

    def __init__(self, settings: Settings) -> None:
        self._idle = threading.Event()
        self._idle.set()
        self._loop = asyncio.new_event_loop()
        # Where Mangum looks for it.
        asyncio.set_event_loop(self._loop)
        self._deadline = Deadline()
        invoker = self._invoker = make_invoker(settings)
        runner = partial(make_runner, invoker=invoker, deadline=self._deadline)
        self._parts = parts = assemble(settings, runner)
        # Between two events nothing goes on: a job has an event of its own.
        send = None if invoker is None else partial(_send, invoker)
        self._jobs = Jobs(parts.jobs, parts.engine, settings, send)
        self._app = Application(parts, self._jobs, access_of(settings), resume_jobs=False)
        # No lifespan: Mangum would begin and end it with every event.
        self._mangum = Mangum(self._serve, lifespan="off")
        self._loop.run_until_complete(self._parts.start())

    def __call__(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Answer one event.

        Args:
            event: A request, as API Gateway, a Function URL or a load balancer hands it over; SQL;
                a run or a job that another instance hands over; messages of a queue, which ask for
                jobs; or a scheduled event, which keeps an instance warm.
            context: Lambda's own.

        Raises:
            Error: If the event is none of these.
        """
        if event.get("source") == _SCHEDULED:
            return {"warm": True}
        if is_query(event):
            return answer_of(self(request_of(event), context))
        self._deadline.ends_at = time.time() + _left_s(context) - _MARGIN_S
        self._idle.clear()
        try:
            if (work := self._work_of(event)) is not None:
                return self._loop.run_until_complete(work)
            front = front_of(event)
            response: dict[str, Any] = self._mangum(dict(event), context)  # type: ignore[arg-type]
            return _fitted(response, front.payload_bytes)
        finally:
            # Now: between two events this process stands still.
            self._app.flush()
            self._idle.set()

    async def _end(self) -> None:
        await self._jobs.close()
        await self._parts.close()
        if self._invoker is not None:
            self._invoker.close()

    def _work_of(self, event: Mapping[str, Any]) -> Coroutine[Any, Any, dict[str, Any]] | None:
        """What an event asks for that is no request; None if it is one."""
        if is_order(event):
            return obey(event, self._parts.engine, self._deadline)
        if is_job(event):
            return run_job(event, self._jobs, self._deadline)
        if is_batch(event):
            return run_batch(event, self._jobs, self._parts.engine, self._deadline)
        return None

    def close(self) -> None:
        """Cancel what runs and let go of the store; from any other thread than Lambda's.

        A call that is under way is answered first, with the news that its run was cancelled.
        """
        if self._idle.is_set():
            self._loop.run_until_complete(self._end())
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_CLOSING_S)
        self._idle.wait(_CLOSING_S)
        # Lambda's runtime has yet to send the answer, and tells nobody when it has.
        time.sleep(_SENDING_S)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request whole, or say why not, within the limits of what it came through."""
        front, limits = _limits_of(scope)
        left_s = limits.ends_at - asyncio.get_running_loop().time()
        self._deadline.ends_at = time.time() + left_s
        answer = _Answer(scope["method"])
        request = with_limits(_placed(scope, front), limits)
        # Results keep the limits themselves, in the form that their readers see: this is for pages.
        last = replace(limits, ends_at=limits.ends_at + _MARGIN_S / 2)
        try:
            await within(last, self._app(request, receive, answer.send))
            limits.check(answer.size)
        except (DeadlineReached, ResultTooLarge) as error:
            reply = problem_reply(error, debug=False)
            await send_reply(_for_method(reply, scope["method"]), send)
            return
        for message in answer.messages:
            await send(message)


async def _send(invoker: Invoker, job: Job) -> None:
    """Leave a job for the next instance that is free."""
    try:
        await invoker.send(event_for(job))
    except (Busy, Refused, Died) as error:
        raise ServerBusy(f"no instance could be told of job {job.id}: {error}; try again") from None


class _Answer:
    """A response, kept until it is whole: what is not sent can still be replaced."""

    def __init__(self, method: str) -> None:
        self._is_head = method == "HEAD"
        self.messages: list[Message] = []
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body" and self._is_head:
            message = {**message, "body": b""}  # As uvicorn does.
        self.size += len(message.get("body", b""))
        self.messages.append(message)


def _left_s(context: Context) -> float:
    return context.get_remaining_time_in_millis() / 1000


def _limits_of(scope: Scope) -> tuple[Front, Limits]:
    event, context = scope["aws.event"], scope["aws.context"]
    front = front_of(event)
    remaining_s = _left_s(context)
    patience_s = front.patience_s - _passed_s(event, front.patience_s)
    platform = front.name if patience_s < remaining_s else "Lambda"
    left_s = max(0.0, min(patience_s, remaining_s))
    return front, Limits(
        platform=platform,
        carrier="Lambda" if front.payload_bytes == LAMBDA_BYTES else front.name,
        seconds=left_s,
        ends_at=asyncio.get_running_loop().time() + left_s - _MARGIN_S,
        # In base64, four bytes are sent for three.
        most_bytes=(front.payload_bytes - _HEADERS_BYTES) // 4 * 3,
    )


def _passed_s(event: Mapping[str, Any], patience_s: float) -> float:
    """How long a client has waited already, in seconds: for this process to start, above all."""
    context = event["requestContext"]
    began_ms = context.get("timeEpoch") or context.get("requestTimeEpoch")
    if not isinstance(began_ms, int | float):
        return 0.0
    passed_s = time.time() - began_ms / 1000
    # After its patience nobody waits. A time that is much older is of another clock, or of an event
    # that somebody has kept, and tells nothing.
    return passed_s if 0 < passed_s < 2 * patience_s else 0.0


def _placed(scope: Scope, front: Front) -> Scope:
    """The request with its paths as every other server tells them."""
    raw_path = (front.prefix + front.raw_path).encode()
    placed = {"root_path": front.prefix, "path": front.path, "raw_path": raw_path}
    # Where it listens nobody knows: Mangum only has what the request says of it.
    return {**scope, **placed, "server": None}


def _for_method(reply: Reply, method: str) -> Reply:
    return Reply(reply.status, reply.headers, b"" if method == "HEAD" else reply.body)


def _fitted(response: dict[str, Any], most_bytes: int) -> dict[str, Any]:
    """The response; in base64 if it is a text that JSON would make too large."""
    body = response.get("body") or ""
    if response.get("isBase64Encoded") or len(body) <= _SURELY_FITS:
        return response
    if len(json.dumps(body)) <= most_bytes - _HEADERS_BYTES:
        return response
    encoded = base64.b64encode(body.encode()).decode()
    return {**response, "body": encoded, "isBase64Encoded": True}
