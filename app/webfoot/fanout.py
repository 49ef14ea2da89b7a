"""Many calls of one UDF as one: what they are made from, and which inputs make none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.errors import InvalidParameters
from webfoot.results import Call, Fanout, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from webfoot.access.principal import Principal
    from webfoot.definition import Udf

# A thousand inputs take the server some hundredths of a second to read, and a megabyte to hold.
MOST_INPUTS = 10_000
# Of inputs that are wrong, so many are told; the others are counted.
_MOST_TOLD = 100


@dataclass(frozen=True)
class Inputs:
    """What a fan-out is made from.

    Args:
        arguments: For each input: gives canonical arguments, or raises why there are none.
        count: How many they are, known before any is looked at.
        names: The parameters to tell beside the rows.
        partial: Whether inputs may fail.
    """

    arguments: Iterable[Callable[[], str]]
    count: int
    names: Sequence[str]
    partial: bool


def make_fanout(udf: Udf, inputs: Inputs, audience: Principal, most: int) -> Fanout:
    """The fan-out that many inputs make.

    Args:
        udf: The UDF.
        inputs: The inputs.
        audience: For whom it is.
        most: How many there may be.

    Raises:
        InvalidParameters: If there are none, or too many; or, unless partial, if one makes no
            call: its records say which.
    """
    if not inputs.count:
        raise InvalidParameters("there are no inputs; send one or more")
    if inputs.count > most:
        raise InvalidParameters(
            f"{inputs.count} inputs are more than one request may have, which is {most}; send them"
            " in parts"
        )
    read = [_read(udf, arguments, audience) for arguments in inputs.arguments]
    wrong = [(index, item.error) for index, item in enumerate(read) if isinstance(item, Refused)]
    if wrong and not inputs.partial:
        index, first = wrong[0]
        more = f"; {len(wrong) - 1} more inputs are wrong" if len(wrong) > 1 else ""
        told = wrong[:_MOST_TOLD]
        faults = [{"index": index, **fault} for index, error in told for fault in error.errors]
        error = InvalidParameters(f"input {index}: {first.detail}{more}", errors=faults)
        error.udf = udf.name
        raise error
    asked = tuple(read), tuple(inputs.names), inputs.partial
    return Fanout(udf.name, udf.version, *asked, audience)


def _read(udf: Udf, arguments: Callable[[], str], audience: Principal) -> Call | Refused:
    try:
        return Call(udf.name, udf.version, arguments(), audience)
    except InvalidParameters as error:
        return Refused(error)
