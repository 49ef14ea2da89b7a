"""What records of requests cost: stored results a second with them, beside the same without."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench import peers
from bench.processes import UnavailableError
from bench.reads import in_turns, store
from bench.report import Chart, Report, Target
from bench.sides import cpu_used_s
from bench.throughput import CONNECTIONS, SIZE, wrk

if TYPE_CHECKING:
    from bench.options import Options

WITH, WITHOUT = "with records", "without"
SIDES = {WITH: {}, WITHOUT: {"WEBFOOT_REQUEST_LOG": "0"}}


def run(options: Options) -> Report:
    """Ask both servers for the same stored result as fast as they answer, in turns."""
    report = Report(
        "records",
        f"A stored result of {SIZE / 1000:g} kB, {CONNECTIONS} connections",
        ("server", "requests/s", "processor, µs a request"),
    )
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    cpu_us: dict[str, list[float]] = {name: [] for name in SIDES}
    seconds = 2 if options.quick else 5
    with ExitStack() as stack:
        servers = {name: stack.enter_context(peers.webfoot(env=env)) for name, env in SIDES.items()}
        urls = {name: peer.url + store(peer.url, SIZE)[0] for name, peer in servers.items()}
        try:
            for url in urls.values():
                wrk(url, 1)
            for name, url in in_turns(urls, options.turns(12, 3)):
                before = cpu_used_s(servers[name].pid)
                rates[name].append(wrk(url, seconds))
                used_s = cpu_used_s(servers[name].pid) - before
                cpu_us[name].append(used_s / (rates[name][-1] * seconds) * 1e6)
        except UnavailableError as exc:
            report.notes.append(str(exc))
            return report
    for name in SIDES:
        # The least: what else the machine does only adds to it.
        report.rows.append((name, statistics.median(rates[name]), min(cpu_us[name])))
    pairs = zip(rates[WITH], rates[WITHOUT], strict=True)
    ratio = statistics.median(ours / other for ours, other in pairs)
    report.targets = [Target("requests/s, in times of those without", "at least", 0.9, ratio)]
    report.notes.append(
        f"processor time with records, in times of without:"
        f" {min(cpu_us[WITH]) / min(cpu_us[WITHOUT]):.3f}"
    )
    report.charts = {
        "records": Chart(
            list(rates), {"median": [*map(statistics.median, rates.values())]}, "req/s"
        )
    }
    return report
