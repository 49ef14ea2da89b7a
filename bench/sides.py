"""The same fan-outs by several sides, in turns: what time each takes, and what processor time."""

from __future__ import annotations

import contextlib
import io
import itertools
import statistics
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from bench.fanout_peers.orders import SECONDS_HEADER, Order
from bench.processes import UnavailableError
from bench.reads import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from webfoot import Client

OURS = "Webfoot"
# With one warm-up of so many inputs, whoever starts something late has started it.
WARM_UP = 20
_numbers = itertools.count(int(time.time()))


@dataclass(frozen=True)
class Side:
    """One that carries out orders.

    Attributes:
        name: What the report calls it.
        pid: The process whose time is counted, and that of all it started.
        ask: Gives the seconds until the table was in the memory of who asked, and the table.
    """

    name: str
    pid: int
    ask: Callable[[Order], tuple[float, pa.Table]]


@dataclass(frozen=True)
class Comparison:
    """What the same fan-outs took by side: seconds, and processor seconds, of each round."""

    udf: str
    count: int
    seconds: Mapping[str, Sequence[float]]
    cpu_s: Mapping[str, Sequence[float]]

    @property
    def others(self) -> list[str]:
        """Who is beside Webfoot."""
        return [name for name in self.seconds if name != OURS]

    def median(self, side: str) -> float:
        """Seconds of one fan-out."""
        return statistics.median(self.seconds[side])

    def ratio(self, other: str) -> float:
        """Webfoot's time in times of another's: the median of the rounds' ratios."""
        pairs = zip(self.seconds[OURS], self.seconds[other], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def cpu_ms(self, side: str) -> float:
        """Milliseconds of all processors for an input."""
        return statistics.median(self.cpu_s[side]) * 1000 / self.count


def compare(sides: Sequence[Side], udf: str, count: int, rounds: int) -> Comparison:
    """Give all sides the same orders, each time with inputs that nobody had before.

    Raises:
        UnavailableError: If one cannot, or gives another table.
    """
    by_name = {side.name: side for side in sides}
    seconds: dict[str, list[float]] = defaultdict(list)
    cpu_s: dict[str, list[float]] = defaultdict(list)
    for side in sides:
        side.ask(Order(udf, min(WARM_UP, count), fresh_tag()))
    for name, _ in in_turns(dict.fromkeys(by_name, ""), rounds):
        side = by_name[name]
        before = cpu_used_s(side.pid)
        took_s, table = side.ask(Order(udf, count, fresh_tag()))
        cpu_s[name].append(cpu_used_s(side.pid) - before)
        seconds[name].append(took_s)
        if not table.drop_columns("tag").cast(expected(count).schema).equals(expected(count)):
            raise UnavailableError(f"{name} gave another table")
    return Comparison(udf, count, seconds, cpu_s)


def fresh_tag() -> str:
    """A tag that no order had before."""
    return f"t{next(_numbers)}"


def expected(count: int) -> pa.Table:
    """What every side is to give: the multiples of each number, below each other in order."""
    pairs = list(itertools.product(range(count), range(10)))
    return pa.table(
        {
            "n": [n for n, _ in pairs],
            "factor": [factor for _, factor in pairs],
            "multiple": [n * factor for n, factor in pairs],
        }
    )


def cpu_used_s(pid: int) -> float:
    """Processor time so far of a process and all it started, also of those that have ended."""
    total = 0.0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def ask_webfoot(http: httpx.Client, order: Order) -> tuple[float, pa.Table]:
    """One request, and the table read from its answer."""
    start = time.perf_counter()
    answer = http.post(f"/udfs/{order.udf}/map", json=order.inputs)
    answer.raise_for_status()
    table = pq.read_table(io.BytesIO(answer.content))
    return time.perf_counter() - start, table


def ask_client(client: Client, order: Order) -> tuple[float, pa.Table]:
    """The same by the Python client, which sends several requests."""
    start = time.perf_counter()
    table = client.map(order.udf, order.inputs, progress=False).arrow()
    return time.perf_counter() - start, table


def ask_peer(url: str, order: Order) -> tuple[float, pa.Table]:
    """One order to a way of a peer, which takes its time itself.

    Raises:
        UnavailableError: If it cannot carry it out.
    """
    answer = httpx.post(url, json=asdict(order), timeout=900)
    if answer.is_error:
        raise UnavailableError(answer.reason_phrase)
    return float(answer.headers[SECONDS_HEADER]), pq.read_table(io.BytesIO(answer.content))
