"""A thousand inputs in one request: Webfoot beside a process pool, Fused, Ray and Dask."""

from __future__ import annotations

import contextlib
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from bench import peers
from bench.fanout_peers.orders import Order
from bench.memory import Memory
from bench.processes import UnavailableError
from bench.report import Chart, Report, Target
from bench.sides import OURS, Side, ask_client, ask_peer, ask_webfoot, compare, fresh_tag
from webfoot import Client, Error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.options import Options
    from bench.peers import Peer
    from bench.report import Cell
    from bench.sides import Comparison

BARE, KEPT, SDK = "process pool", "process pool, files kept", "webfoot.Client"
WORKERS = 2
WAITING = 50
PARENTS = 60
LEAVES_OF_EACH = 3
CELLS = {
    "its_s": "its s",
    "our_s": "Webfoot s",
    "ratio": "Webfoot / it",
    "its_cpu_ms": "its CPU ms\nan input",
    "our_cpu_ms": "Webfoot's",
    "grown_mb": "server grew\nby MB",
    "processes": "processes",
}
"""What rows tell, and the titles of its columns."""
KINDS = {
    "busy": "that compute 1 ms",
    "idle": "that wait 100 ms",
    "patient": "that wait 100 ms, known to",
}
"""The UDFs of `bench/udfs/fanned.py`, and what the report says of their inputs."""


