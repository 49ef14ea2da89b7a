"""What a call would cost on AWS Lambda, reckoned from runs of it, wherever these were."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.billing import PRICES, PROCESSOR_BYTES, gb_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from webfoot.runs import Run

# What a function may be given.
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
LEAST_MIB, MOST_MIB = 128, 10_240
# Requests to a bucket for a run: its lease, its bytes and its entry are written, and the entry is
# read before and after the lease is taken. To remove the lease is free.
S3_WRITES, S3_READS = 3, 2
_MIB = 1 << 20


@dataclass(frozen=True)
class Estimate:
    """What one call would cost in a function of some memory.

    Args:
        mib: The memory, in MiB.
        billed_ms: The time of all runs that it leads to.
        usd: What these would cost, by architecture: time, requests, and a bucket.
        fits: Whether none of them had more memory.
    """

    mib: int
    billed_ms: float
    usd: Mapping[str, float]
    fits: bool


def calls_among(runs: Iterable[Run], udf: str, arguments: str | None) -> list[list[Run]]:
    """The runs of calls that brought a table, each with those of the calls that it made.

    Args:
        runs: The records.
        udf: The UDF that was called.
        arguments: With which canonical arguments; None for any.
    """
    below: dict[str | None, list[Run]] = {}
    asked = []
    for run in runs:
        below.setdefault(run.parent, []).append(run)
        if (run.kind, run.udf, run.problem) == ("call", udf, None):
            asked.append(run)
    return [list(_family(run, below)) for run in asked if arguments in (None, run.arguments)]


def _family(run: Run, below: Mapping[str | None, Sequence[Run]]) -> Iterable[Run]:
    yield run
    for child in below.get(run.id, ()):
        yield from _family(child, below)


def estimate(calls: Sequence[Sequence[Run]], mib: int) -> Estimate:
    """The mean of what calls would cost, each given by its runs.

    A processor here is taken for one there, and each run for an invocation: what is computed takes
    longer where there is less of a processor than the run used, what is waited for does not.

    Args:
        calls: One or more.
        mib: The function's memory, in MiB.
    """
    times = [[_milliseconds(run, mib * _MIB) for run in call] for call in calls]
    compute = statistics.mean(
        sum(gb_seconds(milliseconds, mib * _MIB) for milliseconds in call) for call in times
    )
    each = PRICES.request + S3_WRITES * PRICES.s3_write + S3_READS * PRICES.s3_read
    requests = statistics.mean(map(len, calls)) * each
    used = max(run.memory_bytes or 0 for call in calls for run in call)
    return Estimate(
        mib,
        statistics.mean(map(sum, times)),
        {kind: compute * price + requests for kind, price in PRICES.gb_second.items()},
        fits=used <= mib * _MIB,
    )


def _milliseconds(run: Run, memory_bytes: int) -> int:
    """What would be billed of a run in a function of so much memory."""
    seconds = run.billed_ms / 1000
    if not seconds:
        return 0
    # Of one that was killed nobody knows what it computed: all of its time, say.
    computed_s = seconds if run.cpu_s is None else run.cpu_s
    used_at_once = max(computed_s / seconds, 1.0)
    processors = min(memory_bytes / PROCESSOR_BYTES, used_at_once)
    waited_s = max(seconds - computed_s, 0.0)
    return math.ceil((waited_s + computed_s / processors) * 1000)
