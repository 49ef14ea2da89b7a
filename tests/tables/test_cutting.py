"""A stitched file is cut into what came of each input."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from webfoot.errors import UdfFailed
from webfoot.tables.cutting import cut
from webfoot.tables.stitching import Part, stitch

if TYPE_CHECKING:
    from pathlib import Path

PROBLEM = UdfFailed("this is why").problem()


def part(folder: Path, values: dict[str, Any], **columns: list[Any]) -> Part:
    path = folder / f"{len(list(folder.iterdir()))}.parquet"
    pq.write_table(pa.table(columns), path)
    return Part(values, path)


def whole(tmp_path: Path, *parts: Part) -> bytes:
    target = tmp_path / "whole.parquet"
    stitch(parts, target, errors=True)
    return target.read_bytes()


def test_each_input_gets_its_own_rows_without_the_columns_of_the_inputs(tmp_path: Path) -> None:
    day = dt.date(2024, 1, 31)
    file = whole(
        tmp_path,
        part(tmp_path, {"n": 1, "day": day}, row=[1, 2]),
        part(tmp_path, {"n": 0, "day": day}, row=pa.array([], pa.int64())),
        Part({"n": -1, "day": day}, problem=PROBLEM),
        part(tmp_path, {"n": 3, "day": day}, row=[3]),
    )
    pieces = cut(file)
    tables = [piece.table and piece.table.arrow().to_pydict() for piece in pieces]
    assert [tables[0], tables[3]] == [{"row": [1, 2]}, {"row": [3]}]
    assert pieces[1].table is not None
    assert pieces[1].table.arrow().to_pydict() == {"row": []}
    assert pieces[2].table is None
    assert pieces[2].problem == PROBLEM
    assert [piece.values for piece in pieces] == [
        {"n": 1, "day": day},
        {},
        {},
        {"n": 3, "day": day},
    ]


def test_columns_called_like_an_input_or_an_error_stay_with_the_result(tmp_path: Path) -> None:
    file = whole(tmp_path, part(tmp_path, {"n": 7}, n=["x"], _error=["mine"], input_n=[None]))
    (piece,) = cut(file)
    assert piece.values == {"n": 7}
    assert piece.table is not None
    assert piece.table.arrow().to_pydict() == {"n": ["x"], "_error": ["mine"], "input_n": [None]}


def test_a_piece_tells_nothing_of_the_whole(tmp_path: Path) -> None:
    (piece,) = cut(whole(tmp_path, part(tmp_path, {"n": 7}, row=[1])))
    assert piece.table is not None
    assert not piece.table.schema.metadata


def test_any_other_parquet_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="which of its rows"):
        cut((tmp_path / "x.parquet").read_bytes())
    with pytest.raises(ValueError, match="Parquet"):
        cut(b"<html>a page that is long enough</html>")
