"""The first rows of a stream, up to a limit in rows and in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from webfoot.errors import QueryTooLarge
from webfoot.quantities import write_size

if TYPE_CHECKING:
    import pyarrow as pa


class Capped(Iterator["pa.RecordBatch"]):
    """Hands on batches as long as they fit.

    Args:
        batches: The batches.
        rows: How many rows are handed on at most.
        size: How many bytes, in memory; there may not be more.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], rows: int, size: int) -> None:
        self._batches = batches
        self._rows = rows
        self._size = size
        self._left = size
        # Whether there are rows that are not handed on; known at the end.
        self.more = False

    def __next__(self) -> pa.RecordBatch:
        for batch in self._batches:
            self.more = self.more or len(batch) > self._rows
            fitting = batch.slice(0, self._rows)
            self._rows -= len(fitting)
            self._left -= fitting.nbytes
            if self._left < 0:
                raise QueryTooLarge(
                    f"the rows take more than {write_size(self._size)}; ask for fewer of them, or"
                    " for fewer columns"
                )
            if len(fitting):
                return fitting
            if self.more:
                break
        raise StopIteration
