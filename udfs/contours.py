"""Raster to vector: the bands between contour lines, as polygons."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pyarrow as pa
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from pydantic import Field

from webfoot import InvalidParameters, udf

from ._geometry import Rings, area_km2, wkt
from ._packaged import packaged

FILE = "matplotlib/mpl-data/sample_data/jacksboro_fault_dem.npz"
SCHEMA = pa.schema({"wkt": pa.string(), "elevation": pa.int32(), "area": pa.float64()})


@udf
def contours(
    min_elevation: Annotated[int, Field(ge=0)] = 500,
    interval: Annotated[int, Field(ge=10)] = 50,
    max_elevation: Annotated[int, Field(le=9000)] | None = None,
) -> pa.Table:
    """Contour polygons of the Jacksboro fault in Tennessee, lowest band first.

    The bands tile all land from `min_elevation` up, so the sum of `area` does not depend on
    `interval`. It is the area of the pixels that high: exactly for the whole model (956 km²),
    within 0.3 % up to 800 m, and less near the peaks, which interpolated contours round off.

    Args:
        min_elevation: Lower end of the lowest band, in metres above sea level.
        interval: Height of a band, in metres.
        max_elevation: Upper end of the highest band, in metres, itself left out; just above the
            highest point, 1077, if empty.

    Returns:
        One row per polygon, the largest of a band first: `wkt` POLYGON of longitude and latitude
        in degrees (WGS 84), with holes; `elevation` the lower end of its band in metres; `area` in
        km², without the holes.

    Raises:
        InvalidParameters: If `min_elevation` is not below `max_elevation`.

    Source:
        Shuttle Radar Topography Mission, 3 arc-seconds, NASA and USGS, public domain; shipped with
        Matplotlib as sample data.
    """
    lon, lat, height = elevation_model()
    top = int(height.max()) + 1 if max_elevation is None else max_elevation
    if min_elevation >= top:
        raise InvalidParameters(f"min_elevation must be below {top}, got {min_elevation}")
    # Half a metre up: a line through pixel centres, which hold whole metres, would touch itself.
    lines = contour_generator(lon, lat, height + 0.5, fill_type=FillType.OuterOffset)
    polygons = [
        {"wkt": wkt(rings), "elevation": lower, "area": area_km2(rings)}
        for lower in range(min_elevation, top, interval)
        for rings in split(*lines.filled(lower, min(lower + interval, top)))
    ]
    table = pa.Table.from_pylist(polygons, schema=SCHEMA)
    return table.sort_by([("elevation", "ascending"), ("area", "descending")])


def elevation_model() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int16]]:
    """Longitudes, latitudes (rising) and heights in metres, with the shape (lat, lon).

    The outermost values are repeated at the edge of the model, where no pixel has its centre.
    """
    with np.load(packaged("matplotlib", FILE)) as model:
        # The file's `ymin` is the latitude of its first row, which is the northern edge.
        height = np.pad(model["elevation"][::-1], 1, mode="edge")
        lon = np.linspace(model["xmin"], model["xmax"], 2 * height.shape[1] - 3)
        lat = np.linspace(model["ymax"], model["ymin"], 2 * height.shape[0] - 3)
    return centres(lon), centres(lat), height


def centres(halves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of points half a pixel apart: the pixels' centres, and the two outer edges."""
    return np.concatenate([halves[:1], halves[1::2], halves[-1:]])


def split(points: list[NDArray[np.float64]], offsets: list[NDArray[np.uint32]]) -> Iterator[Rings]:
    """Each polygon's rings, from contourpy's points and the offsets where rings begin."""
    for polygon, starts in zip(points, offsets, strict=True):
        yield np.split(polygon, starts[1:-1])
