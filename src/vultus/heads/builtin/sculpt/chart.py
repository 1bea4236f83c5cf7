"""Directions on a unit sphere and the rays that carry them to the head's surface.

Each skin vertex owns one direction: longitude from +z toward +x, latitude up. Above -48 degrees the ray starts at one
origin inside the head (the face is star-shaped from there); below, the origin slides down the neck's axis.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.interpolate import PchipInterpolator

from .field import HeadField
from .primitives import Points, Values, rows

ORIGIN = np.array([0.0, 8.0, 0.0])
BOTTOM_LATITUDE = -85.0

# Latitude; front y, z; side x, y; back y, z; ray origin y, z.
_TARGETS = np.array(
    [
        (-48, -88, 90, 57, -56, -72, -69, 8, 0),
        (-50, -97, 92, 55, -60, -77, -68, 8, 0),
        (-56, -110, 84, 52, -80, -92, -69, -2, -2),
        (-62, -115, 62, 50, -98, -107, -70, -25, -5),
        (-67, -120, 38, 50, -116, -122, -74, -55, -10),
        (-71, -133, 30, 52, -131, -136, -78, -95, -18),
        (-75, -150, 28, 54, -147, -151, -82, -136, -24),
        (-79, -168, 26, 60, -165, -167, -86, -163, -27),
        (-82.5, -184, 22, 80, -182, -183, -88, -182, -29),
        (-85, -196, 22, 105, -196, -196, -90, -196, -30),
    ],
    dtype=float,
)
_TABLE = PchipInterpolator(_TARGETS[::-1, 0], _TARGETS[::-1, 1:])


def direction_of(points: Points) -> Points:
    """Chart direction of points above the chin."""
    return rows(points - ORIGIN)


def latitude(directions: Points) -> Values:
    """Latitude in degrees."""
    return np.degrees(np.arcsin(np.clip(directions[:, 1], -1, 1)))


def longitude(directions: Points) -> Values:
    """Longitude in radians, 0 in front, positive toward the subject's left."""
    return np.arctan2(directions[:, 0], directions[:, 2])


def direction(lon: Values, lat: Values) -> Points:
    """Unit directions from longitude and latitude (radians)."""
    return np.stack([np.sin(lon) * np.cos(lat), np.sin(lat), np.cos(lon) * np.cos(lat)], axis=1)


def rays(directions: Points) -> tuple[Points, Points]:
    """Origin and outward unit direction of each chart ray."""
    lat = latitude(directions)
    lon = longitude(directions)
    c, s = np.cos(lon), np.sin(lon)
    q = _TABLE(np.clip(lat, BOTTOM_LATITUDE - 0.01, -48))
    front, back, side = np.clip(c, 0, 1) ** 2, np.clip(-c, 0, 1) ** 2, s * s
    target = np.stack(
        [
            q[:, 2] * s,
            front * q[:, 0] + side * q[:, 3] + back * q[:, 4],
            np.where(c > 0, q[:, 1], -q[:, 5]) * c,
        ],
        axis=1,
    )
    start = np.stack([np.zeros(len(q)), q[:, 6], q[:, 7]], axis=1)
    w = np.clip((-48 - lat) / 6, 0, 1)[:, None]
    w = w * w * (3 - 2 * w)
    return ORIGIN * (1 - w) + start * w, rows(directions * (1 - w) + rows(target - start) * w)


def to_surface(field: HeadField, directions: Points) -> tuple[Points, Bool[ndarray, "N"]]:
    """Surface points of chart directions, and which rays met the surface.

    Above -46 degrees the march comes from outside (it takes the outer rim of the nostrils), below from inside (from
    outside it would meet the shoulders first).
    """
    origins, outward = rays(directions)
    upper = latitude(directions) >= -46
    points = np.zeros_like(directions)
    hit = np.zeros(len(directions), dtype=bool)
    # 160 mm is outside the head everywhere above the chin.
    points[upper], hit[upper] = field.cast(origins[upper] + outward[upper] * 160.0, -outward[upper], limit=160.0)
    points[~upper], hit[~upper] = field.cast(origins[~upper], outward[~upper], limit=300.0, inside=True)
    return points, hit


def millimetres_per_radian(directions: Points, points: Points) -> Float[ndarray, "N"]:
    """Local scale of the chart."""
    lat = latitude(directions)
    table = np.interp(lat, [-85, -79, -71, -62, -52, -48], [560, 290, 155, 110, 100, -1])
    return np.where(table > 0, table, np.linalg.norm(points - ORIGIN, axis=1))
