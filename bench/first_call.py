"""What a first call costs beyond the function: Webfoot beside a plain FastAPI route."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING

import httpx

from bench import peers
from bench.processes import UnavailableError
from bench.reads import in_turns
from bench.report import Chart, Report, Target

if TYPE_CHECKING:
    from bench.options import Options

PLAIN = "naive FastAPI"


def run(options: Options) -> Report:
    """Time calls whose parameter nobody used before."""
    report = Report(
        "first_call", "First call of a small function", ("server", "median ms", "p95 ms")
    )
    samples: dict[str, list[float]] = {}
    with ExitStack() as stack:
        urls = {}
        for name, start in (("Webfoot", peers.webfoot), (PLAIN, peers.naive)):
            try:
                urls[name] = stack.enter_context(start()).url
            except UnavailableError as exc:
                report.notes.append(f"{name}: {exc}")
        samples = call_in_turns(urls, options.turns(400, 100))
    for name, taken in samples.items():
        report.rows.append((name, statistics.median(taken), statistics.quantiles(taken, n=20)[-1]))
    added = None
    if {"Webfoot", PLAIN} <= samples.keys():
        pairs = zip(samples["Webfoot"], samples[PLAIN], strict=True)
        added = statistics.median(ours - plain for ours, plain in pairs)
        report.rows.append(("added by Webfoot (median of pairs)", added, None))
    report.targets = [Target("added to a first call", "at most", 3, added, "ms")]
    report.charts = {
        "first call": Chart(
            list(samples),
            {
                "median": [statistics.median(taken) for taken in samples.values()],
                "95th percentile": [statistics.quantiles(x, n=20)[-1] for x in samples.values()],
            },
            "ms",
        )
    }
    return report


def call_in_turns(
    urls: dict[str, str], rounds: int, *, warm_up: int = 20
) -> dict[str, list[float]]:
    """Milliseconds of each call by server, over one connection each."""
    numbers = count(int(time.time()))
    samples: dict[str, list[float]] = {name: [] for name in urls}
    with ExitStack() as stack:
        clients = {url: stack.enter_context(httpx.Client(timeout=60)) for url in urls.values()}
        for name, url in in_turns(urls, rounds + warm_up) if urls else ():
            start = time.perf_counter()
            answer = clients[url].get(f"{url}/udfs/small.parquet?n={next(numbers)}")
            samples[name].append((time.perf_counter() - start) * 1000)
            answer.raise_for_status()
    return {name: taken[warm_up:] for name, taken in samples.items()}
