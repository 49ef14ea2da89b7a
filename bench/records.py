"""What it costs to ask who asks, and to record it: stored results a second with and without."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from bench import peers
from bench.processes import UnavailableError
from bench.reads import store
from bench.report import Chart, Report, Target
from bench.sides import cpu_used_s
from bench.throughput import CONNECTIONS, SIZE, wrk

if TYPE_CHECKING:
    from bench.options import Options
    from bench.peers import Peer

WITHOUT, RECORDS, BOTH = "neither", "records", "keys and records"
PROCESSES = 3
"""Servers a side: of processes that do the same, some are faster by a tenth than others."""


@dataclass(frozen=True)
class Server:
    """One that runs.

    Attributes:
        url: The stored result on it.
        pid: Its process.
        headers: What it has to be told.
    """

    url: str
    pid: int
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What one server did in each round.

    Attributes:
        rates: Requests per second.
        cpu_us: Microseconds of a processor for each request.
    """

    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


def run(options: Options) -> Report:
    """Ask each server for the same stored result as fast as it answers, in turns."""
    report = Report(
        "records",
        f"A stored result of {SIZE / 1000:g} kB, {CONNECTIONS} connections",
        ("server with", "requests/s", "µs of a processor", "of neither"),
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        sides: dict[str, list[Server]] = {WITHOUT: [], RECORDS: [], BOTH: []}
        try:
            for number in range(PROCESSES):
                sides[WITHOUT].append(start(stack, WEBFOOT_REQUEST_LOG="0"))
                sides[RECORDS].append(start(stack))
                sides[BOTH].append(start_with_key(stack, Path(folder) / f"access{number}"))
            found = measure(sides, options.turns(12, 3), 2 if options.quick else 3)
        except UnavailableError as exc:
            report.notes.append(str(exc))
            return report
    rates = {side: all_rates(measured) for side, measured in found.items()}
    medians = {side: statistics.median(each) for side, each in rates.items()}
    cpu_us = {side: least_cpu_us(measured) for side, measured in found.items()}
    for side, rate in medians.items():
        report.rows.append((side, rate, cpu_us[side], cpu_us[side] / cpu_us[WITHOUT]))
    # Each with the one beside it: what else the machine does changes from minute to minute.
    pairs = zip(rates[BOTH], rates[WITHOUT], strict=True)
    ratio = statistics.median(ours / other for ours, other in pairs)
    report.targets = [
        Target("requests/s with both, in times of those with neither", "at least", 0.9, ratio)
    ]
    report.notes.append(
        f"{PROCESSES} servers a side. Of processor time, the least of all rounds of each, and the"
        " median of them: what else the machine does only adds to it."
    )
    report.charts = {"records": Chart(list(medians), {"median": [*medians.values()]}, "requests/s")}
    return report


def all_rates(servers: list[Measured]) -> list[float]:
    """What all servers of a side did, in requests per second."""
    return [rate for each in servers for rate in each.rates]


def least_cpu_us(servers: list[Measured]) -> float:
    """Microseconds of a processor for a request of a side: of each server's best round."""
    return statistics.median([min(each.cpu_us) for each in servers])


def stored(peer: Peer) -> Server:
    """A server, once it has stored the result."""
    return Server(peer.url + store(peer.url, SIZE)[0], peer.pid)


def start(stack: ExitStack, **env: str) -> Server:
    """A server that has stored the result."""
    return stored(stack.enter_context(peers.webfoot(env=env)))


def start_with_key(stack: ExitStack, access: Path) -> Server:
    """One that then asks for a key."""
    server = start(stack, WEBFOOT_ACCESS=str(access))
    create = [*peers.webfoot_command(), "keys", "create", "--role", "analyst"]
    made = subprocess.run(
        [*create, "--access", str(access)], check=True, capture_output=True, text=True
    )
    return Server(server.url, server.pid, (f"Authorization: Bearer {made.stdout.strip()}",))


def measure(sides: dict[str, list[Server]], rounds: int, seconds: int) -> dict[str, list[Measured]]:
    """What each server of each side did, asked in turns."""
    found = {side: [Measured() for _ in servers] for side, servers in sides.items()}
    for server in (server for servers in sides.values() for server in servers):
        wrk(server.url, 1, *server.headers)
    for _, number in product(range(rounds), range(min(map(len, found.values())))):
        # Back and forth, so that no side is always the first.
        order = list(sides) if number % 2 else list(reversed(sides))
        for side in order:
            server, measured = sides[side][number], found[side][number]
            before = cpu_used_s(server.pid)
            rate = wrk(server.url, seconds, *server.headers)
            measured.rates.append(rate)
            measured.cpu_us.append((cpu_used_s(server.pid) - before) / (rate * seconds) * 1e6)
    return found
