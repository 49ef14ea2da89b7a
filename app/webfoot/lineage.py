"""Where a call comes from: what travels with it through all the calls that it leads to."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from webfoot.errors import FanoutLimit

if TYPE_CHECKING:
    from webfoot.registry import Registry
    from webfoot.runners import Descent


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
        depth: How deep this one is; 0 for the request's own.
        parent: The run that makes it.
        path: The keys of the calls, and the fan-outs, that it is below; the nearest last.
    """

    trace: str
    budget: Budget
    registry: Registry
    most_depth: int
    timeout_s: float
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
        path = (*self.path, key)
        return replace(self, depth=self.depth + 1, parent=run or self.parent, path=path)


def new_lineage(registry: Registry, calls: int, depth: int, timeout_s: float) -> Lineage:
    """The place of a request's own call.

    Args:
        registry: The UDFs that it may lead to.
        calls: How many calls it may lead to.
        depth: How deep they may go.
        timeout_s: How long each run may take if its UDF does not say, in seconds.
    """
    return Lineage(secrets.token_hex(16), Budget(calls), registry, depth, timeout_s)


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
        depth=descent.depth,
        path=descent.path[:-1],
    )
