"""One large call as many small ones: a span or a map is cut into tiles, and their tables joined."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from webfoot.tables.stitching import combine, first_of_each
from webfoot.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SPAN, _BOUNDS = 2, 4


def split(bounds: Sequence[Any], parts: int, *, name: str = "bounds") -> list[dict[str, list[Any]]]:
    """Cut a span or a rectangle into tiles: inputs for `webfoot.map`.

    Neighbours share an edge exactly, so nothing falls between them. What lies on an edge belongs to
    one tile if the UDF takes `low <= x < high`, and for the last tile also `x == high`. Inner edges
    of numbers are floats; of dates whole days, so there should be no more parts than days.

    Args:
        bounds: A span `(low, high)` of numbers, dates or times; or a rectangle
            `(west, south, east, north)` of numbers.
        parts: How many tiles. Of a rectangle, they are as square as that number allows.
        name: The parameter that takes a tile.

    Returns:
        One input for each tile, in order; of a rectangle, row by row from the south-west.

    Raises:
        ValueError: If there is nothing to cut, or a bound is not finite.
    """
    if parts < 1:
        raise ValueError(f"parts must be 1 or more, got {parts}")
    if len(bounds) == _SPAN:
        edges = _cut(bounds[0], bounds[1], parts)
        return [{name: [edges[n], edges[n + 1]]} for n in range(parts)]
    if len(bounds) != _BOUNDS:
        raise ValueError(
            f"bounds must be (low, high) or (west, south, east, north), got {tuple(bounds)!r}"
        )
    west, south, east, north = bounds
    columns = _columns(parts, east - west, north - south)
    across, up = _cut(west, east, columns), _cut(south, north, parts // columns)
    return [
        {name: [across[x], up[y], across[x + 1], up[y + 1]]}
        for y in range(len(up) - 1)
        for x in range(columns)
    ]


def stitch(tables: Iterable[Table], *, by: str | Sequence[str] = ()) -> Table:
    """Put the tables of tiles under each other, in order, without the tiles themselves.

    Args:
        tables: What `webfoot.map` or `Client.map` gave.
        by: Columns that tell rows apart: of rows that several tiles have, the first is kept.

    Raises:
        Error: If an input failed.
        InvalidResult: If columns of one name have types that no type can hold.
    """
    found = [table.arrow() for table in tables]
    whole = combine([{}] * len(found), found)
    names = [by] if isinstance(by, str) else list(by)
    return Table(first_of_each(whole, names) if names else whole)


def _cut(low: Any, high: Any, parts: int) -> list[Any]:
    """The edges of equal parts, both ends exactly as given."""
    numbers = [value for value in (low, high) if isinstance(value, int | float)]
    if not all(math.isfinite(value) for value in numbers) or not low < high:
        raise ValueError(f"bounds must be finite and rise, got {low!r} to {high!r}")
    width = high - low
    return [low, *(low + width * n / parts for n in range(1, parts)), high]


def _columns(parts: int, width: float, height: float) -> int:
    """How many of `parts` tiles go side by side so that each is as square as can be."""
    divisors = [n for n in range(1, parts + 1) if parts % n == 0]

    def distortion(columns: int) -> float:
        return abs(math.log((width / columns) / (height / (parts // columns))))

    if width <= 0 or height <= 0:
        return 1  # `_cut` says what is wrong.
    return min(divisors, key=distortion)
