"""Records from a table: one per row, by column."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_PARQUET_MAGIC = b"PAR1"


def read_records(data: bytes) -> list[dict[str, Any]]:
    """The rows of a Parquet file, or of an Arrow stream, without the cells that are null.

    Raises:
        ValueError: If `data` is neither.
    """
    try:
        if data.startswith(_PARQUET_MAGIC):
            table = pq.read_table(pa.BufferReader(data))
        else:
            table = pa.ipc.open_stream(data).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"it is neither Parquet nor an Arrow stream: {error}") from error
    return [
        {name: value for name, value in row.items() if value is not None}
        for row in table.to_pylist()
    ]
