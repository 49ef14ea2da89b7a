"""Records from a table: one per row, by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARQUET_MAGIC = b"PAR1"
# Read so many at a time, and so many bytes in all: a few hundred bytes may hold millions of rows.
_ROWS_A_BATCH = 64
_MOST_BYTES = 64_000_000


def read_records(data: bytes, most: int) -> list[dict[str, Any]]:
    """The rows of a Parquet file, or of an Arrow stream, without the cells that are null.

    Args:
        data: The bytes of either.
        most: How many rows there may be.

    Raises:
        ValueError: If `data` is neither, or has more.
    """
    records: list[dict[str, Any]] = []
    read_bytes = 0
    try:
        for batch in _batches(data):
            read_bytes += batch.nbytes
            if len(records) + len(batch) > most:
                raise ValueError(f"it has more than {most} rows")
            if read_bytes > _MOST_BYTES:
                raise ValueError(f"it holds more than {_MOST_BYTES} bytes")
            records += [
                {name: value for name, value in row.items() if value is not None}
                for row in batch.to_pylist()
            ]
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"it is neither Parquet nor an Arrow stream: {error}") from error
    return records


def _batches(data: bytes) -> Iterator[pa.RecordBatch]:
    if not data.startswith(_PARQUET_MAGIC):
        with pa.ipc.open_stream(data) as stream:
            yield from stream
        return
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        yield from file.iter_batches(_ROWS_A_BATCH)
