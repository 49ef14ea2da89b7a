"""Whether requests for tables fail or take long, and memory is short, just now.

For whoever has no Prometheus: three of the alerts of `deploy/prometheus/rules.yml`, with its names
and thresholds. They are reckoned when somebody asks, from the records of requests.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from webfoot import database
from webfoot.literals import sql_text
from webfoot.server.exchanges import fault_of
from webfoot.server.records import COLUMNS
from webfoot.server.requests import TABLE_ROUTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from webfoot.server.metrics import State
    from webfoot.server.records import Records
    from webfoot.settings import Settings

Standing = Literal["ok", "firing", "unknown"]

# How far back requests count, in seconds.
WINDOW_S = 300
# What is read of the records for one answer: the latest, some 60,000.
_MOST_BYTES = 32 * 10**6
_COLUMNS = {
    name: COLUMNS[name]
    for name in ("timestamp", "method", "route", "http_status", "code", "execution_time_ms")
}
# As `webfoot.server.metrics.Asked.is_query` has it.
_IS_QUERY = f"method <> 'HEAD' AND route IN ({', '.join(map(sql_text, sorted(TABLE_ROUTES)))})"
_ENDED_MS = "(epoch_ms(timestamp) + execution_time_ms)"
_WORST_FIRST: Sequence[Standing] = ("firing", "unknown", "ok")


@dataclass(frozen=True)
class Rule:
    """What is watched.

    Args:
        name: As Prometheus calls it.
        threshold: Above this, it fires.
        unit: Of that.
        window_s: Over how long it is measured, in seconds; 0 for what is so now.
        description: What is measured.
        runbook: What to do when it fires.
    """

    name: str
    threshold: float
    unit: str
    window_s: int
    description: str
    runbook: str


FAILING = Rule(
    name="WebfootQueriesFail",
    threshold=5,
    unit="%",
    window_s=WINDOW_S,
    description="How many of the requests for tables fail. It is the server's fault, or a UDF's;"
    " what clients do wrong is not counted.",
    runbook="FROM '/_system/requests.parquet' WHERE status = 'error' tells which UDFs, and why."
    " Then FROM '/_system/runs.parquet' WHERE status = 'error', and /runs/ID for what was printed.",
)
SLOW = Rule(
    name="WebfootQueriesSlow",
    threshold=5_000,
    unit="ms",
    window_s=WINDOW_S,
    description="One in twenty requests for tables takes longer. Time in the queue counts, and so"
    " does the time in which the client reads.",
    runbook="FROM '/_system/requests.parquet' ORDER BY execution_time_ms DESC tells which. If"
    " queue_ms is high, add workers or servers (WEBFOOT_WORKERS). If cache is seldom 'hit', let"
    " results be fresh for longer (WEBFOOT_CACHE). Else a UDF is slow.",
)
# Of what as many runs as may be under way at once may use.
MEMORY_SHARE = 0.9
MEMORY = Rule(
    name="WebfootMemoryHigh",
    threshold=8_000,
    unit="MB",
    window_s=0,
    description="The memory of the processes that run UDFs; also what is above"
    f" {MEMORY_SHARE:.0%} of WEBFOOT_WORKERS times WEBFOOT_MEMORY is too much. A run beyond its"
    " limit is ended; the machine's limit may come first.",
    runbook="/_system/runs.parquet has memory_used_mb of every run. Lower WEBFOOT_WORKERS or"
    " WEBFOOT_MEMORY, or give the machine more.",
)


@dataclass(frozen=True)
class Recent:
    """Requests for tables that ended of late.

    Args:
        requests: How many.
        failed: How many of them by the server's fault, or a UDF's.
        p95_ms: In which time nineteen of twenty were over; None if there were none.
        since: When the first of them was over, in seconds since 1970; likewise.
        reason: Why nobody knows; empty if it is known.
    """

    requests: int = 0
    failed: int = 0
    p95_ms: float | None = None
    since: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Alert:
    """How it stands with a rule.

    Args:
        rule: The rule.
        value: What was measured; None if there was nothing to measure.
        reason: Why nobody knows; empty if it is known.
    """

    rule: Rule
    value: float | None
    reason: str = ""

    @property
    def standing(self) -> Standing:
        """Whether there is something to do."""
        if self.reason:
            return "unknown"
        is_above = self.value is not None and self.value > self.rule.threshold
        return "firing" if is_above else "ok"

    def plain(self) -> dict[str, Any]:
        """All of it, for JSON."""
        value = None if self.value is None else round(self.value, 3)
        told = {"state": self.standing, "reason": self.reason or None, "value": value}
        return {"name": self.rule.name, **told, **asdict(self.rule)}


def report(state: State, records: Records) -> dict[str, Any]:
    """How it stands with each rule, and with all of them, for JSON.

    Args:
        state: How the server is.
        records: Those of requests, of all servers that share the store's folder.
    """
    settings = state.settings
    recent = _recent(settings, records)
    alerts = [
        *judge_requests(recent),
        judge_memory(state.load.memory_bytes, settings.workers * settings.memory),
    ]
    return {
        "state": min((alert.standing for alert in alerts), key=_WORST_FIRST.index),
        "requests": None if recent.reason else recent.requests,
        "since": recent.since,
        "alerts": [alert.plain() for alert in alerts],
    }


def judge_requests(recent: Recent) -> list[Alert]:
    """How it stands with requests; where there were none, all is well."""
    failed = 100 * recent.failed / recent.requests if recent.requests else None
    return [Alert(FAILING, failed, recent.reason), Alert(SLOW, recent.p95_ms, recent.reason)]


def judge_memory(used_bytes: int, limit_bytes: int) -> Alert:
    """How it stands with memory.

    Args:
        used_bytes: That of the processes that run UDFs.
        limit_bytes: What as many runs as may be under way at once may use.
    """
    threshold = min(MEMORY.threshold, round(MEMORY_SHARE * limit_bytes / 1e6, 3))
    return Alert(replace(MEMORY, threshold=threshold), used_bytes / 1e6)


def _recent(settings: Settings, records: Records) -> Recent:
    if not settings.request_log:
        reason = "no records of requests are kept; set WEBFOOT_REQUEST_LOG, say to 100MB"
        return Recent(reason=reason)
    recent = read_recent(records, time.time())
    if records.dropped and not recent.requests:
        lost = f"there are no records, and {records.dropped:,} were lost; look at the store's disk"
        return replace(recent, reason=lost)
    return recent


def read_recent(records: Records, now: float) -> Recent:
    """The requests for tables that ended within `WINDOW_S`, as far back as records are read.

    Args:
        records: Those of the requests.
        now: In seconds since 1970.
    """
    records.flush()
    since = now - WINDOW_S
    # A copy: of how many bytes there are, and of segments that somebody may remove meanwhile.
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as copy, database.opened() as connection:
        records.segments.copy_latest(copy, since, _MOST_BYTES)
        copy.flush()
        lines = database.read_lines([Path(copy.name)], _COLUMNS, connection)
        rows = (
            lines.filter(f"{_IS_QUERY} AND {_ENDED_MS} >= {since * 1000}")
            .aggregate(
                f"grouping(code) AS is_whole, count(*), min({_ENDED_MS}),"
                " quantile_cont(execution_time_ms, 0.95), http_status, coalesce(code, '')",
                "GROUPING SETS ((), (http_status, code))",
            )
            .fetchall()
        )
    [(requests, first_ms, p95_ms)] = [row[1:4] for row in rows if row[0]]
    failed = sum(
        count
        for is_whole, count, _, _, status, code in rows
        if not is_whole and fault_of(status, code) == "server"
    )
    return Recent(requests, failed, p95_ms, None if first_ms is None else first_ms / 1000)
