"""Distance functions of the simple solids the head is sculpted from, and smooth ways to join them. Millimetres."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.interpolate import CubicSpline

Points = Float[ndarray, "N 3"]
Values = Float[ndarray, "N"]


def smoothstep(low: float, high: float, value: Values) -> Values:
    """Cubic ramp from 0 at ``low`` to 1 at ``high`` (either order), constant outside."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def union(a: Values, b: Values, width: float) -> Values:
    """Smooth minimum of two distances; where both are equal the surface swells by ``width / 6``."""
    h = np.maximum(width - np.abs(a - b), 0.0) / width
    return np.minimum(a, b) - h * h * h * (width / 6.0)


def intersection(a: Values, b: Values, width: float) -> Values:
    """Smooth maximum of two distances."""
    return -union(-a, -b, width)


def carve(a: Values, b: Values, width: float) -> Values:
    """Removes the solid ``b`` from ``a`` with a rounded edge."""
    return -union(-a, b, width)


def ellipsoid(
    points: Points,
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
) -> Values:
    """Approximate signed distance k0 (k0 - 1) / k1 to an ellipsoid (exact on the surface, first order around it).

    The angles (radians) turn the ellipsoid: yaw leans its +z axis toward +x, pitch leans +z toward -y, roll turns +x
    toward +y.
    """
    x, y, z = (points - np.asarray(centre)).T
    if yaw:
        c, s = np.cos(yaw), np.sin(yaw)
        x, z = c * x - s * z, s * x + c * z
    if pitch:
        c, s = np.cos(pitch), np.sin(pitch)
        y, z = c * y + s * z, -s * y + c * z
    if roll:
        c, s = np.cos(roll), np.sin(roll)
        x, y = c * x + s * y, -s * x + c * y
    x, y, z = x / radii[0], y / radii[1], z / radii[2]
    k0 = np.sqrt(x * x + y * y + z * z)
    x, y, z = x / radii[0], y / radii[1], z / radii[2]
    k1 = np.sqrt(x * x + y * y + z * z)
    return k0 * (k0 - 1.0) / (k1 + 1e-9)


def capsule(
    points: Points, a: tuple[float, float, float], b: tuple[float, float, float], ra: float, rb: float
) -> Values:
    """Distance to a segment minus a radius that runs linearly from ``ra`` at ``a`` to ``rb`` at ``b``."""
    origin = np.asarray(a, dtype=float)
    axis = np.asarray(b, dtype=float) - origin
    p = points - origin
    h = np.clip(p @ axis / (axis @ axis), 0.0, 1.0)
    p = p - h[:, None] * axis
    return np.sqrt(np.einsum("ij,ij->i", p, p)) - (ra + (rb - ra) * h)


def curve_samples(knots: list[tuple[float, float, float, float]], count: int) -> Float[ndarray, "count 4"]:
    """Natural cubic spline through ``(x, y, z, radius)`` knots, evenly sampled in its parameter."""
    table = np.asarray(knots, dtype=float)
    spline = CubicSpline(np.linspace(0.0, 1.0, len(table)), table, bc_type="natural")
    return spline(np.linspace(0.0, 1.0, count))


def swept(points: Points, samples: Float[ndarray, "S 4"], width: float = 1.0) -> Values:
    """Tapered tube along a sampled curve: capsules joined with a small smooth union."""
    distance = np.full(len(points), 1e9)
    for a, b in pairwise(samples):
        piece = capsule(points, tuple(a[:3]), tuple(b[:3]), a[3], b[3])
        distance = union(distance, piece, width)
    return distance


def rows(vectors: Float[ndarray, "N K"]) -> Float[ndarray, "N K"]:
    """Each row divided by its length."""
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)
