"""One table, one Parquet file: written batch by batch, hashed as it is written."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from webfoot.errors import InvalidResult
from webfoot.files import HashedFile, Sink
from webfoot.results import Column, Draft
from webfoot.tables.columns import fit, settle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from webfoot.tables.conversion import Batches

# DuckDB's own row group size: larger ones leave its threads idle, smaller ones cost a request each.
ROWS_A_GROUP = 122_880
# Columns of many different values gain nothing from a dictionary: at pyarrow's own limit of 1 MiB a
# million random doubles took 17 % more room than plain. Real flights take the same room with both.
_DICTIONARY_BYTES = 128 << 10
# One column chunk above 2.85 GB breaks DuckDB over HTTP; this also bounds the writer's memory.
BYTES_A_GROUP = 64_000_000
# A table of so few cells, and its file of so few bytes, are written with the fastest codec: zstd
# takes as long for them as all else that is done to a call, and saves nothing that a disk keeps in
# whole blocks.
_SMALL_CELLS = 2_000
_SMALL_BYTES = 16_000
_FAST, _DENSE = "snappy", "zstd"


def write(table: Batches, path: Path) -> Draft:
    """Write `table` to `path`; see `write_parquet`."""
    with HashedFile(path) as file:
        rows, columns = write_parquet(table, file)
    return Draft(file.etag(), file.size, rows, columns)


def read_schema(path: Path, names: Sequence[str]) -> pa.Schema:
    """The schema of the columns `names` as stored in `path`."""
    stored = pq.read_schema(path)
    geo = (stored.metadata or {}).get(b"geo")
    # It describes geometry columns by name: without one of them, DuckDB could not read the file.
    complete = geo is not None and set(json.loads(geo).get("columns", ())) <= set(names)
    return pa.schema([stored.field(name) for name in names], {b"geo": geo} if complete else None)


def write_parquet(table: Batches, file: Sink) -> tuple[int, tuple[Column, ...]]:
    """Append `table` to `file`, never holding more than one row group.

    Returns:
        How many rows it had, and its schema as stored.

    Raises:
        InvalidResult: If a column cannot be kept without loss; it names the column.
        OSError: If the disk is full.
    """
    schema = settle(table.schema)
    groups = _groups(_settled(table.stream, schema), schema)
    columns = tuple(Column(field.name, str(field.type)) for field in schema)
    begun = list(itertools.islice(groups, 1))
    codec = codec_for(sum(map(len, begun)) * len(columns))
    if codec == _FAST:
        begun += itertools.islice(groups, 1)
        small = pa.BufferOutputStream()
        rows = _write_groups(begun[:1], schema, small, codec)
        if small.tell() <= _SMALL_BYTES and len(begun) <= 1:
            file.write(small.getvalue())
            return rows, columns
    everything = itertools.chain(begun, groups)
    return _write_groups(everything, schema, pa.PythonFile(file, "w"), _DENSE), columns


def codec_for(cells: int) -> str:
    """How to compress row groups of about so many cells."""
    return _FAST if cells <= _SMALL_CELLS else _DENSE


def open_writer(sink: Any, schema: pa.Schema, codec: str) -> pq.ParquetWriter:
    """A writer as every file of ours is written with."""
    return pq.ParquetWriter(
        sink, schema, compression=codec, dictionary_pagesize_limit=_DICTIONARY_BYTES
    )


def _write_groups(groups: Iterable[pa.Table], schema: pa.Schema, sink: Any, codec: str) -> int:
    rows = 0
    with open_writer(sink, schema, codec) as writer:
        for group in groups:
            try:
                writer.write_table(group, row_group_size=ROWS_A_GROUP)
            except pa.ArrowException as error:  # It names the column.
                raise InvalidResult(f"it cannot be written as Parquet: {error}") from error
            rows += len(group)
    return rows


def _settled(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for piece in _split(batch):
            yield from _halve(fit(piece, schema))


def _split(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Pieces of a bounded size, so that a cast to 32-bit offsets cannot overflow."""
    pieces = max(-(-batch.nbytes // BYTES_A_GROUP), 1)
    if pieces == 1:
        yield batch
        return
    step = max(-(-len(batch) // pieces), 1)
    for start in range(0, len(batch), step):
        yield batch.slice(start, step)


def _halve(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Pieces that fit a row group, also where few rows hold most of the bytes."""
    if batch.nbytes <= BYTES_A_GROUP:
        yield batch
        return
    middle = len(batch) // 2
    left, right = batch.slice(0, middle), batch.slice(middle)
    # Halves that share a dictionary are as large as the whole: halving them gains nothing.
    shared = (left.nbytes + right.nbytes) * 2 > batch.nbytes * 3
    if not middle or shared:
        yield batch
    else:
        yield from _halve(left)
        yield from _halve(right)


def _groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Batches gathered into row groups, each one whole.

    Groups end at the same rows however the batches were cut, so that the same table has the same
    bytes; only very wide rows, which reach the limit in bytes, may fall differently.
    """
    gathered: list[pa.RecordBatch] = []
    rows = held = 0
    for batch in batches:
        rest = batch
        while len(rest):
            part = rest.slice(0, ROWS_A_GROUP - rows)
            if gathered and held + part.nbytes > BYTES_A_GROUP:
                yield _group(gathered, schema)
                gathered, rows, held = [], 0, 0
                part = rest.slice(0, ROWS_A_GROUP)
            gathered.append(part)
            rows, held = rows + len(part), held + part.nbytes
            rest = rest.slice(len(part))
            if rows == ROWS_A_GROUP:
                yield _group(gathered, schema)
                gathered, rows, held = [], 0, 0
    if gathered:
        yield _group(gathered, schema)


def _group(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    # In one piece: the writer's pages end where its input's pieces do.
    return pa.Table.from_batches(batches, schema).combine_chunks()
