"""Stored results read from afar: Webfoot beside nginx serving the same bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import UnavailableError
from bench.proxy import proxied
from bench.reads import OURS, STATIC, compare, fill, side_by_side
from bench.report import Report, Target

if TYPE_CHECKING:
    from bench.options import Options
    from bench.reads import Comparison

SIZES = (4_000, 40_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 20_000_000)
QUICK_SIZES = (40_000, 1_000_000, 5_000_000)
MB = 1_000_000


def run(options: Options) -> Report:
    """Time reads behind a round trip and a bandwidth."""
    bandwidth = f"{options.mbit:g} Mbit/s" if options.mbit else "no bandwidth limit"
    start = ", slow start" if options.slow_start else ""
    title = f"Stored results behind {options.rtt_ms:g} ms and {bandwidth}{start}"
    report = Report("remote_reads", title, ())
    sizes = QUICK_SIZES if options.quick else SIZES
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            with (
                side_by_side(Path(folder), sizes) as (near, results),
                proxied(near[OURS], **options.path) as ours,
                proxied(near[STATIC], **options.path) as static,
            ):
                bases = {OURS: ours, STATIC: static}
                found += compare(bases, near, results, options.turns(15, 3), options.session)
        except UnavailableError as exc:
            report.notes.append(str(exc))
    report.targets = targets(found)
    return fill(report, found)


def targets(found: list[Comparison]) -> list[Target]:
    """What reads from afar should cost beside nginx."""
    first = [item for item in found if item.read == "all" and 40_000 <= item.stored.size <= MB]
    large = [item for item in found if item.stored.size > MB]
    return [
        Target(
            "worst first read of all columns, 40 kB to 1 MB, in times of nginx",
            "at most",
            0.7,
            max((item.ratio for item in first), default=None),
        ),
        Target(
            "worst of the three reads above 1 MB, in times of nginx",
            "at most",
            1.05,
            max((item.ratio for item in large), default=None),
        ),
    ]
