"""Rows as GeoJSON features: the geometry comes from a WKT column or from longitude and latitude.

Source: RFC 7946; OGC 06-103r4 for well-known text.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from webfoot.errors import InvalidParameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WKT_COLUMNS = ("wkt", "geometry", "geom")
_LONGITUDES = ("lon", "lng", "longitude", "x")
_LATITUDES = ("lat", "latitude", "y")
_WKT = re.compile(
    r"\s*(?:SRID=\d+;)?\s*([A-Z]+?)\s*(Z|M|ZM)?\s*(\(.*\)|EMPTY)\s*",
    re.DOTALL | re.IGNORECASE | re.ASCII,
)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_POSITION = re.compile(rf"{_NUMBER}(?:\s+{_NUMBER})+", re.ASCII)
_COLLECTION = "GEOMETRYCOLLECTION"
# How deep the positions of a geometry lie in its parentheses.
_DEPTHS = {
    "Point": 1,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}
# A position is a longitude, a latitude and perhaps a height.
_AXES = (2, 3)
_TYPES = {name.upper(): name for name in _DEPTHS}


def feature_reader(columns: Sequence[str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """How a row with these columns becomes a feature.

    Raises:
        InvalidParameters: If no column holds a place.
    """
    by_name = {name.lower(): name for name in columns}
    wkt = next((by_name[name] for name in _WKT_COLUMNS if name in by_name), None)
    lon = next((by_name[name] for name in _LONGITUDES if name in by_name), None)
    lat = next((by_name[name] for name in _LATITUDES if name in by_name), None)
    if wkt is not None:
        return lambda row: _feature(read_wkt(row.pop(wkt)), row)
    if lon is not None and lat is not None:
        return lambda row: _feature(_point(row.pop(lon), row.pop(lat)), row)
    raise InvalidParameters(
        "GeoJSON needs a column of well-known text called wkt, or the columns lon and lat; the"
        f" result has {', '.join(columns)}; ask for another format"
    )


def _feature(geometry: dict[str, Any] | None, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _point(lon: float | None, lat: float | None) -> dict[str, Any] | None:
    if lon is None or lat is None:
        return None
    for number in (lon, lat):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InvalidParameters(
                f"not a longitude or a latitude: {number!r}; ask for another format"
            )
    return {"type": "Point", "coordinates": [lon, lat]}


def read_wkt(text: str | None) -> dict[str, Any] | None:
    """A geometry of well-known text as GeoJSON; None for a null.

    Raises:
        InvalidParameters: If it is no geometry that GeoJSON has.
    """
    geometry = None if text is None else _read_geometry(text)
    if text is not None and geometry is None:
        raise InvalidParameters(f"not a geometry in well-known text: {text[:80]!r}")
    return geometry


def _read_geometry(text: str) -> dict[str, Any] | None:
    match = _WKT.fullmatch(text)
    if match is None:
        return None
    name, axes, body = match[1].upper(), (match[2] or "").upper(), match[3]
    if name == _COLLECTION:
        return _read_collection(body)
    kind = _TYPES.get(name)
    if kind is None:
        return None
    if body.upper() == "EMPTY":
        return {"type": kind, "coordinates": []}
    coordinates = _read_coordinates(kind, body, drop_measure="M" in axes)
    return None if coordinates is None else {"type": kind, "coordinates": coordinates}


def _read_collection(body: str) -> dict[str, Any] | None:
    parts = [] if body.upper() == "EMPTY" else _split(body[1:-1])
    geometries = [_read_geometry(part) for part in parts]
    if None in geometries:
        return None
    return {"type": "GeometryCollection", "geometries": geometries}


def _split(text: str) -> list[str]:
    """Parts between the commas that are in no parentheses."""
    parts, depth = [""], 0
    for piece in re.split(r"([(),])", text):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _read_coordinates(kind: str, body: str, *, drop_measure: bool) -> list[Any] | None:
    def position(found: re.Match[str]) -> str:
        numbers = found[0].split()
        # GeoJSON has heights, but no measures.
        kept = numbers[:-1] if drop_measure else numbers
        return f"[{','.join(_json_number(number) for number in kept)}]"

    listed = _POSITION.sub(position, body).replace("(", "[").replace(")", "]")
    try:
        coordinates: list[Any] = json.loads(listed)
    except ValueError:
        return None
    if kind == "MultiPoint":  # Written both as ((1 2), (3 4)) and as (1 2, 3 4).
        coordinates = [
            part[0] if _lies_at(1, part) and len(part) == 1 else part for part in coordinates
        ]
    if not _lies_at(_DEPTHS[kind], coordinates) or (kind == "Point" and len(coordinates) != 1):
        return None
    return coordinates[0] if kind == "Point" else coordinates


def _lies_at(depth: int, coordinates: Any) -> bool:
    """Whether there are positions `depth` lists deep, and nothing else."""
    if not isinstance(coordinates, list) or not coordinates:
        return False
    if depth == 0:
        return len(coordinates) in _AXES and not any(isinstance(n, list) for n in coordinates)
    return all(_lies_at(depth - 1, part) for part in coordinates)


def _json_number(text: str) -> str:
    return str(int(text)) if text.lstrip("+-").isdigit() else repr(float(text))
