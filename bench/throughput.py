"""Requests per second of one small stored result: Webfoot beside its peers, one process each."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench import peers
from bench.processes import UnavailableError
from bench.reads import in_turns, store
from bench.report import Chart, Report, Target

if TYPE_CHECKING:
    from bench.options import Options

CONNECTIONS = 32
SIZE = 8_000
ACCEPT = "Accept: application/parquet"
"""What ROAPI needs to answer with Parquet; it changes nothing for the others."""


def run(options: Options) -> Report:
    """Ask each server for the same bytes as fast as it answers."""
    report = Report(
        "throughput",
        f"A stored result of {SIZE / 1000:g} kB, {CONNECTIONS} connections",
        ("server", "requests/s", "of bare Starlette", "of ROAPI"),
    )
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        urls = start_all(Path(folder), stack, report)
        try:
            rates = measure(urls, options.turns(5, 2), 2 if options.quick else 5)
        except UnavailableError as exc:
            report.notes.append(str(exc))

    def beside(name: str, other: str) -> float | None:
        return rates[name] / rates[other] if {name, other} <= rates.keys() else None

    for name, rate in rates.items():
        report.rows.append((name, rate, beside(name, "bare Starlette"), beside(name, "ROAPI")))
    report.targets = [
        Target(
            "requests/s, in times of bare Starlette",
            "at least",
            0.5,
            beside("Webfoot", "bare Starlette"),
        ),
        Target("requests/s, in times of ROAPI", "at least", 2, beside("Webfoot", "ROAPI")),
    ]
    report.charts = {"throughput": Chart(list(rates), {"median": [*rates.values()]}, "requests/s")}
    return report


def start_all(folder: Path, stack: ExitStack, report: Report) -> dict[str, str]:
    """Start every server that can be started; gives the URL of the result on each."""
    parquet = folder / "readings.parquet"
    peers.write_readings(parquet, 250)
    urls = {}
    try:
        base = stack.enter_context(peers.webfoot()).url
        path, body = store(base, SIZE)
        parquet.write_bytes(body)
        urls["Webfoot"] = base + path
    except UnavailableError as exc:
        report.notes.append(f"Webfoot: {exc}")
    for name, start, path in (
        ("bare Starlette", peers.starlette, "/readings.parquet"),
        ("ROAPI", peers.roapi, "/api/tables/readings"),
        ("nginx", lambda file: peers.nginx(file.parent), "/readings.parquet"),
    ):
        try:
            urls[name] = stack.enter_context(start(parquet)).url + path
        except UnavailableError as exc:
            report.notes.append(f"{name}: {exc}")
    return urls


def measure(urls: dict[str, str], rounds: int, seconds: int) -> dict[str, float]:
    """Median requests per second of each URL, measured in turns."""
    rates: dict[str, list[float]] = {name: [] for name in urls}
    for name, url in in_turns(urls, rounds) if urls else ():
        rates[name].append(wrk(url, seconds))
    return {name: statistics.median(found) for name, found in rates.items()}


def wrk(url: str, seconds: int, *headers: str) -> float:
    """Requests per second as `wrk` counts them; every answer must be a success."""
    program = shutil.which("wrk")
    if not program:
        raise UnavailableError("wrk is not installed")
    told = [part for header in (ACCEPT, *headers) for part in ("-H", header)]
    command = [program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *told, url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        raise UnavailableError(f"{url} answered with errors")
    return float(said.partition("Requests/sec:")[2].split()[0])
