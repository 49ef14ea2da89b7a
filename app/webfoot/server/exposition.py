"""What a server counts, in the words of Prometheus: `GET|HEAD /metrics`.

The names that begin with `duckdb_` are those that dashboards for DuckDB look for. Where there is
nothing to say, a label says `none`: to Prometheus, an empty one is none at all.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

import webfoot
from webfoot.billing import GIB, PRICES, architecture
from webfoot.server.exchanges import fault_of, has_failed
from webfoot.server.metrics import CLASSES_S, Times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric

    from webfoot.server.metrics import Asked, RunSums, State

_NONE = "none"
# Of those who are turned away, and would have been answered at another time, or with another key.
_REFUSALS = frozenset({"forbidden", "server-busy", "too-many-requests", "unauthorized"})
_LIMITS = [*map(str, CLASSES_S), "+Inf"]
# The values of some labels, and what is counted under them.
_Counted = tuple[tuple[str, ...], float]


def expose(state: State, accept: str) -> tuple[bytes, str]:
    """Everything as text, and its media type.

    Args:
        state: Everything.
        accept: Which form the reader understands: OpenMetrics', or that of Prometheus before.
    """
    registry = CollectorRegistry()
    registry.register(_Families(state))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Families:
    """A collector of what was counted until now."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """All families of metrics."""
        yield from _of_requests(self._state)
        yield from _of_queries(self._state)
        yield from _of_runs(self._state)
        yield from _of_places(self._state)


def _of_requests(state: State) -> Iterator[Metric]:
    requests = state.requests.items()
    yield _counter(
        "http_requests",
        "Requests that are over; the status is 0 if the client had gone.",
        ("method", "route", "status"),
        (((it.method, it.route, str(it.status)), alike.count) for it, alike in requests),
    )
    yield _histogram(
        "http_request_duration_seconds",
        "How long they took.",
        ("method", "route"),
        (((it.method, it.route), alike) for it, alike in requests),
    )
    yield _counter(
        "http_response_bytes",
        "What was sent of the bodies of answers.",
        ("route",),
        (((it.route,), alike.sent) for it, alike in requests),
    )
    yield _counter(
        "webfoot_refused_requests",
        "Requests that were turned away: without a key, beyond rights or limits, or at a full"
        " server.",
        ("code",),
        [
            # From the start: of a counter that begins with its first event, Prometheus misses that.
            *(((code,), 0) for code in sorted(_REFUSALS)),
            *(((it.code,), alike.count) for it, alike in requests if it.code in _REFUSALS),
        ],
    )
    yield _gauge("http_requests_in_progress", "Requests that are being answered.", state.inside)
    most = state.settings.requests
    yield _gauge("webfoot_requests_limit", "How many may be, before the answer is 503.", most)
    yield _counter(
        "webfoot_lost_records",
        "Records of requests that were lost.",
        (),
        [((), state.lost_records)],
    )


def _of_queries(state: State) -> Iterator[Metric]:
    queries = [(it, alike) for it, alike in state.requests.items() if it.is_query]
    yield _counter(
        "duckdb_queries",
        "Requests for tables.",
        ("udf", "format", "status"),
        (((it.udf, it.extension, _status(it)), alike.count) for it, alike in queries),
    )
    yield _histogram(
        "duckdb_query_duration_seconds",
        "How long requests for tables took.",
        ("udf",),
        (((it.udf,), alike) for it, alike in queries),
    )
    yield _counter(
        "duckdb_errors",
        "Requests for tables that failed, and whose fault it was: the client's or the server's.",
        ("udf", "code", "fault"),
        (
            ((it.udf, it.code or f"http-{it.status}", fault_of(it.status, it.code)), alike.count)
            for it, alike in queries
            if has_failed(it.status, it.code)
        ),
    )
    yield _counter(
        "webfoot_cache_results",
        "Where results came from: hit, stale, joined to a run under way, or miss.",
        ("udf", "cache"),
        (((it.udf, it.cache), alike.count) for it, alike in queries if it.cache),
    )
    load, settings = state.load, state.settings
    yield _gauge(
        "duckdb_memory_used_bytes", "The memory of the processes that run UDFs.", load.memory_bytes
    )
    yield _gauge(
        "duckdb_memory_limit_bytes",
        "The memory that as many runs as may be under way at once may use.",
        settings.workers * settings.memory,
    )


def _of_runs(state: State) -> Iterator[Metric]:
    runs = state.runs.items()
    yield _counter(
        "webfoot_runs",
        "Runs that have ended.",
        ("udf", "kind", "status"),
        (((it.udf, it.kind, "error" if it.code else "success"), s.count) for it, s in runs),
    )
    yield _counter(
        "webfoot_run_errors",
        "Runs that failed.",
        ("udf", "code"),
        (((it.udf, it.code), sums.count) for it, sums in runs if it.code),
    )
    yield _histogram(
        "webfoot_run_duration_seconds",
        "How long runs took, with the time that they waited for their turn.",
        ("udf", "kind"),
        (((it.udf, it.kind), sums) for it, sums in runs),
    )
    price = PRICES.gb_second[architecture()]
    totals: list[tuple[str, str, Callable[[RunSums], float]]] = [
        ("wait_seconds", "How long runs waited before they began.", lambda it: it.waited_s),
        ("billed_seconds", "Time of runs, as Lambda bills it.", lambda it: it.billed_ms / 1000),
        ("byte_seconds", "Memory of runs times their time.", lambda it: it.gb_seconds * GIB),
        (
            "cost_dollars",
            "What Lambda would ask for that memory and time.",
            lambda it: it.gb_seconds * price,
        ),
        ("rows", "Rows of the results of runs.", lambda it: it.rows),
        ("bytes", "Bytes of the results of runs.", lambda it: it.bytes),
    ]
    for name, text, value in totals:
        counted = (((it.udf,), value(sums)) for it, sums in runs)
        yield _counter(f"webfoot_run_{name}", text, ("udf",), counted)


def _of_places(state: State) -> Iterator[Metric]:
    """Metrics of what runs and results are in."""
    load, settings = state.load, state.settings
    gauges = {
        "runs_in_progress": ("Runs that have their turn.", load.running),
        "runs_limit": (
            "How many may have it at once; more may that only wait.",
            settings.workers,
        ),
        "runs_waiting": ("Runs that wait for their turn.", load.waiting),
        "queue_limit": ("How many may wait, before the answer is 503.", settings.queue),
        "worker_processes": ("Processes that run UDFs.", load.processes),
        "store_bytes": ("What the store keeps on this machine.", state.holdings.bytes),
        "store_limit_bytes": ("How much that may be.", settings.store_size),
        "udfs": ("UDFs that are served.", state.udfs),
        "udf_problems": ("Files and UDFs that are not served, as they are broken.", state.problems),
    }
    for name, (text, value) in gauges.items():
        yield _gauge(f"webfoot_{name}", text, value)
    yield _counter(
        "webfoot_workers_replaced",
        "Processes that had to be replaced: they crashed, were killed for what they ran, or were"
        " worn out.",
        (),
        [((), load.replaced)],
    )
    yield _counter(
        "webfoot_store_evicted_results",
        "Results that the store has removed to make room.",
        (),
        [((), state.holdings.evicted)],
    )
    info = GaugeMetricFamily("webfoot_info", "Which Webfoot this is.", labels=("version",))
    info.add_metric((webfoot.__version__,), 1)
    yield info


def _status(asked: Asked) -> str:
    return "error" if has_failed(asked.status, asked.code) else "success"


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)


def _counter(
    name: str, text: str, labels: tuple[str, ...], counted: Iterable[_Counted]
) -> CounterMetricFamily:
    """A counter; what has the same labels is added up."""
    sums: dict[tuple[str, ...], float] = {}
    for values, number in counted:
        sums[values] = sums.get(values, 0) + number
    family = CounterMetricFamily(name, text, labels=labels)
    for values, total in sums.items():
        family.add_metric(_told(values), total)
    return family


def _histogram(
    name: str,
    text: str,
    labels: tuple[str, ...],
    counted: Iterable[tuple[tuple[str, ...], Times]],
) -> HistogramMetricFamily:
    """A histogram, likewise."""
    sums: dict[tuple[str, ...], Times] = {}
    for values, times in counted:
        sums.setdefault(values, Times()).add_all(times)
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, total in sums.items():
        buckets = list(zip(_LIMITS, accumulate(total.classes), strict=True))
        family.add_metric(_told(values), buckets, total.seconds)
    return family


def _told(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value or _NONE for value in values)
