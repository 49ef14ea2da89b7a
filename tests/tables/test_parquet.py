"""The one file that a result is: its row groups, its compression and its statistics."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from webfoot.errors import InvalidResult
from webfoot.results import Column
from webfoot.tables import parquet
from webfoot.tables.conversion import Batches, to_batches
from webfoot.tables.parquet import BYTES_A_GROUP, ROWS_A_GROUP, read_schema, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def numbers(rows: int) -> pa.Table:
    return pa.table({"n": np.arange(rows), "text": pa.array(np.arange(rows) % 7).cast(pa.string())})


def groups(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]


def test_a_draft_tells_what_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    draft = write(to_batches(numbers(3)), path)
    assert draft.etag == hashlib.sha256(path.read_bytes()).hexdigest()
    assert draft.size == path.stat().st_size
    assert draft.rows == 3
    assert draft.columns == (Column("n", "int64"), Column("text", "string"))


@pytest.mark.parametrize(("rows", "codec"), [(1000, "SNAPPY"), (1001, "ZSTD")])
def test_columns_are_zstd_those_of_small_tables_snappy_with_statistics(
    tmp_path: Path, rows: int, codec: str
) -> None:
    path = tmp_path / "x.parquet"
    write(to_batches(numbers(rows)), path)
    group = pq.read_metadata(path).row_group(0)
    for column in (group.column(0), group.column(1)):
        assert column.compression == codec
        assert column.statistics.has_min_max
        assert column.statistics.null_count == 0
    assert (group.column(0).statistics.min, group.column(0).statistics.max) == (0, rows - 1)


def test_few_rows_that_take_much_are_zstd(tmp_path: Path) -> None:
    table = wide_texts(1000)
    write(to_batches(table), tmp_path / "x.parquet")
    assert pq.read_metadata(tmp_path / "x.parquet").row_group(0).column(0).compression == "ZSTD"
    assert pq.read_table(tmp_path / "x.parquet").equals(table)


def test_few_rows_that_fill_several_groups_are_all_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BYTES_A_GROUP", 1000)
    table = pa.table({"text": ["x" * 400] * 10})  # So alike that they take little.
    assert write(to_batches(table), tmp_path / "x.parquet").rows == 10
    assert len(groups(tmp_path / "x.parquet")) > 1
    assert pq.read_table(tmp_path / "x.parquet").equals(table)


@pytest.mark.parametrize("rows", [0, 1, ROWS_A_GROUP - 1, ROWS_A_GROUP, ROWS_A_GROUP + 1, 300_000])
def test_row_groups_are_full_but_for_the_last(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write(to_batches(numbers(rows)), path)
    full, rest = divmod(rows, ROWS_A_GROUP)
    assert groups(path) == [ROWS_A_GROUP] * full + [rest] * bool(rest)
    assert pq.read_table(path).equals(numbers(rows))


def wide_texts(rows: int) -> pa.Table:
    """Texts that fill many pages, whose ends are where the writer finds them."""
    random = np.random.default_rng(0)
    return pa.table({"text": [random.bytes(200).hex() for _ in range(rows)]})


@pytest.mark.parametrize(("made", "rows"), [(numbers, 300_000), (wide_texts, 20_000)])
def test_the_same_rows_have_the_same_bytes_however_they_are_cut(
    made: Callable[[int], pa.Table], rows: int, tmp_path: Path
) -> None:
    table = made(rows)
    drafts = {
        write(to_batches(iter(table.to_batches(max_chunksize=size))), tmp_path / f"{size}").etag
        for size in (777, 10_000, 99_999, ROWS_A_GROUP, 300_000)
    }
    assert len(drafts) == 1


def test_no_rows_keep_their_schema(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    assert write(to_batches(numbers(0)), path).rows == 0
    with duckdb.connect() as con:
        relation = con.sql(f"FROM '{path}'")
        assert [str(kind) for kind in relation.types] == ["BIGINT", "VARCHAR"]
        assert relation.fetchall() == []


def wide(rows: int, size: int) -> pa.RecordBatch:
    return pa.record_batch({"n": np.arange(rows), "blob": [bytes(size)] * rows})


def group_bytes(path: Path) -> list[int]:
    file = pq.ParquetFile(path)
    return [file.read_row_group(n).nbytes for n in range(file.num_row_groups)]


@pytest.mark.parametrize(
    "made",
    [
        lambda: [wide(300, 1_000_000)],
        lambda: [wide(10, 1_000_000)] * 30,
        lambda: [wide(1, 100_000_000), wide(100, 1_000_000)],
        # Few rows hold most of the bytes.
        lambda: [pa.concat_batches([wide(200, 1_000_000), wide(20_000, 1)])],
    ],
    ids=["one batch", "many batches", "a row larger than a group", "uneven"],
)
def test_row_groups_are_bounded_in_bytes(
    made: Callable[[], list[pa.RecordBatch]], tmp_path: Path
) -> None:
    batches = made()
    path = tmp_path / "x.parquet"
    draft = write(Batches(batches[0].schema, iter(batches)), path)
    assert draft.rows == sum(len(batch) for batch in batches)
    largest_row = max(batch.nbytes // len(batch) for batch in batches)
    assert max(group_bytes(path)) <= max(BYTES_A_GROUP, largest_row * 1.01)
    assert pq.read_table(path, columns=["n"])["n"].to_pylist() == [
        n for batch in batches for n in batch["n"].to_pylist()
    ]


def test_a_large_dictionary_makes_no_small_groups(tmp_path: Path) -> None:
    """Slices share their dictionary: halving them would make nothing smaller."""
    words = pa.array([f"{n:020000}" for n in range(4_000)])
    column = pa.DictionaryArray.from_arrays(pa.array(range(2_000), pa.int32()), words)
    assert column.nbytes > BYTES_A_GROUP
    path = tmp_path / "x.parquet"
    write(to_batches(pa.table({"c": column})), path)
    assert len(groups(path)) == 2


def test_large_views_are_cut_before_they_are_cast(tmp_path: Path) -> None:
    column = pa.array(["x" * 1_000] * 200_000, pa.string_view())
    path = tmp_path / "x.parquet"
    write(to_batches(pa.table({"c": column})), path)
    assert sum(groups(path)) == 200_000
    assert len(groups(path)) >= 200_000_000 // BYTES_A_GROUP


def test_an_error_in_the_stream_comes_through(tmp_path: Path) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"a": [1]})
        raise InvalidResult("batch 2: no")

    with pytest.raises(InvalidResult, match="batch 2: no"):
        write(Batches(pa.schema({"a": pa.int64()}), failing()), tmp_path / "x.parquet")


def test_a_disk_that_is_full_is_an_oserror(tmp_path: Path) -> None:
    link = tmp_path / "full.parquet"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write(
            to_batches(pa.table({"a": np.random.default_rng(0).bytes(1_000_000)[:0] or [1]})), link
        )


def test_selected_columns_have_their_stored_types(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    geo = {"version": "1.1.0", "primary_column": "g", "columns": {"g": {"encoding": "WKB"}}}
    schema = pa.schema(
        {"n": pa.int8(), "g": pa.binary(), "kind": pa.dictionary(pa.int8(), pa.string())},
        {"geo": json.dumps(geo)},
    )
    write(to_batches(schema.empty_table()), path)
    both = read_schema(path, ["kind", "g"])
    assert both.names == ["kind", "g"]
    assert both.field("kind").type == pa.dictionary(pa.int32(), pa.string())
    assert set(both.metadata) == {b"geo"}
    # What describes a geometry that is not there would make the file unreadable.
    assert read_schema(path, ["n"]).metadata is None
