"""Cold starts on Lambda: Webfoot's handler beside a bare FastAPI app under Mangum.

Each sample is a new process of the real `awslambdaric`, from its start to its first response.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from tests.aws.events import Asked, answer_of, event_of
from tests.aws.runtime_api import APP, Environment, runtime, variables

from bench.report import Chart, Report, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.options import Options

BARE = "bare FastAPI + Mangum"
HEALTH = "health"
STORED = "a stored result"
FIRST = "a first run, of rows"
LIMIT = 1.4
_BARE = """
from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()

@app.get("/healthz")
def health() -> dict[str, str]:
    return {"status": "ok"}

handler = Mangum(app, lifespan="off")
"""
_ROWS = """
from webfoot import udf

@udf(cache="1h")
def rows(n: int = 100) -> list[dict[str, int]]:
    return [{"n": i, "square": i * i} for i in range(n)]
"""


@dataclass(frozen=True)
class Side:
    """One kind of start: a handler, what it is asked, and its variables."""

    handler: str
    url: str
    given: Mapping[str, str] = field(default_factory=dict)


def run(options: Options) -> Report:
    """Time first responses of new processes, the sides in turns."""
    report = Report(
        "cold_start",
        "Cold start",
        ("start", "median ms", "least ms", "processor ms", "x bare (median of rounds)"),
    )
    samples: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="webfoot-bench-") as folder:
        sides = _sides(Path(folder))
        for number in range(options.turns(15, 5) + 1):
            for name, side in sides.items():
                taken, used = _start(side, Path(folder))
                if number:  # The first makes the byte code and fills the store.
                    samples.setdefault(name, []).append(taken)
                    processor.setdefault(name, []).append(used)
    medians = {name: statistics.median(taken) for name, taken in samples.items()}
    # Of the starts of one round: what else the machine does meanwhile slows them alike.
    times = {
        name: statistics.median(
            ours / bare for ours, bare in zip(taken, samples[BARE], strict=True)
        )
        for name, taken in samples.items()
    }
    for name, taken in samples.items():
        used = statistics.median(processor[name])
        report.rows.append((name, medians[name], min(taken), used, times[name]))
    for name in (HEALTH, STORED):
        report.targets.append(
            Target(f"{name}: times a bare app", "at most", LIMIT, times[name], "x")
        )
    report.charts = {"first response": Chart(list(medians), {"median": [*medians.values()]}, "ms")}
    return report


def _sides(folder: Path) -> dict[str, Side]:
    (folder / "bare.py").write_text(_BARE)
    for name, text in (("plain", _ROWS), ("with_pandas", f"import pandas\n{_ROWS}")):
        (folder / name).mkdir()
        (folder / name / "rows.py").write_text(text)
    path = {"PYTHONPATH": f"{folder}:{APP}"}
    kept = {**path, "WEBFOOT_FOLDER": str(folder / "plain")}
    store = {"WEBFOOT_STORE": str(folder / "store")}
    # Where nothing is, and nothing may be written: every module is compiled anew.
    source = {"PYTHONPYCACHEPREFIX": str(folder / "none"), "PYTHONDONTWRITEBYTECODE": "1"}
    ours = "webfoot.aws.handler"
    return {
        BARE: Side("bare.handler", "/healthz", path),
        HEALTH: Side(ours, "/healthz", kept),
        STORED: Side(ours, "/udfs/rows.parquet", {**kept, **store}),
        FIRST: Side(ours, "/udfs/rows.parquet", kept),
        "health, a UDF file imports pandas": Side(
            ours, "/healthz", {**path, "WEBFOOT_FOLDER": str(folder / "with_pandas")}
        ),
        f"{BARE}, without .pyc": Side("bare.handler", "/healthz", {**path, **source}),
        "health, without .pyc": Side(ours, "/healthz", {**kept, **source}),
    }


def _start(side: Side, folder: Path) -> tuple[float, float]:
    """Milliseconds from the start of a process to its first response, and those of a processor."""
    with tempfile.TemporaryDirectory(dir=folder) as temp:
        given = variables(**{"TMPDIR": temp, **side.given})
        function = Environment(runtime(side.handler), given, Path(temp))
        with closing(function):
            began = time.perf_counter()
            outcome = function.invoke(event_of("http_api", Asked("GET", side.url)))
            taken = (time.perf_counter() - began) * 1000
            if outcome.error or answer_of(outcome.json()).status != 200:
                raise RuntimeError(f"{side} did not answer: {function.printed()}")
            assert function.process is not None
            used = psutil.Process(function.process.pid).cpu_times()
    return taken, (used.user + used.system) * 1000
