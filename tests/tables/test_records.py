"""A table of inputs is one record per row; an empty cell says nothing."""

from __future__ import annotations

import io

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
