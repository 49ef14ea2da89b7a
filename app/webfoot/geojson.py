"""Rows as GeoJSON features: the geometry comes from a WKT column or from a longitude and a latitude.

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
_TYPES = {
    name.upper(): name
    for name in ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")
}
_WKT = re.compile(r"\s*(?:SRID=\d+;)?\s*([A-Za-z]+)\s*(?:Z|M|ZM)?\s*(\(.*\)|EMPTY)\s*", re.DOTALL)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_POSITION = re.compile(rf"{_NUMBER}(?:\s+{_NUMBER})+")


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
        "GeoJSON needs a column of well-known text called wkt, or the columns lon and lat; the result"
        f" has {', '.join(columns)}; ask for another format"
    )


def _feature(geometry: dict[str, Any] | None, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _point(lon: float | None, lat: float | None) -> dict[str, Any] | None:
    if lon is None or lat is None:
        return None
    return {"type": "Point", "coordinates": [lon, lat]}


def read_wkt(text: str | None) -> dict[str, Any] | None:
    """A geometry of well-known text as GeoJSON; None for a null.

    Raises:
        InvalidParameters: If it is no geometry that GeoJSON has.
    """
    if text is None:
        return None
    match = _WKT.fullmatch(text)
    kind = _TYPES.get(match[1].upper()) if match else None
    if match is None or kind is None:
        raise InvalidParameters(f"not a geometry in well-known text: {text[:80]!r}")
    if match[2] == "EMPTY":
        return {"type": kind, "coordinates": []}
    listed = _POSITION.sub(lambda found: f"[{','.join(map(_json_number, found[0].split()))}]", match[2])
    try:
        coordinates = json.loads(listed.replace("(", "[").replace(")", "]"))
    except ValueError:
        raise InvalidParameters(f"not a geometry in well-known text: {text[:80]!r}") from None
    if kind == "Point":
        coordinates = coordinates[0]
    elif kind == "MultiPoint":  # Written both as ((1 2), (3 4)) and as (1 2, 3 4).
        coordinates = [part[0] if isinstance(part[0], list) else part for part in coordinates]
    return {"type": kind, "coordinates": coordinates}


def _json_number(text: str) -> str:
    return repr(float(text)) if not text.lstrip("-").isdigit() else str(int(text))
