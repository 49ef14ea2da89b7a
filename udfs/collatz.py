"""Control flow, and a result of any length in little memory: a UDF may yield batches."""

from collections.abc import Iterator
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from webfoot import udf

STARTS_PER_BATCH = 1_000


@udf(cache="forever")
def collatz(largest: Annotated[int, Field(ge=1, le=100_000)] = 1_000) -> Iterator[pa.RecordBatch]:
    """Walks of all numbers up to `largest` down to 1, which nobody has proven always to end.

    Args:
        largest: Last number to start from.

    Yields:
        One row per step: the number `start` began with, `step` from 0, and the `value` there.
        27 takes 111 steps and climbs to 9,232.

    Source:
        Lothar Collatz, 1937; https://oeis.org/A006577 counts the steps.
    """
    for first in range(1, largest + 1, STARTS_PER_BATCH):
        rows = [
            (start, step, value)
            for start in range(first, min(first + STARTS_PER_BATCH, largest + 1))
            for step, value in enumerate(walk(start))
        ]
        yield pa.record_batch(list(zip(*rows, strict=True)), names=["start", "step", "value"])


def walk(n: int) -> Iterator[int]:
    """From `n` to 1: half of an even number, three times an odd one plus one."""
    while n != 1:
        yield n
        n = 3 * n + 1 if n % 2 else n // 2
    yield 1
