"""What clients need of a Parquet URL, checked on Webfoot and on its peers by one suite."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from bench import peers
from bench.processes import UnavailableError
from bench.reads import store
from bench.report import Chart, Report, Target
from webfoot.conformance import CLIENTS, check

if TYPE_CHECKING:
    from bench.options import Options

SIZE = 200_000
COLUMNS = ("server", "pass", "fail", "warn", "skip", "suits")


def run(options: Options) -> Report:  # noqa: ARG001  # nothing to vary: each check is made once
    """Check every server, and say which clients it suits."""
    report = Report("conformance", "What clients need of a Parquet URL", COLUMNS)
    failures: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        for name, url in start_all(Path(folder), stack, report).items():
            with httpx.Client(timeout=30) as client:
                findings = check(url, client)
            found = [finding.outcome for finding in findings]
            failed = [finding for finding in findings if finding.outcome == "fail"]
            unmet = {client for finding in failed for client in finding.clients}
            suits = [client for client in CLIENTS if client not in unmet]
            counts = [found.count(outcome) for outcome in ("pass", "fail", "warn", "skip")]
            report.rows.append((name, *counts, ", ".join(suits) or "none"))
            failures[name] = len(failed)
    report.targets = [
        Target("checks that Webfoot fails", "at most", 0, failures.get("Webfoot")),
    ]
    report.charts = {
        "conformance": Chart(list(failures), {"checks failed": [*failures.values()]}, "checks")
    }
    return report


def start_all(folder: Path, stack: ExitStack, report: Report) -> dict[str, str]:
    """Start every server that can be started; gives the URL of one table on each."""
    urls = {}
    try:
        base = stack.enter_context(peers.webfoot()).url
        path, body = store(base, SIZE)
        (folder / "readings.parquet").write_bytes(body)
        urls["Webfoot"] = base + path
        urls["nginx, static"] = stack.enter_context(peers.nginx(folder)).url + "/readings.parquet"
    except UnavailableError as exc:
        report.notes.append(str(exc))
    naive = stack.enter_context(peers.naive()).url
    urls["naive FastAPI"] = f"{naive}/udfs/stored.parquet?rows=5000"
    return urls
