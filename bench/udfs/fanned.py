"""UDFs for fan-outs: one that computes, one that waits, and one that calls."""

import pyarrow as pa

import webfoot
from webfoot import udf

from ._work import COMPUTES_LONG_S, compute, wait


@udf
def busy(n: int, tag: str = "") -> pa.Table:  # noqa: ARG001 - it tells calls apart
    """Multiples of a number, after a millisecond of computing.

    Args:
        n: The number.
        tag: Any text, to have a call that nobody made before.
    """
    return compute(n)


@udf
def heavy(n: int) -> pa.Table:
    """Multiples of a number, after a tenth of a second of computing.

    Args:
        n: The number.
    """
    return compute(n, COMPUTES_LONG_S)


@udf
def idle(n: int, tag: str = "") -> pa.Table:  # noqa: ARG001 - it tells calls apart
    """Multiples of a number, after a tenth of a second.

    Args:
        n: The number.
        tag: Any text, to have a call that nobody made before.
    """
    return wait(n)


@udf(waits=True)
def patient(n: int, tag: str = "") -> pa.Table:  # noqa: ARG001 - it tells calls apart
    """As `idle`, whose author has told that it waits.

    Args:
        n: The number.
        tag: Any text, to have a call that nobody made before.
    """
    return wait(n)


@udf(timeout="10m")
def parent(count: int, tag: str = "") -> pa.Table:
    """What came of so many leaves.

    Args:
        count: How many calls of `busy` to make.
        tag: Any text, to have calls that nobody made before.
    """
    leaves = webfoot.map("busy", [{"n": n, "tag": tag} for n in range(count)]).arrow()
    return pa.table({"leaves": [count], "rows": [len(leaves)]})
