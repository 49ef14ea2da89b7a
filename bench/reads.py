"""Reading stored results with DuckDB: Webfoot beside nginx with the same bytes, in turns."""

from __future__ import annotations

import contextlib
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from bench import peers
from bench.report import Cell, Chart, Report
from bench.sessions import all_columns, one_column, session, timed
from bench.tap import Tap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

READS = {"all": "all columns", "one": "one column", "repeat": "repeat in session"}
"""What a reader does: both of the first two in a fresh session, the third after the first."""
ROW_BYTES = 17
OURS, STATIC = "Webfoot", "nginx"


@dataclass(frozen=True)
class Stored:
    """One stored result, and its path on each server.

    Attributes:
        label: The size aimed at, as people say it.
        size: The size aimed at, in bytes.
        paths: Path and query by server.
    """

    label: str
    size: int
    paths: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """One kind of read of one result by server: milliseconds of each round, and requests."""

    stored: Stored
    read: str
    samples: Mapping[str, Sequence[float]]
    requests: Mapping[str, int]

    @property
    def ms(self) -> dict[str, float]:
        """Median milliseconds by server."""
        return {way: statistics.median(taken) for way, taken in self.samples.items()}

    @property
    def ratio(self) -> float:
        """Webfoot's time in times of nginx's: the median of the rounds' ratios.

        A round's two reads follow each other, so what else the machine does cancels out.
        """
        pairs = zip(self.samples[OURS], self.samples[STATIC], strict=True)
        return statistics.median(ours / static for ours, static in pairs)


def in_turns(ways: Mapping[str, str], rounds: int) -> Iterator[tuple[str, str]]:
    """Each way once a round, each round beginning with another one."""
    items = list(ways.items())
    for turn in range(rounds):
        first = turn % len(items)
        yield from items[first:] + items[:first]


def read_times(
    urls: Mapping[str, str], rounds: int, settings: Mapping[str, str | int | bool]
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of each read of each URL in each round: `{way: {read: [ms, …]}}`.

    One round more is run first and thrown away.
    """
    samples: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in urls}
    for way, url in in_turns(urls, rounds + 1):
        with session(**settings) as con:
            samples[way]["all"].append(timed(con, all_columns(url)))
            samples[way]["repeat"].append(timed(con, all_columns(url)))
        with session(**settings) as con:
            samples[way]["one"].append(timed(con, one_column(url)))
    return {way: {read: samples[way][read][1:] for read in READS} for way in urls}


def request_counts(
    base: str, path: str, settings: Mapping[str, str | int | bool]
) -> dict[str, int]:
    """Requests of each read of `base + path`: `{read: requests}`."""
    seen = {}
    with Tap(base) as tap:
        url = tap.url + path
        for queries in (
            {"all": all_columns(url), "repeat": all_columns(url)},
            {"one": one_column(url)},
        ):
            with session(**settings) as con:
                for read, query in queries.items():
                    tap.requests.clear()
                    timed(con, query)
                    seen[read] = len(tap.requests)
    return seen


def store(base: str, size: int) -> tuple[str, bytes]:
    """Make Webfoot store a result of `size` bytes or a little less; gives its path and bytes."""
    rows = max(1, size // ROW_BYTES)
    for attempt in range(5):
        path = f"/udfs/stored.parquet?rows={rows}"
        body = httpx.get(base + path, timeout=120).raise_for_status().content
        if size * 0.96 <= len(body) <= size or attempt == 4:
            break
        rows = max(1, int(rows * 0.985 * size / len(body)))
    return path, body


def size_text(size: int) -> str:
    """Bytes in kB or MB (powers of ten)."""
    return f"{size / 1e6:g} MB" if size >= 1_000_000 else f"{size / 1e3:g} kB"


@contextlib.contextmanager
def side_by_side(
    folder: Path, sizes: Sequence[int]
) -> Iterator[tuple[dict[str, str], list[Stored]]]:
    """Run Webfoot and nginx with the same results; gives their base URLs and the results."""
    with peers.webfoot(folder / "store") as ours, peers.nginx(folder) as static:
        results = []
        for size in sizes:
            path, body = store(ours.url, size)
            (folder / f"{size}.parquet").write_bytes(body)
            paths = {OURS: path, STATIC: f"/{size}.parquet"}
            results.append(Stored(size_text(size), size, paths))
        yield {OURS: ours.url, STATIC: static.url}, results


def compare(
    bases: Mapping[str, str],
    near: Mapping[str, str],
    results: Sequence[Stored],
    rounds: int,
    settings: Mapping[str, str | int | bool],
) -> Iterator[Comparison]:
    """Every read of every result.

    Args:
        bases: Base URLs at which time is taken.
        near: Base URLs at which requests are counted.
        results: What to read.
        rounds: Rounds per result.
        settings: DuckDB's settings.
    """
    for stored in results:
        counted = {
            way: request_counts(near[way], path, settings) for way, path in stored.paths.items()
        }
        urls = {way: bases[way] + path for way, path in stored.paths.items()}
        samples = read_times(urls, rounds, settings)
        for read in READS:
            yield Comparison(
                stored,
                read,
                {way: samples[way][read] for way in urls},
                {way: counted[way][read] for way in urls},
            )


def fill(report: Report, found: Sequence[Comparison]) -> Report:
    """Put comparisons into a report: one row each, one chart for each kind of read."""
    report.columns = ["size", "read", "Webfoot ms", "nginx ms", "ratio", "requests", "nginx"]
    for item in found:
        row: list[Cell] = [item.stored.label, READS[item.read]]
        row += [item.ms[OURS], item.ms[STATIC], item.ratio]
        row += [item.requests[OURS], item.requests[STATIC]]
        report.rows.append(row)
    for read, title in READS.items():
        chosen = [item for item in found if item.read == read]
        report.charts[title] = Chart(
            [item.stored.label for item in chosen],
            {way: [item.ms[way] for item in chosen] for way in (OURS, STATIC)},
            "ms",
            log=True,
        )
    return report