@dataclass(frozen=True)
class Library:
    """What Webfoot's fan-outs are beside.

    Attributes:
        name: Its name.
        module: Where in `bench/fanout_peers` it is.
        packages: What it needs; see `peers.python_for`.
        ways: How it can fan out what computes, and what the report calls that. What waits is
            fanned out in the first way.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    ways: Mapping[str, str]


LIBRARIES = (
    Library("concurrent.futures", "process_pool", (), {"bare": BARE, "kept": KEPT}),
    Library(
        "Fused",
        "fused_submit",
        ("fused==2.9.5", "pandas", "pyarrow"),
        {"threads": "Fused, threads", "processes": "Fused, processes"},
    ),
    Library("Ray", "ray_tasks", ("ray==2.60.0", "pyarrow"), {"tasks": "Ray"}),
    Library(
        "Dask",
        "dask_futures",
        ("dask==2026.8.0", "distributed==2026.8.0", "pyarrow"),
        {"processes": "Dask, processes", "threads": "Dask, threads"},
    ),
)


def run(options: Options) -> Report:
    """Fan out over inputs that compute and inputs that wait; then let UDFs call UDFs."""
    report = Report(
        "fanout", "Fan-outs: many inputs, one table", ("inputs", "beside", *CELLS.values())
    )
    count = 200 if options.quick else 1000
    found: list[Comparison] = []
    with ExitStack() as stack:
        start = time.perf_counter()
        server = stack.enter_context(peers.webfoot(workers=WORKERS))
        start_s = time.perf_counter() - start
        http = stack.enter_context(httpx.Client(base_url=server.url, timeout=900))
        ours = Side(OURS, server.pid, partial(ask_webfoot, http))
        for library in LIBRARIES:
            with noting(library.name, report):
                python = peers.python_for(library.packages)
                start = time.perf_counter()
                with peers.fanning_out(library.module, python) as peer:
                    took = {"its_s": time.perf_counter() - start, "our_s": start_s}
                    report.rows.append(row("none, until ready", library.name, **took))
                    found += beside(ours, library, peer, count, options)
        with noting(SDK, report):
            client = stack.enter_context(Client(server.url))
            sdk = Side(SDK, server.pid, partial(ask_client, client))
            found.append(compare([ours, sdk], "busy", count, options.turns(5, 2)))
        fill(report, found)
        ask_again(http, count, options.turns(3, 1), report)
    call_from_parents(2 * count, report)
    report.notes.append(
        "A time ends when the table is in the memory of who asked; of the others, who asks is in"
        " their own process. Webfoot keeps every input's result for later calls; beside it only the"
        " pool that keeps files does."
    )
    return report


def beside(
    ours: Side, library: Library, peer: Peer, count: int, options: Options
) -> Iterator[Comparison]:
    """Webfoot and a library with inputs that compute, and with inputs that wait."""
    sides = {
        way: Side(name, peer.pid, partial(ask_peer, f"{peer.url}/{way}"))
        for way, name in library.ways.items()
    }
    waiting = replace(next(iter(sides.values())), name=library.name)
    # More where there is a promise.
    rounds = options.turns(3 if library.packages else 7, 2)
    yield compare([ours, *sides.values()], "busy", count, rounds)
    for udf in ("idle", "patient"):
        yield compare([ours, waiting], udf, WAITING, rounds)


def fill(report: Report, found: Sequence[Comparison]) -> None:
    """Put comparisons into the report: rows, targets and a chart for each kind of input."""
    ratios: dict[str, float] = {}
    for udf, kind in KINDS.items():
        compared = [(item, name) for item in found if item.udf == udf for name in item.others]
        for item, name in compared:
            cells = {
                "its_s": item.median(name),
                "our_s": item.median(OURS),
                "ratio": item.ratio(name),
                "its_cpu_ms": item.cpu_ms(name),
                "our_cpu_ms": item.cpu_ms(OURS),
            }
            report.rows.append(row(f"{item.count:,} {kind}", name, **cells))
        if udf == "busy":
            ratios = {name: item.ratio(name) for item, name in compared}
        report.charts[f"inputs {kind}"] = Chart(
            [name.replace(", ", ",\n") for _, name in compared],
            {
                "it": [item.median(name) for item, name in compared],
                OURS: [item.median(OURS) for item, _ in compared],
            },
            "seconds",
            log=True,
        )
    patient = [item.median(OURS) for item in found if item.udf == "patient"]
    report.targets += [
        Target(f"computing, in times of a {KEPT}", "at most", 1.5, ratios.get(KEPT)),
        Target(f"computing, in times of a {BARE}", "at most", 1.5, ratios.get(BARE)),
        Target(f"{WAITING} waits of 100 ms", "at most", 0.7, max(patient, default=None), "s"),
    ]


def ask_again(http: httpx.Client, count: int, rounds: int, report: Report) -> None:
    """Ask once more for the same; and the last first, so that only parts of the table are known."""
    took: dict[str, list[float]] = {"again": [], "again, the last first": []}
    for _ in range(rounds):
        order = Order("busy", count, fresh_tag())
        ask_webfoot(http, order)
        for what, asked in zip(took, (order, replace(order, down=True)), strict=True):
            took[what].append(ask_webfoot(http, asked)[0])
    for what, seconds in took.items():
        row_s = statistics.median(seconds)
        report.rows.append(row(f"{count:,} {KINDS['busy']}, {what}", our_s=row_s))


def call_from_parents(leaves: int, report: Report) -> None:
    """One UDF that calls thousands; then many at once, more than there are workers."""
    processes = finished = None
    with noting("UDFs that call UDFs", report), peers.webfoot(workers=WORKERS) as server:
        ask_parent(server, 2)
        watched = partial(Memory, server.pid, urlsplit(server.url).port or 80, every_s=0.1)
        start = time.perf_counter()
        with watched() as memory:
            ask_parent(server, leaves)
        processes = memory.most_workers
        seen = {"our_s": time.perf_counter() - start, **sizes(memory)}
        report.rows.append(row(f"{leaves:,} calls by one UDF", **seen))
        start = time.perf_counter()
        with watched() as memory, ThreadPoolExecutor(PARENTS) as threads:
            asked = [threads.submit(ask_parent, server, LEAVES_OF_EACH) for _ in range(PARENTS)]
            finished = sum(future.exception() is None for future in asked)
        seen = {"our_s": time.perf_counter() - start, **sizes(memory)}
        report.rows.append(row(f"{PARENTS} UDFs at once that call {LEAVES_OF_EACH}", **seen))
    report.targets += [
        # Two that run, one in reserve, and the one that waits.
        Target(f"processes for {leaves:,} calls by one UDF", "at most", 4, processes),
        Target(f"of {PARENTS} UDFs at once that finish", "at least", PARENTS, finished),
    ]


def sizes(memory: Memory) -> dict[str, float]:
    """What a fan-out needed, as cells of a row."""
    return {"grown_mb": memory.growth, "processes": memory.most_workers}


def ask_parent(server: Peer, leaves: int) -> None:
    """Call a UDF that calls others.

    Raises:
        UnavailableError: If it has not had all of them.
    """
    query = {"count": leaves, "tag": fresh_tag()}
    answer = httpx.get(f"{server.url}/udfs/parent.json", params=query, timeout=900)
    (told,) = answer.raise_for_status().json()
    if told["rows"] != 10 * leaves:
        raise UnavailableError(f"{leaves} leaves gave {told['rows']} rows")


def row(inputs: str, beside: str = "", **cells: float) -> Sequence[Cell]:
    """One row of the report, with those of `CELLS` that apply."""
    return (inputs, beside, *map(cells.get, CELLS))


@contextlib.contextmanager
def noting(what: str, report: Report) -> Iterator[None]:
    """Note why something cannot be measured, and go on."""
    try:
        yield
    except (UnavailableError, httpx.HTTPError, Error) as exc:
        report.notes.append(f"{what}: {exc or type(exc).__name__}")
