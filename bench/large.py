"""Results larger than memory: served whole and by ranges, and made batch by batch."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from bench import peers
from bench.memory import Memory
from bench.processes import UnavailableError
from bench.report import Report, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.options import Options
    from bench.peers import Peer

CHUNK = 1 << 20


def run(options: Options) -> Report:
    """Make and serve large results while watching memory."""
    report = Report(
        "large",
        "Large results",
        ("what", "seconds", "MB", "server grew by MB", "peak worker MB"),
    )
    megabytes, rows = (100, 2_000_000) if options.quick else (1000, 20_000_000)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            with peers.webfoot(Path(folder)) as server:
                serve_large(server, f"/udfs/noise.parquet?megabytes={megabytes}", report)
                make_large(server, rows, report)
        except (UnavailableError, httpx.HTTPError) as exc:
            report.notes.append(f"Webfoot: {exc or type(exc).__name__}")
    grown = [float(row[3] or 0) for row in report.rows[1:3]]
    worker = [float(row[4] or 0) for row in report.rows[3:]]
    report.targets = [
        Target("server grows by while it serves", "at most", 64, max(grown, default=None), "MB"),
        Target("peak memory of a worker", "at most", 512, max(worker, default=None), "MB"),
    ]
    return report


def serve_large(server: Peer, path: str, report: Report) -> None:
    """Store one large result, then read it whole and by ranges."""
    url = server.url + path
    with httpx.Client(timeout=900) as client:
        add(report, server, "make and store", lambda: make(client, url))
        size = int(client.head(url).headers["content-length"])
        add(report, server, "read whole", lambda: drain(client, url))
        add(report, server, "read by ranges of 1 MiB", lambda: by_ranges(client, url, size))


def make_large(server: Peer, rows: int, report: Report) -> None:
    """Run a generator of many rows under a memory limit."""
    url = f"{server.url}/udfs/streamed.parquet?rows={rows}"
    with httpx.Client(timeout=900) as client:
        add(report, server, f"{rows:,} rows, 512 MB limit", lambda: make(client, url))


def add(report: Report, server: Peer, what: str, action: Callable[[], int]) -> None:
    """Time an action, watch memory meanwhile, and add its row."""
    with Memory(server.pid, urlsplit(server.url).port or 80) as memory:
        start = time.perf_counter()
        size = action()
        seconds = time.perf_counter() - start
    report.rows.append((what, seconds, size / 1e6, memory.growth, memory.worker_peak))


def make(client: httpx.Client, url: str) -> int:
    """Have a call run and stored, asking for its last byte alone; gives the result's size."""
    answer = client.get(url, headers={"range": "bytes=-1"}).raise_for_status()
    return int(answer.headers["content-range"].rpartition("/")[2])


def drain(client: httpx.Client, url: str, wanted: str | None = None) -> int:
    """Read a URL, or a range of it, and throw it away; gives its number of bytes."""
    with client.stream("GET", url, headers={"range": wanted} if wanted else {}) as answer:
        answer.raise_for_status()
        return sum(len(chunk) for chunk in answer.iter_raw(CHUNK))


def by_ranges(client: httpx.Client, url: str, size: int) -> int:
    """Read all of a URL in ranges of a MiB."""
    return sum(
        drain(client, url, f"bytes={first}-{min(first + CHUNK, size) - 1}")
        for first in range(0, size, CHUNK)
    )
