"""One table, one Parquet file: written batch by batch, hashed as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from webfoot.errors import InvalidResult
from webfoot.files import HashedFile, Sink
from webfoot.results import Column, Draft
from webfoot.tables.columns import settle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from webfoot.tables.conversion import Batches

# DuckDB's own row group size: larger ones leave its threads idle, smaller ones cost a request each.
ROWS_A_GROUP = 122_880
# One column chunk above 2.85 GB breaks DuckDB over HTTP; this also bounds the writer's memory.
BYTES_A_GROUP = 64_000_000


def write(table: Batches, path: Path) -> Draft:
    """Write `table` to `path`; see `write_parquet`."""
    with HashedFile(path) as file:
        rows, columns = write_parquet(table, file)
    return Draft(file.etag(), file.size, rows, columns)


def write_parquet(table: Batches, file: Sink) -> tuple[int, tuple[Column, ...]]:
    """Append `table` to `file`, never holding more than one row group.

    Returns:
        How many rows it had, and its schema as stored.

    Raises:
        InvalidResult: If a column cannot be kept without loss; it names the column.
        OSError: If the disk is full.
    """
    schema = settle(table.schema)
    rows = 0
    with pq.ParquetWriter(pa.PythonFile(file, "w"), schema, compression="zstd") as writer:
        for group in _groups(_settled(table.stream, schema), schema):
            writer.write_table(group, row_group_size=ROWS_A_GROUP)
            rows += len(group)
    return rows, tuple(Column(field.name, str(field.type)) for field in schema)


def _settled(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for piece in _split(batch):
            yield _settle_batch(piece, schema)


def _split(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Pieces that fit a row group, so that a cast to 32-bit offsets cannot overflow either."""
    pieces = max(-(-len(batch) // ROWS_A_GROUP), -(-batch.nbytes // BYTES_A_GROUP), 1)
    step = max(-(-len(batch) // pieces), 1)
    for start in range(0, len(batch), step):
        yield batch.slice(start, step)


def _settle_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        try:
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidResult(
                f"column {field.name!r} cannot be kept as {field.type}: {error}"
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Batches gathered into row groups."""
    gathered: list[pa.RecordBatch] = []
    rows = held = 0
    for batch in batches:
        if gathered and (rows + len(batch) > ROWS_A_GROUP or held + batch.nbytes > BYTES_A_GROUP):
            yield pa.Table.from_batches(gathered, schema)
            gathered, rows, held = [], 0, 0
        gathered.append(batch)
        rows, held = rows + len(batch), held + batch.nbytes
    if gathered:
        yield pa.Table.from_batches(gathered, schema)
