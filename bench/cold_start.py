"""Cold starts on Lambda: Webfoot's handler beside a bare FastAPI app under Mangum.

Each sample is a new process of the real `awslambdaric`, from its start to its first response. Some
sides have another one beside them, which differs in one thing only: byte code, an extension that is
in the image, bootstrap steps that wait until they are needed.
"""

from __future__ import annotations

import contextlib
import gzip
import statistics
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from tests.aws.events import Asked, answer_of, event_of
from tests.aws.runtime_api import APP, Environment, runtime, variables

from bench.report import Chart, Report, Target
from webfoot.database.extensions import bake

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.options import Options

BARE = "bare FastAPI + Mangum"
HEALTH = "health"
STORED = "a stored result"
FIRST = "a first run, of rows"
SESSION = "a first run, in a session"
LOADED = f"{SESSION}, httpfs baked"
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
    BEFORE
    return [{"n": i, "square": i * i} for i in range(n)]
"""
_STEPS = """with webfoot.session() as con:
        con.require(STEPS).execute("SELECT 1").fetchall()"""
# As without extensions in the image: DuckDB fetches one, here from this machine.
_INSTALL = """con = duckdb.connect(config={"home_directory": os.environ["TMPDIR"]})
    con.execute(f"SET custom_extension_repository = '{os.environ['BENCH_MIRROR']}'")
    con.execute("INSTALL httpfs")
    con.execute("LOAD httpfs")"""


@dataclass(frozen=True)
class Side:
    """One kind of start.

    Attributes:
        handler: What starts.
        url: What it is asked.
        given: Its variables.
        beside: The side that differs from it in one thing.
    """

    handler: str
    url: str
    given: Mapping[str, str] = field(default_factory=dict)
    beside: str | None = None


def run(options: Options) -> Report:
    """Time first responses of new processes, the sides in turns."""
    report = Report(
        "cold_start",
        "Cold start",
        ("start", "median ms", "least ms", "processor ms", "x bare", "beside", "x"),
    )
    report.notes.append("x is the median of the ratios within each round")
    samples: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="webfoot-bench-") as folder, _sides(folder) as sides:
        for number in range(options.turns(15, 5) + 1):
            for name, side in sides.items():
                taken, used = _start(side, Path(folder))
                if number:  # The first makes the byte code and fills the store.
                    samples.setdefault(name, []).append(taken)
                    processor.setdefault(name, []).append(used)
    medians = {name: statistics.median(taken) for name, taken in samples.items()}
    times = {name: _ratio(taken, samples[BARE]) for name, taken in samples.items()}
    for name, taken in samples.items():
        used = statistics.median(processor[name])
        beside = sides[name].beside
        ratio = None if beside is None else _ratio(taken, samples[beside])
        report.rows.append((name, medians[name], min(taken), used, times[name], beside, ratio))
    for name in (HEALTH, STORED):
        report.targets.append(
            Target(f"{name}: times a bare app", "at most", LIMIT, times[name], "x")
        )
    report.charts = {"first response": Chart(list(medians), {"median": [*medians.values()]}, "ms")}
    return report


def _ratio(taken: list[float], other: list[float]) -> float:
    """Of the starts of one round: what else the machine does meanwhile slows them alike."""
    return statistics.median(ours / theirs for ours, theirs in zip(taken, other, strict=True))


@contextlib.contextmanager
def _sides(temp: str) -> Iterator[dict[str, Side]]:
    """The sides by name, with the files that they need in a folder."""
    folder = Path(temp)
    (folder / "bare.py").write_text(_BARE)
    steps = _STEPS.replace("STEPS", '"httpfs", "s3"')
    udfs = {
        "plain": _udf(),
        "with_pandas": _udf(top="import pandas"),
        "session": _udf("import webfoot", _STEPS.replace("STEPS", "")),
        "loads": _udf("import webfoot", _STEPS.replace("STEPS", '"httpfs"')),
        "every_step": _udf("import webfoot", steps),
        "steps_at_start": _udf(f"import webfoot\n{steps}"),
        "installs": _udf("import os, duckdb", _INSTALL),
    }
    for name, text in udfs.items():
        (folder / name).mkdir()
        (folder / name / "rows.py").write_text(text)
    extensions = folder / "extensions"
    bake(["httpfs", "aws"], extensions)
    without = folder / "without"
    without.mkdir()
    for name in ("numpy", "pandas"):
        (without / f"{name}.py").write_text(f"raise ImportError('no {name}, as in a zip')")
    path = {"PYTHONPATH": f"{folder}:{APP}"}
    every = {**path, "WEBFOOT_EXTENSIONS": str(extensions), "AWS_ACCESS_KEY_ID": "none"}

    def ours(url: str, udfs: str, beside: str | None = None, **given: str) -> Side:
        given = {**every, "WEBFOOT_FOLDER": str(folder / udfs), **given}
        return Side("webfoot.aws.handler", url, given, beside)

    health, rows = "/healthz", "/udfs/rows.parquet"
    # Where nothing is, and nothing may be written: every module is compiled anew.
    source = {"PYTHONPYCACHEPREFIX": str(folder / "none"), "PYTHONDONTWRITEBYTECODE": "1"}
    no_numpy = {"PYTHONPATH": f"{without}:{path['PYTHONPATH']}"}
    with _mirror(extensions, folder / "mirror") as address:
        yield {
            BARE: Side("bare.handler", health, path),
            HEALTH: ours(health, "plain"),
            STORED: ours(rows, "plain", WEBFOOT_STORE=str(folder / "store")),
            FIRST: ours(rows, "plain"),
            f"{FIRST}, no pandas, as in a zip": ours(rows, "plain", FIRST, **no_numpy),
            "health, a UDF file imports pandas": ours(health, "with_pandas", HEALTH),
            f"{BARE}, without .pyc": Side("bare.handler", health, {**path, **source}, BARE),
            "health, without .pyc": ours(health, "plain", HEALTH, **source),
            SESSION: ours(rows, "session", FIRST),
            LOADED: ours(rows, "loads", SESSION),
            f"{SESSION}, httpfs installed": ours(rows, "installs", LOADED, BENCH_MIRROR=address),
            f"{SESSION}, eager steps": ours(rows, "every_step", SESSION),
            "health, eager steps at the start": ours(health, "steps_at_start", HEALTH),
        }


def _udf(top: str = "", before: str = "pass") -> str:
    return f"{top}\n{_ROWS.replace('BEFORE', before)}"


@contextlib.contextmanager
def _mirror(extensions: Path, folder: Path) -> Iterator[str]:
    """Serve extensions as DuckDB's own site does; on loopback, so the way costs nothing."""
    for path in extensions.rglob("*.duckdb_extension"):
        packed = folder / path.relative_to(extensions).with_suffix(".duckdb_extension.gz")
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(gzip.compress(path.read_bytes()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


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
