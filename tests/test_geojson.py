"""Rows become features: places from WKT or from a longitude and a latitude."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webfoot.errors import InvalidParameters
from webfoot.geojson import feature_reader, read_wkt

RING = [[0, 0], [1, 0], [1, 1], [0, 0]]
WKT: list[tuple[str, dict[str, Any]]] = [
    ("POINT (1 2)", {"type": "Point", "coordinates": [1, 2]}),
    ("point(1 2)", {"type": "Point", "coordinates": [1, 2]}),
    ("  Point  ( -1.50 +2e1 ) ", {"type": "Point", "coordinates": [-1.5, 20.0]}),
    ("POINT (.5 5.)", {"type": "Point", "coordinates": [0.5, 5.0]}),
    ("SRID=4326;POINT (1 2)", {"type": "Point", "coordinates": [1, 2]}),
    ("POINT Z (1 2 3)", {"type": "Point", "coordinates": [1, 2, 3]}),
    ("POINTZ(1 2 3)", {"type": "Point", "coordinates": [1, 2, 3]}),
    ("POINT (1 2 3)", {"type": "Point", "coordinates": [1, 2, 3]}),
    # GeoJSON has no measures.
    ("POINT M (1 2 9)", {"type": "Point", "coordinates": [1, 2]}),
    ("POINT ZM (1 2 3 9)", {"type": "Point", "coordinates": [1, 2, 3]}),
    ("POINTZM(1 2 3 9)", {"type": "Point", "coordinates": [1, 2, 3]}),
    ("LINESTRINGM (1 2 9, 3 4 9)", {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}),
    ("POINT EMPTY", {"type": "Point", "coordinates": []}),
    ("polygon empty", {"type": "Polygon", "coordinates": []}),
    ("LINESTRING (1 2, 3 4)", {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}),
    ("LINESTRING(1 2,3 4)", {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}),
    ("MULTIPOINT ((1 2), (3 4))", {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}),
    ("MULTIPOINT (1 2, 3 4)", {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}),
    ("POLYGON ((0 0, 1 0, 1 1, 0 0))", {"type": "Polygon", "coordinates": [RING]}),
    (
        "POLYGON ((0 0, 1 0, 1 1, 0 0),\n (0 0, 1 0, 1 1, 0 0))",
        {"type": "Polygon", "coordinates": [RING, RING]},
    ),
    (
        "MULTILINESTRING ((1 2, 3 4), (5 6, 7 8))",
        {"type": "MultiLineString", "coordinates": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]},
    ),
    (
        "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), ((0 0, 1 0, 1 1, 0 0)))",
        {"type": "MultiPolygon", "coordinates": [[RING], [RING]]},
    ),
    (
        "GEOMETRYCOLLECTION (POINT (1 2), POLYGON ((0 0, 1 0, 1 1, 0 0)))",
        {
            "type": "GeometryCollection",
            "geometries": [
                {"type": "Point", "coordinates": [1, 2]},
                {"type": "Polygon", "coordinates": [RING]},
            ],
        },
    ),
    ("GEOMETRYCOLLECTION EMPTY", {"type": "GeometryCollection", "geometries": []}),
]


@pytest.mark.parametrize(("text", "geometry"), WKT, ids=[text for text, _ in WKT])
def test_well_known_text_is_read(text: str, geometry: dict[str, Any]) -> None:
    assert read_wkt(text) == geometry


NO_WKT = [
    "",
    "POINT",
    "POINT (1)",
    "POINT (1 2",
    "POINT 1 2",
    "POINT (1 2, 3 4)",
    "POINT ((1 2))",
    "POINT (1 2 3 4 5)",
    "POINT (nan nan)",
    "POINT (1e400 2)",
    "POINT (a b)",
    "POINT ()",
    "LINESTRING (1, 2)",
    "LINESTRING ((1 2, 3 4))",
    "MULTIPOINT ((1 2, 3 4))",
    "POLYGON (0 0, 1 1, 1 0)",
    "MULTIPOLYGON ((0 0, 1 0, 1 1, 0 0))",
    "CIRCULARSTRING (1 2, 3 4, 5 6)",
    "GEOMETRYCOLLECTION (POINT (1))",
    "GEOMETRYCOLLECTION ()",
    "POINT (1 2); DROP TABLE",
    "[1, 2]",
]


@pytest.mark.parametrize("text", NO_WKT)
def test_what_is_no_geometry_is_refused_with_it(text: str) -> None:
    with pytest.raises(InvalidParameters, match="not a geometry in well-known text") as caught:
        read_wkt(text)
    assert repr(text) in caught.value.detail


def test_a_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidParameters) as caught:
        read_wkt("x" * 10_000)
    assert len(caught.value.detail) < 200


def test_a_null_is_no_geometry() -> None:
    assert read_wkt(None) is None


@given(st.text())
def test_no_text_gives_another_error(text: str) -> None:
    try:
        read_wkt(text)
    except InvalidParameters:
        return


@given(st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=2))
def test_numbers_keep_all_their_digits(positions: list[tuple[float, float]]) -> None:
    text = ", ".join(f"{lon!r} {lat!r}" for lon, lat in positions)
    geometry = read_wkt(f"LINESTRING ({text})")
    assert geometry == {"type": "LineString", "coordinates": [list(p) for p in positions]}


ROWS: list[tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]] = [
    ({"wkt": "POINT (1 2)", "n": 1}, {"type": "Point", "coordinates": [1, 2]}, {"n": 1}),
    ({"Geometry": "POINT (1 2)"}, {"type": "Point", "coordinates": [1, 2]}, {}),
    ({"wkt": None, "n": 1}, None, {"n": 1}),
    ({"lon": 1.5, "lat": 2, "n": 1}, {"type": "Point", "coordinates": [1.5, 2]}, {"n": 1}),
    ({"LATITUDE": 2, "Longitude": 1}, {"type": "Point", "coordinates": [1, 2]}, {}),
    ({"x": 1, "y": 2}, {"type": "Point", "coordinates": [1, 2]}, {}),
    ({"lng": None, "lat": 2}, None, {}),
    ({"lon": 1, "lat": None}, None, {}),
    # Well-known text comes before numbers, which stay.
    (
        {"x": 1, "y": 2, "geom": "POINT (3 4)"},
        {"type": "Point", "coordinates": [3, 4]},
        {"x": 1, "y": 2},
    ),
]


@pytest.mark.parametrize(("row", "geometry", "properties"), ROWS)
def test_a_row_is_a_feature(
    row: dict[str, Any], geometry: dict[str, Any] | None, properties: dict[str, Any]
) -> None:
    feature = feature_reader(list(row))(dict(row))
    assert feature == {"type": "Feature", "geometry": geometry, "properties": properties}


@pytest.mark.parametrize("columns", [["a", "b"], ["lon"], ["lat", "n"], ["wkts"]])
def test_without_a_place_the_columns_are_named(columns: list[str]) -> None:
    with pytest.raises(InvalidParameters, match=f"the result has {', '.join(columns)};"):
        feature_reader(columns)


@pytest.mark.parametrize("value", ["1.5", True, [1]])
def test_a_longitude_is_a_number(value: object) -> None:
    with pytest.raises(InvalidParameters, match="not a longitude or a latitude"):
        feature_reader(["lon", "lat"])({"lon": value, "lat": 2})
