"""The first rows of a stream."""

from __future__ import annotations

import pyarrow as pa
import pytest

from webfoot.errors import QueryTooLarge
from webfoot.tables.capping import Capped


def batches(*sizes: int) -> list[pa.RecordBatch]:
    return [pa.record_batch({"n": pa.array(range(size), pa.int64())}) for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "rows", "handed_on", "more"),
    [
        ((3, 3), 10, [3, 3], False),
        ((3, 3), 6, [3, 3], False),
        ((3, 3), 4, [3, 1], True),
        ((3, 3), 3, [3], True),
        ((3, 0, 0), 2, [2], True),
        ((0, 3), 3, [3], False),
        ((3,), 0, [], True),
        ((), 0, [], False),
    ],
)
def test_so_many_are_handed_on_and_whether_there_are_more(
    sizes: tuple[int, ...], rows: int, handed_on: list[int], more: bool
) -> None:
    capped = Capped(iter(batches(*sizes)), rows, 10**6)
    assert [len(batch) for batch in capped] == handed_on
    assert capped.more == more


def test_only_what_is_handed_on_counts_as_bytes() -> None:
    assert len(list(Capped(iter(batches(1000)), 10, 100))) == 1
    with pytest.raises(QueryTooLarge, match="more than 100 B"):
        list(Capped(iter(batches(10, 10)), 100, 100))
