"""How often a function runs for one query: counted by the function itself."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from bench import clients, peers
from bench.processes import UnavailableError
from bench.report import Cell, Chart, Report, Target
from bench.sessions import session
from bench.udfs._data import readings

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.options import Options

ROWS = 1000
SLOW_S = 3
SESSIONS = 8
_tokens = count(1)


class Counter:
    """One server, and the file its function writes a line to at every execution."""

    def __init__(self, base: str, runs: Path) -> None:
        self.base = base
        self.runs = runs

    def url(self, seconds: float = 0) -> tuple[str, str]:
        """A token nobody used before, and the URL of its call."""
        token = f"t{next(_tokens)}"
        query = f"token={token}&rows={ROWS}&seconds={seconds:g}"
        return token, f"{self.base}/counted.parquet?{query}"

    def executions(self, token: str) -> int:
        """Executions so far of the call with a token."""
        return self.runs.read_text().splitlines().count(token) if self.runs.exists() else 0


def measure(counter: Counter, token: str, read: Callable[[], int]) -> tuple[int, Cell]:
    """Executions one read caused, and its milliseconds or the kind of its failure."""
    before, start = counter.executions(token), time.perf_counter()
    try:
        rows = read()
    except Exception as exc:  # noqa: BLE001 - every client fails in its own way
        outcome: Cell = type(exc).__name__
    else:
        took = (time.perf_counter() - start) * 1000
        outcome = took if rows % ROWS == 0 and rows else f"{rows} rows"
    return counter.executions(token) - before, outcome


def scenarios(counter: Counter) -> dict[str, tuple[int, Cell]]:
    """Every client against one server: `{client: (executions, outcome)}`."""
    found = {}
    warm_up(counter)
    token, url = counter.url()
    with session() as con:
        for name in ("DuckDB, cold", "DuckDB, again in session"):
            found[name] = measure(counter, token, lambda: clients.rows_in(con, url))
    with session() as con:
        found["DuckDB, warm, new session"] = measure(
            counter, token, lambda: clients.rows_in(con, url)
        )
    token, url = counter.url()
    with ExitStack() as stack:
        many = [stack.enter_context(session()) for _ in range(SESSIONS)]
        found[f"{SESSIONS} DuckDB at once"] = measure(
            counter, token, lambda: clients.rows_at_once(many, url)
        )
    token, url = counter.url(SLOW_S)
    with session(http_timeout=1) as con:
        found[f"DuckDB, {SLOW_S} s UDF, 1 s timeout"] = measure(
            counter, token, lambda: clients.rows_in(con, url)
        )
    # What the timed-out requests left behind must not slow the next client down.
    time.sleep(SLOW_S)
    for name, read in clients.CLIENTS.items():
        token, url = counter.url()
        found[name] = measure(counter, token, partial(read, url))
    return found


def warm_up(counter: Counter) -> None:
    """Let server and clients import what they need, so that no row pays for it."""
    for read in clients.CLIENTS.values():
        with suppress(Exception):
            read(counter.url()[1])


def run(_: Options) -> Report:
    """Count executions for each server and client."""
    report = Report("executions", "Executions of the function per query", ["client"])
    found: dict[str, dict[str, tuple[int, Cell]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        parquet = folder / "counted.parquet"
        pq.write_table(readings(ROWS), parquet, compression="zstd")
        for server, (start, prefix) in peers.FUNCTIONS.items():
            runs = folder / f"{server}.runs"
            env = {"BENCH_RUNS": str(runs), "BENCH_PARQUET": str(parquet)}
            with ExitStack() as stack:
                try:
                    base = stack.enter_context(start(env)).url + prefix
                except UnavailableError as exc:
                    report.notes.append(f"{server}: {exc}")
                    continue
                found[server] = scenarios(Counter(base, runs))
    report.notes.append("ROAPI and nginx serve files; they run no function.")
    return fill(report, found)


def fill(report: Report, found: dict[str, dict[str, tuple[int, Cell]]]) -> Report:
    """Put what was counted into the report."""
    names = list(next(iter(found.values()), {}))
    report.columns = ["client", *(f"{s}\n{what}" for s in found for what in ("runs", "ms"))]
    report.rows = [[name, *(cell for s in found for cell in found[s][name])] for name in names]
    report.charts = {
        "executions per query": Chart(
            [name.replace(", ", ",\n").replace(" at ", "\nat ") for name in names],
            {server: [found[server][name][0] for name in names] for server in found},
            "executions",
        )
    }
    ours = found.get("Webfoot", {}).values()
    failed = sum(not isinstance(outcome, float) for _, outcome in ours)
    report.targets = [
        Target(
            "most executions of a call by one query",
            "at most",
            1,
            max((runs for runs, _ in ours), default=None),
        ),
        Target("reads that fail", "at most", 0, failed if ours else None),
    ]
    return report
