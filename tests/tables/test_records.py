"""A table of inputs is one record per row; an empty cell says nothing."""

from __future__ import annotations

import io
import resource

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from webfoot.tables.records import read_records

TABLE = pa.table({"n": [1, None, 3], "text": ["a", "b", None], "of": [[1], None, []]})
RECORDS = [{"n": 1, "text": "a", "of": [1]}, {"text": "b"}, {"n": 3, "of": []}]


def test_a_parquet_file_is_records_without_nulls() -> None:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    assert read_records(sink.getvalue(), 3) == RECORDS


def test_an_arrow_stream_is_records_without_nulls() -> None:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    assert read_records(sink.getvalue(), 3) == RECORDS


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1 and no more", b"a,b\n1,2", b"\xff" * 100])
def test_what_is_neither_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="it is neither Parquet nor an Arrow stream"):
        read_records(data, 10)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("rows", [4, 3_000_000])
def test_more_rows_than_are_wanted_are_refused_before_they_are_made(kind: str, rows: int) -> None:
    table, sink = pa.table({"n": pa.nulls(rows)}), io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(ValueError, match="it has more than 3 rows"):
        read_records(sink.getvalue(), 3)


KINDS = [
    *(f"a value that is said once, in {kind}" for kind in ("Arrow", "Parquet")),
    "a list of nothing, in Arrow",
    *(f"columns that are compressed, in {kind}" for kind in ("Arrow", "Parquet")),
]


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """Bodies of a few hundred bytes to a few hundred thousand that hold gigabytes, by what does."""
    once = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000, np.int32)), ["a" * 400_000])
    many = pa.ListArray.from_arrays(pa.array([0, 300_000_000], pa.int32()), pa.nulls(300_000_000))
    wide = pa.array([b"a" * 50_000_000], pa.binary())
    made = {}
    for name, table in (
        ("a value that is said once", pa.table({"text": once})),
        ("a list of nothing", pa.table({"of": many})),
        ("columns that are compressed", pa.table({f"t{n}": wide for n in range(20)})),
    ):
        sink = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        made[f"{name}, in Arrow"] = sink.getvalue()
        if name != "a list of nothing":  # To write it takes as much as to read it.
            sink = io.BytesIO()
            pq.write_table(table, sink, compression="zstd")
            made[f"{name}, in Parquet"] = sink.getvalue()
    return made


@pytest.mark.parametrize("name", KINDS)
def test_what_expands_is_refused_and_harms_nobody(name: str, bombs: dict[str, bytes]) -> None:
    data = bombs[name]
    assert len(data) < 500_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"expands to more than is read|holds more than"):
        read_records(data, 10_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "in kilobytes"
