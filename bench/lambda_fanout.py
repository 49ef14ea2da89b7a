"""A fan-out over Lambda: 60 calls of half a second in one instance, and in six.

The instances are processes of the real `awslambdaric`, each with one event at a time, behind an
Invoke API that throttles what is more than they are; results are in a bucket of moto's.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from tests.aws.fleet import fleet_of
from tests.aws.gateway import reachable
from tests.s3_server import moto_server

from bench.report import Chart, Report, Target

if TYPE_CHECKING:
    from tests.s3_server import S3Server

    from bench.options import Options

CALLS, SECONDS, INSTANCES = 60, 0.5, 6
LIMIT_S = 6.5
_UDFS = """
import time
import webfoot
from webfoot import udf

@udf
def sleeps(n: int, seconds: float, turn: int) -> list[dict[str, int]]:
    time.sleep(seconds)
    return [{"n": n}]

@udf
def fans_out(calls: int, seconds: float, turn: int) -> object:
    inputs = [{"n": n, "seconds": seconds, "turn": turn} for n in range(calls)]
    return webfoot.map("sleeps", inputs).arrow()
"""


def run(options: Options) -> Report:
    """Time fan-outs, first with cold instances and then with warm ones."""
    report = Report(
        "lambda_fanout",
        f"{CALLS} calls of {SECONDS} s over Lambda",
        ("instances", "cold s", "warm s (median)", "x one", "throttled"),
    )
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    turns = options.turns(5, 2)
    with tempfile.TemporaryDirectory(prefix="webfoot-bench-") as folder, moto_server() as s3:
        udfs = Path(folder) / "udfs"
        udfs.mkdir()
        (udfs / "sleeping.py").write_text(_UDFS)
        alone, _, _ = _time(Path(folder) / "one", s3, 1, 1)
        cold, warm, throttled = _time(Path(folder) / "six", s3, INSTANCES, turns)
    report.rows.append((1, alone, None, 1.0, 0))
    report.rows.append((INSTANCES, cold, warm, alone / (warm or cold), throttled))
    report.targets.append(Target("six warm instances", "at most", LIMIT_S, warm, "s"))
    report.charts = {"fan-out": Chart(["one", "six, cold", "six"], {"s": [alone, cold, warm]}, "s")}
    return report


def _time(
    folder: Path, s3: S3Server, instances: int, turns: int
) -> tuple[float, float | None, int]:
    """Seconds of the first fan-out, and of those after it; and how often one was throttled."""
    taken = []
    told = {
        **s3.environment,
        "WEBFOOT_STORE": str(s3.make_place()),
        "WEBFOOT_WORKERS": "1",
        "WEBFOOT_INVOCATIONS": str(50 if instances > 1 else 0),
    }
    path = f"/udfs/fans_out.parquet?calls={CALLS}&seconds={SECONDS}"
    with ExitStack() as stack:
        fleet = stack.enter_context(fleet_of(instances, folder, folder.parent / "udfs", told))
        gateway = stack.enter_context(reachable(fleet))
        for turn in range(turns + (instances > 1)):
            began = time.perf_counter()
            httpx.get(f"{gateway.url}{path}&turn={turn}", timeout=120).raise_for_status()
            taken.append(time.perf_counter() - began)
        return taken[0], statistics.median(taken[1:]) if taken[1:] else None, fleet.throttled
