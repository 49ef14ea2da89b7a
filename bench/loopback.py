"""Stored results read on one machine: what Webfoot's own work costs beside nginx."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import UnavailableError
from bench.reads import compare, fill, side_by_side
from bench.report import Report, Target

if TYPE_CHECKING:
    from bench.options import Options
    from bench.reads import Comparison

SIZES = (4_000, 40_000, 200_000, 1_000_000, 5_000_000, 20_000_000)
QUICK_SIZES = (40_000, 1_000_000, 5_000_000)


def run(options: Options) -> Report:
    """Time warm reads without a path between."""
    report = Report("loopback", "Stored results on loopback", ())
    sizes = QUICK_SIZES if options.quick else SIZES
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            with side_by_side(Path(folder), sizes) as (near, results):
                found += compare(near, near, results, options.turns(31, 7), options.session)
        except UnavailableError as exc:
            report.notes.append(str(exc))
    ratios = [item.ratio for item in found]
    report.targets = [
        Target("typical read (median ratio), in times of nginx", "at most", 1.25, middle(ratios)),
        Target("worst read, in times of nginx", "at most", 1.25, max(ratios, default=None)),
    ]
    return fill(report, found)


def middle(ratios: list[float]) -> float | None:
    """The median, if there is anything to take it of."""
    return statistics.median(ratios) if ratios else None
