"""Calls that runs make, wherever they run: what is asked, and what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from webfoot.errors import Error
from webfoot.outcomes import Outcome
from webfoot.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from webfoot.registry import Registry
    from webfoot.runners import Answered


def write_inputs(
    registry: Registry | None, name: str, inputs: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The canonical arguments of calls of the UDF `name`.

    Raises:
        UdfNotFound: If there is no such UDF.
        InvalidParameters: If an input is no call of it.
    """
    assert registry is not None, "a runner is told its registry before it runs UDFs"
    udf = registry.find(name)
    try:
        return [udf.parameters.from_values(given) for given in inputs]
    except Error as error:
        error.udf = name
        raise


def read_answered(answered: Answered, inputs: Sequence[Mapping[str, Any]]) -> Outcome:
    """What came of a call, with its table in memory."""
    given = inputs[answered.index]
    if answered.path is None:
        error = Error.from_problem(answered.problem or {})
        return Outcome(answered.index, given, error=error)
    return Outcome(answered.index, given, Table.from_parquet(answered.path))
