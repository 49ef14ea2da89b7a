"""What a line for each request costs: stored results a second with ours, uvicorn's, and none."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench import peers
from bench.processes import UnavailableError
from bench.records import Server, all_rates, least_cpu_us, measure, stored
from bench.report import Report, Target
from bench.throughput import CONNECTIONS, SIZE

if TYPE_CHECKING:
    from bench.options import Options

NONE, OURS, UVICORNS = "none", "ours", "uvicorn's"
SERVERS = 2
"""A side: of processes that do the same, some are faster by a tenth than others."""


def run(options: Options) -> Report:
    """Ask each server for the same stored result as fast as it answers, in turns."""
    report = Report(
        "access_log",
        f"A stored result of {SIZE / 1000:g} kB, {CONNECTIONS} connections",
        ("a line for each request", "requests/s", "µs of a processor", "of none"),
    )
    with ExitStack() as stack:
        sides: dict[str, list[Server]] = {NONE: [], OURS: [], UVICORNS: []}
        try:
            for _ in range(SERVERS):
                sides[NONE].append(stored(stack.enter_context(peers.webfoot())))
                sides[OURS].append(stored(stack.enter_context(peers.webfoot(access_log=True))))
                sides[UVICORNS].append(stored(stack.enter_context(peers.webfoot_in_uvicorn())))
            found = measure(sides, options.turns(8, 3), 2)
        except UnavailableError as exc:
            report.notes.append(str(exc))
            return report
    rates = {side: statistics.median(all_rates(servers)) for side, servers in found.items()}
    for side, rate in rates.items():
        report.rows.append((side, rate, least_cpu_us(found[side]), rate / rates[NONE]))
    ratio = rates[OURS] / rates[UVICORNS]
    report.targets = [
        Target("requests/s, in times of those with uvicorn's", "at least", 1.5, ratio)
    ]
    return report
