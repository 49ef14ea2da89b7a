"""Where a call comes from: what travels with it through all the calls that it leads to."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from webfoot.billing import gb_seconds
from webfoot.errors import FanoutLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.registry import Registry
    from webfoot.runners import Descent
    from webfoot.runs import Run


class Budget:
    """How many calls one request may still lead to: shared by all of them.

    Args:
        calls: How many.
    """

    def __init__(self, calls: int) -> None:
        self._most = self.left = calls

    @property
    def spent(self) -> int:
        """How many have been made."""
        return self._most - self.left

    def take(self, calls: int) -> None:
        """Spend some.

        Raises:
            FanoutLimit: If that is more than is left.
        """
        if calls > self.left:
            raise FanoutLimit(
                f"{calls} more calls after {self.spent} would be more than one request may lead to,"
                f" which is {self._most}; make fewer, or raise WEBFOOT_CALLS"
            )
        self.left -= calls

    def count(self, calls: int) -> None:
        """Note that so many were made elsewhere, where nobody could ask."""
        self.left = max(0, self.left - calls)


class Tally:
    """What all runs have cost that one request has led to: each adds its own.

    Attributes:
        known_trace: The id of them all; empty until it is asked for.
        runs: How many they are.
        billed_ms: Their time.
        gb_seconds: Their memory times their time.
        memory_bytes: The most that one of them had.
    """

    known_trace = ""
    runs = billed_ms = memory_bytes = 0
    gb_seconds = 0.0

    @property
    def trace(self) -> str:
        """The id of them all, made by chance if none is known."""
        self.known_trace = self.known_trace or secrets.token_hex(16)
        return self.known_trace

    def add_all(self, other: Mapping[str, float]) -> None:
        """Add what the runs have cost that another process made; see `sums`."""
        self.runs += int(other["runs"])
        self.billed_ms += int(other["billed_ms"])
        self.gb_seconds += other["gb_seconds"]
        self.memory_bytes = max(self.memory_bytes, int(other["memory_bytes"]))

    def sums(self) -> dict[str, float]:
        """What all of them have cost, for another process."""
        return {
            "runs": self.runs,
            "billed_ms": self.billed_ms,
            "gb_seconds": self.gb_seconds,
            "memory_bytes": self.memory_bytes,
        }

    def add(self, run: Run) -> None:
        """Add what a run has cost."""
        self.runs += 1
        self.billed_ms += run.billed_ms
        self.gb_seconds += gb_seconds(run.billed_ms, run.memory_bytes or 0)
        self.memory_bytes = max(self.memory_bytes, run.memory_bytes or 0)


@dataclass(frozen=True)
class Lineage:
    """A call's place among the calls that one request led to.

    What is left of a run's time needs no place here: a run that ends, ends the calls that it waits
    for.

    Args:
        trace: The id of them all.
        budget: How many more there may be.
        registry: The UDFs that they may call: those of the code as it was when the request came.
        most_depth: How deep they may go.
        timeout_s: How long each run may take if its UDF does not say, in seconds.
        tally: What they have cost.
        linger_s: How long its run goes on when nobody waits for it any more, in seconds.
        depth: How deep this one is; 0 for the request's own.
        parent: The run that makes it.
        path: The keys of the calls, and the fan-outs, that it is below; the nearest last.
    """

    trace: str
    budget: Budget
    registry: Registry
    most_depth: int
    timeout_s: float
    tally: Tally
    linger_s: float = 0.0
    depth: int = 0
    parent: str | None = None
    path: tuple[str, ...] = ()

    @property
    def key(self) -> str | None:
        """The key of what makes it; None if a request does."""
        return self.path[-1] if self.path else None

    def below(self, key: str, run: str | None = None) -> Lineage:
        """The place of calls that the call `key` makes, in the run `run` if it is one.

        Raises:
            FanoutLimit: If that is too deep.
        """
        if self.depth >= self.most_depth:
            raise FanoutLimit(
                f"UDFs call UDFs more than {self.most_depth} deep, which looks like a recursion"
                " without an end; make it end, or raise WEBFOOT_DEPTH"
            )
        return replace(
            self,
            linger_s=0.0,
            depth=self.depth + 1,
            parent=run or self.parent,
            path=(*self.path, key),
        )


def new_lineage(
    registry: Registry, calls: int, depth: int, timeout_s: float, tally: Tally | None = None
) -> Lineage:
    """The place of a request's own call.

    Args:
        registry: The UDFs that it may lead to.
        calls: How many calls it may lead to.
        depth: How deep they may go.
        timeout_s: How long each run may take if its UDF does not say, in seconds.
        tally: Where what they cost is added up.
    """
    tally = tally or Tally()
    return Lineage(tally.trace, Budget(calls), registry, depth, timeout_s, tally)


def lineage_of(descent: Descent, registry: Registry, depth: int) -> Lineage:
    """The lineage of a run that another process has handed over.

    Args:
        descent: What that process tells of it.
        registry: The UDFs that it may lead to.
        depth: How deep calls may go.
    """
    return Lineage(
        trace=descent.trace,
        budget=Budget(descent.calls),
        registry=registry,
        most_depth=depth,
        timeout_s=descent.timeout_s,
        tally=Tally(),
        depth=descent.depth,
        path=descent.path[:-1],
    )
