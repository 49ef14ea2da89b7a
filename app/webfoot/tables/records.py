"""Records from a table: one per row, by column.

A body of half a kilobyte may hold gigabytes: compressed, said once for millions of rows, or nested.
No look at it tells, short of reading it. So a process reads it first that may use no more than it
should; what that has survived, this one survives.
"""

from __future__ import annotations

import os
import resource
import subprocess  # nosec B404  # what it starts is marked where it does
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARQUET_MAGIC = b"PAR1"
# Read so many at a time, and so many bytes in all.
_ROWS_A_BATCH = 64
_MOST_BYTES = 64_000_000
# What the process that reads first may use, itself and its libraries included.
_TRIAL_BYTES = 400_000_000
_TRIAL_CPU_S = 5
_TRIAL_S = 30.0
# Whose memory is the system's, which knows limits, and not taken from it in advance.
_PLAIN_MEMORY = {"ARROW_DEFAULT_MEMORY_POOL": "system"}


def read_records(data: bytes, most: int) -> list[dict[str, Any]]:
    """The rows of a Parquet file, or of an Arrow stream, without the cells that are null.

    Args:
        data: The bytes of either.
        most: How many rows there may be.

    Raises:
        ValueError: If `data` is neither, or has more, or takes too much to read.
    """
    _try(data, most)
    return _read(data, most)


def _try(data: bytes, most: int) -> None:
    """Have it read by a process that harms nobody when it ends.

    Raises:
        ValueError: If that could not.
    """
    try:
        tried = subprocess.run(  # noqa: S603  # nosec B603  # our own module
            [sys.executable, "-m", __name__, str(most)],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_PLAIN_MEMORY},
            timeout=_TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"it took longer than {_TRIAL_S:g} s to read") from None
    if tried.returncode:
        said = tried.stdout.decode(errors="replace").strip()
        raise ValueError(said or "it expands to more than is read; send plain rows, or JSON")


def _read(data: bytes, most: int) -> list[dict[str, Any]]:
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
    except MemoryError:  # Arrow's own is an error of Arrow's, too.
        raise
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


def main() -> None:
    """Read the table on standard input within limits, and say what is wrong with it."""
    limits = {
        resource.RLIMIT_DATA: _TRIAL_BYTES,
        resource.RLIMIT_CPU: _TRIAL_CPU_S,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in limits.items():
        _, hard = resource.getrlimit(what)
        kept = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (kept, kept))
    try:
        _read(sys.stdin.buffer.read(), int(sys.argv[1]))
    except MemoryError:
        sys.exit(1)
    except ValueError as error:
        sys.stdout.write(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
