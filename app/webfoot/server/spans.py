"""Spans of requests and runs, made of what is known of them when they are over.

Nothing is passed on for it but ids that are there anyway: a run's is that of its span, what one
request has led to has one trace, and a run knows the run that has called it.
"""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

import webfoot
from webfoot.quantities import shorten
from webfoot.server.exchanges import fault_of, has_failed
from webfoot.server.logs import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from webfoot.engine import Engine
    from webfoot.lineage import Lineage, Tally
    from webfoot.runs import Run
    from webfoot.server.exchanges import Exchange

# So long an answer on Lambda, and the end of a server, wait for those who take spans.
_FLUSHING_S = 0.3
_CLOSING_S = 3.0
_MOST_TEXT = 1_000


class Origin(NamedTuple):
    """Where a request comes from.

    Args:
        context: That of its own span.
        parent: That of the span of who makes it; None if it tells of none.
    """

    context: SpanContext
    parent: SpanContext | None


class Spans:
    """Makes spans, and sends them, on a thread of its own, to where OpenTelemetry's variables say.

    Args:
        engine: Tells of its runs.
    """

    def __init__(self, engine: Engine) -> None:
        own = {"service.name": "webfoot", "service.version": webfoot.__version__}
        told = OTELResourceDetector().detect().attributes
        # Of it, only what it reads in the environment is used: spans are made without a tracer.
        provider = TracerProvider(resource=Resource.create({**own, **told}), shutdown_on_exit=False)
        self._resource, self._sampler = provider.resource, provider.sampler
        self._scope = InstrumentationScope("webfoot", webfoot.__version__)
        self._carried = {name.encode() for name in propagate.get_global_textmap().fields}
        self._processor = BatchSpanProcessor(OTLPSpanExporter())
        engine.listen(self._add_run)

    def begin(self, exchange: Exchange, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Note where a request comes from, for all that it leads to.

        Args:
            exchange: The request.
            headers: Its headers, of which W3C's `traceparent` may be one.
        """
        carrier = {n.decode(): v.decode("latin-1") for n, v in headers if n in self._carried}
        before = propagate.extract(carrier) if carrier else None
        parent = trace.get_current_span(before).get_span_context()
        tally = exchange.tally
        if parent.is_valid:
            tally.known_trace = trace.format_trace_id(parent.trace_id)
        tally.span = secrets.token_hex(8)
        flags = self._flags(tally, exchange.method, before)
        context = SpanContext(
            *(int(tally.trace, 16), int(tally.span, 16)),
            is_remote=False,
            trace_flags=flags,
            trace_state=parent.trace_state,
        )
        exchange.origin = Origin(context, parent if parent.is_valid else None)

    def add(self, exchange: Exchange) -> None:
        """Send the span of an exchange that is over."""
        origin = exchange.origin
        if origin is None or not origin.context.trace_flags.sampled:
            return
        result = exchange.result
        told: dict[str, Any] = {
            "http.request.method": exchange.method,
            "http.route": exchange.route,
            "http.response.status_code": exchange.status,
            "http.response.body.size": exchange.sent,
            "user_agent.original": without_secrets(exchange.agent),
            "error.type": exchange.code,
            "webfoot.request_id": exchange.request_id,
            "webfoot.udf": exchange.udf,
            "webfoot.format": exchange.extension,
            "webfoot.key": exchange.key,
            "webfoot.cache": exchange.cache,
            "webfoot.runs": exchange.tally.runs,
        }
        if result is not None:
            told |= {
                "webfoot.run": result.run,
                "webfoot.rows": result.rows,
                "webfoot.bytes": result.size,
                "webfoot.executions": result.executions,
            }
        ended = exchange.status, exchange.code
        # Of a server, what a client did wrong is no error.
        is_error = has_failed(*ended) and fault_of(*ended) == "server"
        self._send(
            f"{exchange.method} {exchange.route}".rstrip(),
            origin,
            (exchange.began, exchange.seconds),
            told,
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR, exchange.code) if is_error else Status(),
        )

    def flush(self) -> None:
        """Send what waits to be sent."""
        _within(_FLUSHING_S, self._processor.force_flush)

    def close(self) -> None:
        """Send what waits to be sent, and stop."""
        _within(_CLOSING_S, self._processor.shutdown)

    def _flags(self, tally: Tally, name: str, before: Context | None = None) -> TraceFlags:
        """Whether a trace is to be sent; decided once for all that is of it."""
        if tally.sampled is None:
            found = self._sampler.should_sample(before, int(tally.trace, 16), name)
            tally.sampled = found.decision is Decision.RECORD_AND_SAMPLE
        return TraceFlags(TraceFlags.SAMPLED if tally.sampled else TraceFlags.DEFAULT)

    def _add_run(self, run: Run, lineage: Lineage) -> None:
        """Send the span of a run."""
        flags = self._flags(lineage.tally, run.udf)
        if not flags.sampled:
            return
        place: dict[str, Any] = {
            "trace_id": int(run.trace, 16),
            "is_remote": False,
            "trace_flags": flags,
        }
        above = run.parent or lineage.tally.span
        told: dict[str, Any] = {
            "webfoot.udf": run.udf,
            "webfoot.run": run.id,
            "webfoot.kind": run.kind,
            "webfoot.rows": run.rows,
            "webfoot.bytes": run.bytes,
            "webfoot.billed_ms": run.billed_ms,
            "webfoot.memory_bytes": run.memory_bytes,
            "webfoot.cpu_s": run.cpu_s,
        }
        failure: dict[str, Any] = {}
        if run.problem is not None:
            code = told["error.type"] = run.problem["code"]
            detail = shorten(without_secrets(run.problem["detail"]), _MOST_TEXT)
            said = {"exception.type": code, "exception.message": detail}
            failure = {
                "status": Status(StatusCode.ERROR, detail),
                "events": (Event("exception", said, _ns(run.started + run.seconds)),),
            }
        self._send(
            f"{run.kind} {run.udf}".rstrip(),
            Origin(
                SpanContext(span_id=int(run.id, 16), **place),
                SpanContext(span_id=int(above, 16), **place) if above else None,
            ),
            (run.started, run.seconds),
            told,
            **failure,
        )

    def _send(
        self,
        name: str,
        origin: Origin,
        time: tuple[float, float],
        told: Mapping[str, AttributeValue | None],
        **others: Any,
    ) -> None:
        """Send a span.

        Args:
            name: Its name.
            origin: Its place.
            time: When it began, in seconds since 1970, and how many it took.
            told: Its attributes; those that are empty are left out.
            others: What else a span has.
        """
        began, seconds = time
        span = ReadableSpan(
            name,
            origin.context,
            origin.parent,
            self._resource,
            {key: value for key, value in told.items() if value not in ("", None)},
            start_time=_ns(began),
            end_time=_ns(began + seconds),
            instrumentation_scope=self._scope,
            **others,
        )
        self._processor.on_end(span)


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Do some work, and wait for its end for at most so long."""
    thread = threading.Thread(target=work, name="webfoot-spans", daemon=True)
    thread.start()
    thread.join(seconds)
