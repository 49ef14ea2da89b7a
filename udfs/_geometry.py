"""Polygons of longitude/latitude points: their area on the globe and their text form."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# Closed rings, the outer one first and then its holes; each has the shape (points, 2), in degrees.
Rings: TypeAlias = Sequence[NDArray[np.float64]]

# The sphere with the surface of WGS 84; https://doi.org/10.1007/s001900050278, table 4.
EARTH_RADIUS_KM = 6371.0072


def area_km2(rings: Rings) -> float:
    """The area of a polygon without its holes, in km² on a sphere.

    Lambert's cylindrical equal-area projection and then the shoelace formula: a box of meridians
    and parallels has its exact area, whatever its size.
    """
    return abs(_signed_area_km2(rings[0])) - sum(abs(_signed_area_km2(hole)) for hole in rings[1:])


def _signed_area_km2(ring: NDArray[np.float64]) -> float:
    lon, lat = np.radians(ring - ring[0]).T[0], np.radians(ring).T[1]
    x, y = lon, np.sin(lat) - np.sin(lat[0])
    return float(EARTH_RADIUS_KM**2 * (x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2)


def wkt(rings: Rings) -> str:
    """The polygon as well-known text, with six decimals (0.1 m)."""
    texts = (", ".join(f"{lon:.6f} {lat:.6f}" for lon, lat in ring.tolist()) for ring in rings)
    return f"POLYGON ({', '.join(f'({text})' for text in texts)})"
