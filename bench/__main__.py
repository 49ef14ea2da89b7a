"""Run benchmarks: `python -m bench [NAME ...]`, all of them when none is named."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import TYPE_CHECKING

import duckdb
import httpx
from rich.console import Console

from bench import (
    access_log,
    cold_start,
    conformance,
    executions,
    fanout,
    first_call,
    head_threshold,
    lambda_fanout,
    large,
    loopback,
    overload,
    records,
    remote_reads,
    runaway,
    throughput,
)
from bench.options import Options
from bench.processes import ROOT, UnavailableError
from bench.report import Report, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BENCHMARKS: dict[str, Callable[[Options], Report]] = {
    "conformance": conformance.run,
    "executions": executions.run,
    "remote_reads": remote_reads.run,
    "loopback": loopback.run,
    "first_call": first_call.run,
    "throughput": throughput.run,
    "records": records.run,
    "access_log": access_log.run,
    "overload": overload.run,
    "runaway": runaway.run,
    "large": large.run,
    "cold_start": cold_start.run,
    "fanout": fanout.run,
    "lambda_fanout": lambda_fanout.run,
}
EXPERIMENTS: dict[str, Callable[[Options], Report]] = {"head_threshold": head_threshold.run}
"""Run by name only: they settle a number of the design, and hold no promise."""


def parse(arguments: Sequence[str] | None = None) -> tuple[list[str], Options]:
    """Names and options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    every = [*BENCHMARKS, *EXPERIMENTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(every))
    parser.add_argument("--quick", action="store_true", help="a short form, for development")
    parser.add_argument("--rounds", type=int, help="rounds of each comparison")
    parser.add_argument("--rtt-ms", type=float, default=40, help="round trip of the remote path")
    parser.add_argument("--mbit", type=float, default=100, help="its bandwidth; 0 for no limit")
    parser.add_argument("--slow-start", action="store_true", help="let connections begin slowly")
    parser.add_argument("--threads", type=int, help="DuckDB's threads")
    given = vars(parser.parse_args(arguments))
    names = given.pop("names")
    if unknown := set(names) - set(every):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    return names or list(BENCHMARKS), Options(**given)


def main() -> None:
    names, options = parse()
    # Ended from outside, it still unwinds, and so stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if sys.stdout.isatty() else 140)
    reports = []
    for name in names:
        console.rule(name)
        try:
            report = (BENCHMARKS | EXPERIMENTS)[name](options)
        except (UnavailableError, httpx.HTTPError, duckdb.Error) as exc:
            # One benchmark that breaks, or breaks a server, must not cost the others.
            report = Report(name, f"{name} broke off", ("error", "message"))
            report.rows.append((type(exc).__name__, str(exc)))
        report.save(ROOT / "bench" / "results")
        report.show(console)
        reports.append(report)
    if len(reports) > 1:
        console.rule("summary")
        console.print(summary(reports))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
