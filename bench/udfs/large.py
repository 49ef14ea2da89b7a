"""UDFs whose results do not fit the memory they may use."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from webfoot import udf

from ._data import readings

COLUMNS = 8
BATCH_ROWS = 100_000


@udf(cache="1d", timeout=900, memory="512MB")
def noise(megabytes: int = 1000) -> Iterator[pa.RecordBatch]:
    """Random numbers, which do not compress: a result of a known size.

    Args:
        megabytes: Size of the result in MB.
    """
    rng = np.random.default_rng(7)
    for _ in range(max(1, megabytes * 1_000_000 // (BATCH_ROWS * COLUMNS * 8))):
        values = rng.random((COLUMNS, BATCH_ROWS))
        yield pa.RecordBatch.from_arrays(
            [pa.array(column) for column in values], [f"x{place}" for place in range(COLUMNS)]
        )


@udf(cache="1d", timeout=900, memory="512MB")
def streamed(rows: int = 20_000_000) -> Iterator[pa.RecordBatch]:
    """Sensor readings, made batch by batch.

    Args:
        rows: Number of rows, rounded to whole batches of 100,000.
    """
    for first in range(0, rows, BATCH_ROWS):
        yield from readings(BATCH_ROWS, first=first).to_batches()
