"""How long after its limit SQL stops that would never end, however it would not."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import httpx

from bench import peers
from bench.report import Report, Target

if TYPE_CHECKING:
    from bench.options import Options

LIMIT_S = 1.0
# The last two are one value each, within which DuckDB looks at no interruption: their process is
# ended.
QUERIES = {
    "scan": "SELECT count(*) FROM range(1_000_000_000_000) t(i) WHERE i % 7 = 9",
    "cross join": "SELECT count(*) FROM range(100_000) a, range(100_000) b, range(100_000) c",
    "recursion": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n)"
    " FROM r",
    "sort": "SELECT * FROM range(1_000_000_000) t(i) ORDER BY hash(i) LIMIT 9 OFFSET 900_000_000",
    "one value": "SELECT levenshtein(repeat('a', 90_000), repeat('b', 90_000))",
    "one pattern": "SELECT regexp_replace(repeat('a', 90_000_000), '(a*)*(b|c*)*d', 'x', 'g')",
}


def run(options: Options) -> Report:
    """Ask for each, several times; what counts is the time from its limit to the answer."""
    report = Report(
        "runaway",
        f"SQL without an end, limit {LIMIT_S:g} s: seconds from the limit to the answer",
        ("query", "median", "most", "answer"),
    )
    late_s: list[float] = []
    environment = {"WEBFOOT_SQL_TIMEOUT": f"{LIMIT_S:g}s"}
    with peers.webfoot(env=environment) as server, httpx.Client(timeout=60) as http:
        http.post(f"{server.url}/query", json={"query": "SELECT 1"}).raise_for_status()
        for name, sql in QUERIES.items():
            took: list[float] = []
            codes: set[str] = set()
            for turn in range(options.turns(7, 2)):
                # Each is a query of its own: how the last one failed is remembered.
                body = {"query": f"{sql} -- {turn}"}
                began = time.perf_counter()
                answer = http.post(f"{server.url}/query", json=body)
                took.append(time.perf_counter() - began - LIMIT_S)
                codes.add(answer.json().get("code", "answered"))
            # What ends by itself, or of memory, before the limit does not count.
            if codes == {"query-timeout"}:
                late_s += took
            told = ", ".join(sorted(codes))
            report.rows.append((name, statistics.median(took), max(took), told))
    report.targets = [Target("the latest", "at most", 0.5, max(late_s, default=None), "s")]
    return report
