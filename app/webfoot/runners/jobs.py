"""What a runner runs: records that can be sent to any process.

Nothing here imports what running takes: a server that answers from its store needs none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webfoot.access.principal import EVERYBODY, Principal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from webfoot.datasets import Dataset
    from webfoot.definition import Udf
    from webfoot.registry import Registry
    from webfoot.results import Column, Query
    from webfoot.sources import Code
    from webfoot.views import View

# A query that does not end when it is interrupted, at its limit, is ended after so long.
_ENDING_S = 0.25
# So many runs of UDFs that only wait share one process.
SHARED_JOBS = 32


@dataclass(frozen=True)
class UdfJob:
    """Run a UDF and write its table.

    Args:
        udf: The UDF, as the registry gives it: with the code it is part of.
        arguments: Canonical arguments.
        timeout_s: How long it may take, in seconds.
        memory_bytes: How much memory it may use.
        asker: Who asks, for UDFs that are told.
    """

    udf: Udf
    arguments: str
    timeout_s: float
    memory_bytes: int
    asker: Principal = EVERYBODY

    @property
    def code(self) -> Code:
        """The snapshot that the UDF is part of."""
        return _code_of(self.udf)


def _code_of(udf: Udf) -> Code:
    if udf.code is None:
        raise TypeError(f"{udf.name} was not loaded by a registry; get it from one")
    return udf.code


@dataclass(frozen=True)
class ViewJob:
    """Write a view of a result; see `UdfJob` for the limits.

    Args:
        view: The view.
        source: The result's Parquet file.
        columns: The result's schema.
    """

    view: View
    source: Path
    columns: tuple[Column, ...]
    timeout_s: float
    memory_bytes: int


@dataclass(frozen=True)
class Source:
    """What came of one input of a fan-out.

    Args:
        arguments: The canonical arguments of its call; None if it made none.
        path: The Parquet file of its result; None if it failed.
        problem: Why it failed, as a problem document.
    """

    arguments: str | None
    path: Path | None = None
    problem: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StitchJob:
    """Write the results of a fan-out as one table; see `UdfJob` for the limits.

    Args:
        udf: The UDF that was called.
        sources: What came of each input, in the order of the table.
        names: The parameters that become columns.
        errors: Whether the table tells why inputs failed.
    """

    udf: Udf
    sources: tuple[Source, ...]
    names: tuple[str, ...]
    errors: bool
    timeout_s: float
    memory_bytes: int

    @property
    def code(self) -> Code:
        """The snapshot that the UDF is part of."""
        return _code_of(self.udf)


@dataclass(frozen=True)
class QueryLimits:
    """What a query may take.

    Args:
        rows: How many rows it may have.
        size: How large they may be in memory, in bytes.
        seconds: How long it may take before it is interrupted.
        memory_bytes: How much memory it may use.
    """

    rows: int
    size: int
    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class QueryJob:
    """Run a text of SQL in a sandbox, and write its rows.

    Args:
        query: The SQL, and what it may name.
        registry: The UDFs.
        lifetimes: How long results are fresh, in seconds, of those that it may call.
        lake: The datasets.
        limits: What it may take.
    """

    query: Query
    registry: Registry
    lifetimes: Mapping[str, float]
    lake: tuple[Dataset, ...]
    limits: QueryLimits

    @property
    def code(self) -> Code:
        """The snapshot that the UDFs are part of."""
        return self.registry.code

    @property
    def timeout_s(self) -> float:
        """How long it may take, in seconds, if interrupting does not end it."""
        return self.limits.seconds + _ENDING_S

    @property
    def memory_bytes(self) -> int:
        """How much memory it may use."""
        return self.limits.memory_bytes


Job = UdfJob | ViewJob | StitchJob | QueryJob
