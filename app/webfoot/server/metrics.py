"""What a server counts of its requests and runs, for whoever watches it.

Plain sums: a request costs one addition, and no library is loaded before somebody asks for them.
All of them are this process' own, and whole: it is told of every run, whichever worker makes it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from webfoot.billing import gb_seconds
from webfoot.server.requests import TABLE_ROUTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.engine import Engine
    from webfoot.lineage import Lineage
    from webfoot.runners import Load
    from webfoot.runs import Run
    from webfoot.server.exchanges import Exchange
    from webfoot.server.gate import Gate
    from webfoot.server.records import Records
    from webfoot.settings import Settings
    from webfoot.store import Holdings, Store

# The upper ends of the classes that times are sorted into, in seconds: from a stored result to a
# job; five seconds is what an alert looks at.
CLASSES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# A client may write any word as a method.
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class Asked(NamedTuple):
    """What requests are told apart by; of each there are only so many, whatever clients send.

    Args:
        method: Of the request.
        route: The template of its path; empty if it was for nothing, or refused before that.
        status: Of the answer; 0 if the client had gone.
        udf: The UDF; empty if it was about none that there is.
        extension: The format of the table.
        cache: Where the result came from.
        code: What went wrong.
    """

    method: str
    route: str
    status: int
    udf: str
    extension: str
    cache: str
    code: str

    @property
    def is_query(self) -> bool:
        """Whether it was for a table; HEAD only asks for what is known of one."""
        return self.route in TABLE_ROUTES and self.method != "HEAD"


class Ran(NamedTuple):
    """What runs are told apart by.

    Args:
        udf: The UDF.
        kind: See `webfoot.runs.Run`.
        code: What went wrong.
    """

    udf: str
    kind: str
    code: str


class Times:
    """How many things took how long.

    Attributes:
        classes: How many there were in each class of `CLASSES_S`, and beyond the last.
        seconds: All their time.
    """

    def __init__(self) -> None:
        self.classes = [0] * (len(CLASSES_S) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.classes[bisect_left(CLASSES_S, seconds)] += 1
        self.seconds += seconds

    def add_all(self, other: Times) -> None:
        """Count what another has counted."""
        self.classes = [mine + its for mine, its in zip(self.classes, other.classes, strict=True)]
        self.seconds += other.seconds

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.classes)


class Requests(Times):
    """Requests that are alike.

    Attributes:
        sent: How many bytes of body were sent.
    """

    sent = 0


class RunSums(Times):
    """Runs that are alike; their time is from when they were asked for.

    Attributes:
        waited_s: Of that, how long they waited for their turn, in seconds.
        billed_ms: Their own time.
        gb_seconds: Memory times time.
        rows: Of their results.
        bytes: Of their results.
    """

    waited_s = gb_seconds = 0.0
    billed_ms = rows = bytes = 0

    def add_run(self, run: Run) -> None:
        """Count one."""
        self.add(run.seconds)
        self.waited_s += max(run.seconds - run.billed_ms / 1000, 0.0)
        self.billed_ms += run.billed_ms
        self.gb_seconds += gb_seconds(run.billed_ms, run.memory_bytes or 0)
        self.rows += run.rows or 0
        self.bytes += run.bytes or 0


@dataclass(frozen=True)
class State:
    """How a server is, and what it has done since it started.

    Args:
        requests: Its requests.
        runs: Its runs.
        load: How busy its runner is.
        holdings: What its store keeps here.
        inside: How many requests are being answered.
        lost_records: How many records of requests were lost.
        udfs: How many UDFs there are.
        problems: With how many files or UDFs something is wrong.
        settings: What it may have.
    """

    requests: Mapping[Asked, Requests]
    runs: Mapping[Ran, RunSums]
    load: Load
    holdings: Holdings
    inside: int
    lost_records: int
    udfs: int
    problems: int
    settings: Settings


class Metrics:
    """Counts requests and runs.

    Args:
        engine: Tells of its runs.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._requests: dict[Asked, Requests] = {}
        self._runs: dict[Ran, RunSums] = {}
        engine.listen(self._add_run)

    def add(self, exchange: Exchange) -> None:
        """Count an exchange that is over."""
        it = exchange
        # A plain tuple, which is equal to one with names, and made in a third of the time.
        told = (it.method, it.route, it.status, it.udf, it.extension, it.cache or "", it.code)
        alike = self._requests.get(told)  # type: ignore[call-overload]  # so it is
        if alike is None:
            alike = self._requests.setdefault(self._bounded(Asked(*told)), Requests())
        alike.add(it.seconds)
        alike.sent += it.sent

    def state(self, store: Store, gate: Gate, records: Records, settings: Settings) -> State:
        """Everything as it is now.

        Args:
            store: The server's store.
            gate: Lets requests in.
            records: Those of the requests.
            settings: How the server behaves.
        """
        registry = self._engine.registry
        return State(
            # Copies: they are read on another thread, while new ones come.
            requests=dict(self._requests),
            runs=dict(self._runs),
            load=self._engine.load(),
            holdings=store.holdings(),
            inside=gate.inside,
            lost_records=records.dropped,
            udfs=len(registry),
            problems=len(registry.problems),
            settings=settings,
        )

    def _bounded(self, asked: Asked) -> Asked:
        """The same, without words that only a client has made up."""
        method = asked.method if asked.method in _METHODS else "other"
        udf = asked.udf if asked.udf in self._engine.registry else ""
        return asked._replace(method=method, udf=udf)

    def _add_run(self, run: Run, _: Lineage) -> None:
        ran = Ran(run.udf, run.kind, (run.problem or {}).get("code", ""))
        self._runs.setdefault(ran, RunSums()).add_run(run)
