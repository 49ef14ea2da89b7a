"""Where HEAD should begin to tell a length: one whole GET against length, ETag and ranges.

The same bytes are read in three ways (lazy, ranges, nginx) at many sizes. An experiment rather
than a promise: it settled the size below which Webfoot leaves a stored result's length out.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench import peers
from bench.proxy import proxied
from bench.reads import READS, ROW_BYTES, read_times
from bench.report import Chart, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.options import Options, PathOptions

KIB = 1024
SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 3072, 5120, 10_240, 20_480)
QUICK_SIZES = (64, 1024, 5120)
"""Parquet sizes in KiB."""
WAYS = ("lazy", "ranges", "nginx")


def write(folder: Path, kib: int) -> Path:
    """Write readings as Parquet of about `kib` KiB."""
    path, rows = folder / f"{kib}.parquet", kib * KIB // ROW_BYTES
    for _ in range(4):
        peers.write_readings(path, rows)
        rows = max(1, rows * kib * KIB // path.stat().st_size)
    return path


def run(options: Options) -> Report:
    """Read each size in each way; `--rtt-ms 0 --mbit 0` means loopback itself."""
    near = not options.rtt_ms and not options.mbit
    place = "on loopback" if near else f"behind {options.rtt_ms:g} ms and {options.mbit:g} Mbit/s"
    report = Report("head_threshold", f"HEAD without and with a length, {place}", ())
    report.columns = ["KiB", "read", *(f"{way} ms" for way in WAYS), "lazy / nginx"]
    found: dict[int, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        sizes = QUICK_SIZES if options.quick else SIZES
        files = {kib: write(Path(folder), kib) for kib in sizes}
        with places(Path(folder), None if near else options.path) as urls:
            for kib, file in files.items():
                ways = {way: f"{url}/{file.name}" for way, url in urls.items()}
                samples = read_times(ways, options.turns(7, 3), options.session)
                found[kib] = {
                    way: {read: statistics.median(taken) for read, taken in reads.items()}
                    for way, reads in samples.items()
                }
    for kib, by_way in found.items():
        for read, title in READS.items():
            ms = [by_way[way][read] for way in WAYS]
            report.rows.append((kib, title, *ms, ms[0] / ms[-1]))
    for read, title in READS.items():
        series = {way: [by_way[way][read] for by_way in found.values()] for way in WAYS}
        report.charts[title] = Chart([f"{kib} KiB" for kib in found], series, "ms", log=True)
    return report


@contextlib.contextmanager
def places(folder: Path, path: PathOptions | None) -> Iterator[dict[str, str]]:
    """Where the files of a folder are in each of the three ways, behind a path if there is one."""
    env = {"BENCH_FILES": str(folder)}
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(peers.serving("bench.apps:head_threshold", env=env)).url
        static = stack.enter_context(peers.nginx(folder)).url
        if path:
            ours = stack.enter_context(proxied(ours, **path))
            static = stack.enter_context(proxied(static, **path))
        yield dict(zip(WAYS, (f"{ours}/lazy", f"{ours}/ranges", static), strict=True))
