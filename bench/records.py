"""What it costs to ask who asks, and to record it: stored results a second with and without."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import peers
from bench.processes import UnavailableError
from bench.reads import in_turns, store
from bench.report import Chart, Report, Target
from bench.sides import cpu_used_s
from bench.throughput import CONNECTIONS, SIZE, wrk

if TYPE_CHECKING:
    from bench.options import Options

WITHOUT, RECORDS, BOTH = "neither", "records", "keys and records"


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


def run(options: Options) -> Report:
    """Ask each server for the same stored result as fast as it answers, in turns."""
    report = Report(
        "records",
        f"A stored result of {SIZE / 1000:g} kB, {CONNECTIONS} connections",
        ("server with", "requests/s", "µs of a processor", "of neither"),
    )
    seconds = 2 if options.quick else 5
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        try:
            servers = {
                WITHOUT: start(stack, WEBFOOT_REQUEST_LOG="0"),
                RECORDS: start(stack),
                BOTH: start_with_key(stack, Path(folder) / "access"),
            }
            rates, cpu_us = measure(servers, options.turns(12, 3), seconds)
        except UnavailableError as exc:
            report.notes.append(str(exc))
            return report
    least = {name: min(used) for name, used in cpu_us.items()}
    for name, found in rates.items():
        report.rows.append(
            (name, statistics.median(found), least[name], least[name] / least[WITHOUT])
        )
    pairs = zip(rates[BOTH], rates[WITHOUT], strict=True)
    ratio = statistics.median(ours / other for ours, other in pairs)
    report.targets = [
        Target("requests/s with both, in times of those with neither", "at least", 0.9, ratio)
    ]
    report.notes.append(
        "Of processor time, the least of all rounds: what else the machine does only adds to it."
    )
    medians = [statistics.median(found) for found in rates.values()]
    report.charts = {"records": Chart(list(rates), {"median": medians}, "requests/s")}
    return report


def start(stack: ExitStack, **env: str) -> Server:
    """A server that has stored the result."""
    peer = stack.enter_context(peers.webfoot(env=env))
    return Server(peer.url + store(peer.url, SIZE)[0], peer.pid)


def start_with_key(stack: ExitStack, access: Path) -> Server:
    """One that then asks for a key."""
    server = start(stack, WEBFOOT_ACCESS=str(access))
    create = [*peers.webfoot_command(), "keys", "create", "--role", "analyst"]
    made = subprocess.run(
        [*create, "--access", str(access)], check=True, capture_output=True, text=True
    )
    return Server(server.url, server.pid, (f"Authorization: Bearer {made.stdout.strip()}",))


def measure(
    servers: dict[str, Server], rounds: int, seconds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Requests per second, and microseconds of a processor for each, of every round."""
    rates: dict[str, list[float]] = {name: [] for name in servers}
    cpu_us: dict[str, list[float]] = {name: [] for name in servers}
    for server in servers.values():
        wrk(server.url, 1, *server.headers)
    for name, url in in_turns({name: server.url for name, server in servers.items()}, rounds):
        server = servers[name]
        before = cpu_used_s(server.pid)
        rate = wrk(url, seconds, *server.headers)
        rates[name].append(rate)
        cpu_us[name].append((cpu_used_s(server.pid) - before) / (rate * seconds) * 1e6)
    return rates, cpu_us
