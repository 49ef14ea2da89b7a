"""A table as an Arrow IPC stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from webfoot.files import Sink
    from webfoot.tables.conversion import Batches


def write_stream(table: Batches, file: Sink) -> int:
    """Append `table` to `file` batch by batch.

    Returns:
        How many rows it had.
    """
    rows = 0
    with pa.ipc.new_stream(pa.PythonFile(file, "w"), table.schema) as writer:
        for batch in table.stream:
            writer.write_batch(batch)
            rows += len(batch)
    return rows
