"""One record for each request: who asked for what, where it came from, and what it took.

Parameters are not told, but the key of the call: equal keys are equal parameters of equal code.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from webfoot.journal import Journal, Segments
from webfoot.server.exchanges import has_failed
from webfoot.server.logs import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from webfoot.server.exchanges import Exchange
    from webfoot.settings import Settings

# What a record has, and of what type DuckDB finds it.
COLUMNS = {
    "timestamp": "TIMESTAMPTZ",
    "request_id": "VARCHAR",
    "trace": "VARCHAR",
    "principal": "VARCHAR",
    "tenant": "VARCHAR",
    "method": "VARCHAR",
    "route": "VARCHAR",
    "udf": "VARCHAR",
    "format": "VARCHAR",
    "key": "VARCHAR",
    "run": "VARCHAR",
    "status": "VARCHAR",
    "http_status": "SMALLINT",
    "code": "VARCHAR",
    "cache": "VARCHAR",
    "executions": "BIGINT",
    "execution_time_ms": "DOUBLE",
    "queue_ms": "DOUBLE",
    "run_ms": "DOUBLE",
    "rows": "BIGINT",
    "bytes_sent": "BIGINT",
    "runs": "BIGINT",
    "billed_ms": "BIGINT",
    "memory_used_mb": "DOUBLE",
    "agent": "VARCHAR",
}
# Who looks how the server is asks for these all day.
_UNTOLD = frozenset({"/healthz", "/readyz", "/metrics", "/alerts", "/static/{version}/{file}"})
# What many records share; the last three only if there is a result.
_ALIKE = (
    *("method", "route", "udf", "format", "key", "http_status", "code", "cache", "agent"),
    *("principal", "tenant", "run", "executions", "rows"),
)
_NO_COSTS = ',"runs":0,"billed_ms":0'
_LOG_HEAD = b'{"level":"INFO","logger":"webfoot.requests",'
_EMF_METRICS = {
    "execution_time_ms": "Milliseconds",
    "billed_ms": "Milliseconds",
    "runs": "Count",
    "bytes_sent": "Bytes",
}
_EMF = {
    "Namespace": "Webfoot",
    "Dimensions": [["route", "status"], ["udf"]],
    "Metrics": [{"Name": name, "Unit": unit} for name, unit in _EMF_METRICS.items()],
}
_EMF_HEAD = b'{"_aws":{"Timestamp":%%d,"CloudWatchMetrics":[%s]},' % json.dumps(_EMF).encode()


# When it began, its id, what it shares with others, what it cost, how long it took, and how many
# bytes were sent. It is all that is kept until the line is written, which is done for many at once:
# a line by itself costs twice as much, as the request before it has taken the caches.
Note = tuple[float, str, str, str, float, int]
_LINE = '{"timestamp":"%s.%06dZ","request_id":"%s"%s%s,"execution_time_ms":%.3f,"bytes_sent":%d}\n'


class Records:
    """The records of a server's requests.

    Args:
        folder: Where they are kept.
        settings: How much of them is, and whether they are logged.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.segments = Segments(folder, settings.request_log)
        sinks: list[Callable[[bytes], None]] = []
        if settings.request_log:
            sinks.append(self.segments.append)
        if settings.log != "text":
            sinks.append(partial(_log_lines, settings.log))
        self._journal = Journal(_lines_of, sinks) if sinks else None

    @property
    def dropped(self) -> int:
        """How many were lost."""
        return self._journal.dropped if self._journal else 0

    def add(self, exchange: Exchange) -> None:
        """Keep what is known of an exchange that is over."""
        if self._journal is not None and exchange.route not in _UNTOLD:
            self._journal.add(_note_of(exchange))

    def flush(self) -> None:
        """Write what waits to be written."""
        if self._journal is not None:
            self._journal.flush()

    def close(self) -> None:
        """Write what waits to be written, and stop."""
        if self._journal is not None:
            self._journal.close()
        self.segments.close()


def _note_of(it: Exchange) -> Note:
    """What is left of an exchange for its record."""
    tally = it.tally
    if not it.alike:
        it.alike = _alike_of(it)
    more = _costs(it) if tally.runs or it.waited_s else _NO_COSTS
    if tally.known_trace:
        more += f',"trace":"{tally.known_trace}"'
    return it.began, it.request_id, it.alike, more, it.seconds, it.sent


def _lines_of(notes: Sequence[Note]) -> str:
    """Records as lines of JSON; all in one piece, which takes half the time of line by line."""
    values: list[str | float] = []
    for began, request_id, alike, more, seconds, sent in notes:
        second = int(began)
        micros = (began - second) * 1e6
        values += (_written(second), micros, request_id, alike, more, seconds * 1000, sent)
    return (_LINE * len(notes)) % tuple(values)


def _alike_of(it: Exchange) -> str:
    who, result = it.principal, it.result
    known = (who.id, who.tenant) if who else ("", "")
    made = (result.run, result.executions, result.rows) if result else ()
    about = it.method, it.route, it.udf, it.extension, it.key
    return _alike((*about, it.status, it.code, it.cache, it.agent, *known, *made))


@lru_cache(10_000)
def _alike(values: tuple[str | int | None, ...]) -> str:
    told: dict[str, Any] = dict(zip(_ALIKE, values, strict=False))
    failed = has_failed(told["http_status"], told["code"])
    told["agent"] = without_secrets(told["agent"])
    return _members({"status": "error" if failed else "success", **told})


def _costs(it: Exchange) -> str:
    tally = it.tally
    told: dict[str, Any] = {"runs": tally.runs, "billed_ms": tally.billed_ms}
    if tally.runs:
        told["memory_used_mb"] = round(tally.memory_bytes / 1e6, 3)
    if it.result is not None:
        run_ms = it.result.seconds * 1000
        told["run_ms"] = round(run_ms, 3)
        told["queue_ms"] = round(max(it.waited_s * 1000 - run_ms, 0.0), 3)
    return _members(told)


def _members(values: Mapping[str, Any]) -> str:
    """Members of a JSON object, each with a comma before it; what is empty is left out."""
    told = [item for item in values.items() if item[1] not in ("", None)]
    return "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in told)


@lru_cache(10)
def _written(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _log_lines(kind: str, lines: bytes) -> None:
    """Write records to the standard output, as lines of a log."""
    head = _LOG_HEAD if kind == "json" else _emf_head()
    sys.stdout.buffer.write(b"".join([head + line[1:] for line in lines.splitlines(keepends=True)]))
    sys.stdout.flush()


def _emf_head() -> bytes:
    """The part of a line by which CloudWatch makes metrics of the rest.

    Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    return _EMF_HEAD % int(time.time() * 1000)
