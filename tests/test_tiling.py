"""Tiles cover what they were cut from, once, and their tables are the table of the whole."""

from __future__ import annotations

import datetime
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import webfoot
from webfoot import split, stitch
from webfoot.errors import InvalidResult

if TYPE_CHECKING:
    from collections.abc import Sequence

numbers = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6)


@given(low=numbers, width=st.floats(1e-3, 1e6), parts=st.integers(1, 50))
def test_parts_of_a_span_follow_each_other_without_a_gap(
    low: float, width: float, parts: int
) -> None:
    tiles = [tile["bounds"] for tile in split((low, low + width), parts)]
    assert len(tiles) == parts
    assert (tiles[0][0], tiles[-1][1]) == (low, low + width)
    assert all(before[1] == after[0] for before, after in pairwise(tiles))


@given(
    west=numbers,
    south=numbers,
    width=st.floats(1, 1000),
    height=st.floats(1, 1000),
    parts=st.integers(1, 40),
)
def test_tiles_of_a_rectangle_share_their_edges_exactly(
    west: float, south: float, width: float, height: float, parts: int
) -> None:
    tiles = [tile["bounds"] for tile in split((west, south, west + width, south + height), parts)]
    assert len(tiles) == parts
    across = sorted({x for tile in tiles for x in (tile[0], tile[2])})
    up = sorted({y for tile in tiles for y in (tile[1], tile[3])})
    assert (across[0], across[-1]) == (west, west + width)
    assert (up[0], up[-1]) == (south, south + height)
    expected = [[a, c, b, d] for c, d in pairwise(up) for a, b in pairwise(across)]
    assert tiles == expected


@pytest.mark.parametrize(
    ("bounds", "parts", "columns"),
    [
        ((0, 0, 40, 10), 4, 4),
        ((0, 0, 10, 40), 4, 1),
        ((0, 0, 10, 10), 4, 2),
        ((0, 0, 30, 20), 6, 3),
    ],
)
def test_tiles_are_as_square_as_can_be(bounds: Sequence[float], parts: int, columns: int) -> None:
    assert len({tile["bounds"][0] for tile in split(bounds, parts)}) == columns


def test_a_span_of_dates_has_parts_of_dates() -> None:
    span = datetime.date(2024, 1, 1), datetime.date(2024, 3, 1)
    tiles = split(span, 2, name="days")
    assert [tile["days"][0] for tile in tiles] == [span[0], datetime.date(2024, 1, 31)]


@pytest.mark.parametrize(
    ("bounds", "parts", "said"),
    [
        ((0, 1), 0, "parts must be 1 or more, got 0"),
        ((1, 1), 2, "must be finite and rise, got 1 to 1"),
        ((0, math.inf), 2, "must be finite and rise"),
        ((0, math.nan), 2, "must be finite and rise"),
        ((0, 0, 0, 1), 2, "must be finite and rise, got 0 to 0"),
        ((0, 1, 2), 2, r"bounds must be \(low, high\) or \(west, south, east, north\)"),
    ],
)
def test_what_cannot_be_cut_is_refused(bounds: Any, parts: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        split(bounds, parts)


def points(bounds: Sequence[float]) -> webfoot.Table:
    """The whole numbers in a rectangle, its edges included."""
    west, south, east, north = bounds
    found = [
        (x, y)
        for y in range(math.ceil(south), math.floor(north) + 1)
        for x in range(math.ceil(west), math.floor(east) + 1)
    ]
    return webfoot.Table(pa.table({"x": [x for x, _ in found], "y": [y for _, y in found]}))


@pytest.mark.parametrize("parts", [1, 2, 4, 6, 7, 9])
def test_the_stitched_tiles_are_the_untiled_whole(parts: int) -> None:
    bounds = (0, 0, 12, 8)
    tiles = [points(tile["bounds"]) for tile in split(bounds, parts)]
    stitched = (
        stitch(tiles, by=["x", "y"]).arrow().sort_by([("y", "ascending"), ("x", "ascending")])
    )
    assert stitched.equals(points(bounds).arrow())


def test_rows_are_kept_in_order_and_of_equals_the_first() -> None:
    tables = [
        webfoot.Table(pa.table({"id": [3, 1], "from": ["a", "a"]})),
        webfoot.Table(pa.table({"id": [1, 2], "from": ["b", "b"]})),
    ]
    assert stitch(tables).arrow().column("id").to_pylist() == [3, 1, 1, 2]
    assert stitch(tables, by="id").arrow().to_pydict() == {"id": [3, 1, 2], "from": ["a", "a", "b"]}


def test_no_tiles_are_no_rows() -> None:
    assert len(stitch([]).arrow()) == 0


def test_tables_that_do_not_go_together_are_refused() -> None:
    tables = [webfoot.Table(pa.table({"a": [1]})), webfoot.Table(pa.table({"a": ["x"]}))]
    with pytest.raises(InvalidResult, match="column 'a' is int64 for one input and string"):
        stitch(tables)
