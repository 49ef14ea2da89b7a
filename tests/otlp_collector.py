"""What takes traces in place of a collector: OpenTelemetry's protocol over HTTP, decoded."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE_S = 20.0


@dataclass(frozen=True)
class Span:
    """A span as it was sent.

    Args:
        trace: The id of its trace.
        id: Its own.
        parent: That of the span above it; empty if there is none.
        name: Its name.
        kind: As the protocol calls it.
        attributes: What is told of it.
        service: Of what.
        failed: Whether it ended badly.
        said: Why.
        events: The attributes of its events.
        began: In nanoseconds since 1970.
        ended: Likewise.
    """

    trace: str
    id: str
    parent: str
    name: str
    kind: str
    attributes: dict[str, Any]
    service: str
    failed: bool
    said: str
    events: list[dict[str, Any]]
    began: int
    ended: int


@dataclass
class Collector:
    """Keeps what it is sent.

    Attributes:
        url: Its address.
        bodies: What came, as it came.
        headers: With what headers.
    """

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def spans(self, trace: str = "") -> list[Span]:
        """The spans so far, of one trace or of all."""
        found = [span for body in list(self.bodies) for span in _read(body)]
        return [span for span in found if not trace or span.trace == trace]

    def wait_for(self, count: int, trace: str = "") -> list[Span]:
        """The spans, as soon as there are so many."""
        patient_until = time.monotonic() + _PATIENCE_S
        while len(spans := self.spans(trace)) < count:
            assert time.monotonic() < patient_until, spans
            time.sleep(0.02)
        return spans


@contextlib.contextmanager
def collect() -> Iterator[Collector]:
    """A collector that takes spans until the end of the block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces", self.path
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _read(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _plain(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    WireSpan.SpanKind.Name(span.kind),
                    _plain(span.attributes),
                    service,
                    span.status.code == Status.STATUS_CODE_ERROR,
                    span.status.message,
                    [_plain(event.attributes) for event in span.events],
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                )


def _plain(attributes: Any) -> dict[str, Any]:
    return {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in attributes}
