"""The head's shape as a signed distance field: coarse masses, a depth correction of the face, then fine parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.interpolate import RBFInterpolator, RectBivariateSpline

from . import anatomy
from .primitives import (
    Points,
    Values,
    capsule,
    carve,
    curve_samples,
    ellipsoid,
    intersection,
    rows,
    smoothstep,
    swept,
    union,
)

UPPER_LIP = curve_samples(
    [
        (-5, -59.9, 96.6, 4.8), (0, -61.0, 97.0, 4.5), (5, -59.9, 96.6, 4.8), (13, -61.7, 93.4, 4.2),
        (20, -63.8, 88.6, 3.0), (25.5, -65.4, 83.0, 1.6),
    ],
    14,
)  # fmt: skip
LOWER_LIP = curve_samples(
    [
        (-7, -70.2, 94.0, 5.9), (0, -70.4, 94.5, 5.9), (7, -70.2, 94.0, 5.9), (14, -69.2, 91.0, 5.0),
        (20, -67.6, 86.8, 3.5), (25.5, -65.8, 82.8, 1.6),
    ],
    14,
)  # fmt: skip
LIP_SLIT = curve_samples(
    [
        (0, -64.8, 104, 0.6), (6, -64.2, 103.5, 0.6), (12, -64.7, 100, 0.6), (18, -65.0, 95.5, 0.6),
        (23, -65.0, 91, 0.6), (27, -65.1, 87, 0.6),
    ],
    14,
)  # fmt: skip
NASOLABIAL = curve_samples([(17.8, -34.5, 97, 2.0), (23, -44, 94, 2.4), (29, -54, 90.2, 2.2), (33, -64, 86.2, 1.4)], 8)


def _near(points: Points, low: tuple[float, float, float], high: tuple[float, float, float]) -> Bool[ndarray, "N"]:
    return ((points > np.asarray(low)) & (points < np.asarray(high))).all(axis=1)


class HeadField:
    """Signed distance (mm, negative inside) of the sculpted head, without eyeballs and mouth interior."""

    def __init__(self) -> None:
        self._depth: RectBivariateSpline | None = None
        self._depth = self._fit_depth()

    # ------------------------------------------------------------------ masses
    @staticmethod
    def _neck(p: Points) -> Values:
        d = capsule(p, (0, -60, -18), (0, -240, -36), 44, 48)
        d = union(d, capsule(p, (20, -40, -46), (26, -200, -58), 22, 28), 30)
        d = union(d, capsule(p, (30, -176, -54), (165, -222, -48), 32, 34), 70)
        d = union(d, capsule(p, (50, -44, -14), (8, -200, 8), 7, 6), 24)
        d = union(d, ellipsoid(p, (0, -144, 9), (10, 17, 14)), 26)
        d = union(d, capsule(p, (6, -206, 4), (110, -206, -2), 8, 8), 30)
        d = union(d, ellipsoid(p, (0, -244, -20), (150, 50, 52)), 40)
        pedestal = (np.sqrt((p[:, 0] / 112) ** 2 + ((p[:, 2] + 24) / 78) ** 2) - 1.0) * 80.0
        return intersection(d, pedestal, 30)

    def _masses(self, p: Points) -> Values:
        q = p.copy()
        q[:, 2] -= smoothstep(5, 50, p[:, 2]) * self.depth_correction(p[:, 0], p[:, 1])
        f = ellipsoid(q, (0, -26, 27), (59, 82, 60))
        f = union(f, ellipsoid(q, (41, -20, 40), (17, 14, 28), yaw=0.45), 44)
        f = union(f, capsule(q, (47, -30, 4), (29.5, -69, 14), 9, 8.5), 38)
        f = union(f, capsule(q, (36, -75, 20), (9, -95, 72), 8, 11), 36)
        f = union(f, ellipsoid(q, (0, -93, 78), (17, 14, 17.5)), 24)
        f = union(f, ellipsoid(q, (0, -61, 62), (34, 34, 31)), 34)
        f = union(f, ellipsoid(q, (0, -82, 40), (30, 22, 38)), 30)
        c = ellipsoid(q, (0, 37, -20), (72, 82, 74))
        c = union(c, ellipsoid(q, (0, 42, 18), (61, 70, 70)), 60)
        c = union(c, ellipsoid(q, (0, 0, -40), (56, 46, 45)), 40)
        return union(union(c, f, 40), self._neck(p), 26)

    # ------------------------------------------------------------------ depth correction
    def depth_correction(self, x: Values, y: Values) -> Values:
        """How far (mm) the masses are pushed along z at a frontal position so that the face meets its depth points."""
        if self._depth is None:
            return np.zeros_like(x)
        inside = (x < 88) & (y > -138) & (y < 98)
        out = np.zeros_like(x)
        out[inside] = self._depth.ev(x[inside], y[inside])
        return out

    def _fit_depth(self) -> RectBivariateSpline:
        points = anatomy.FACE_DEPTH
        origins = np.column_stack([points[:, :2], np.full(len(points), 300.0)])
        hits, _ = self.cast(origins, np.tile([0.0, 0.0, -1.0], (len(points), 1)), surface=self._masses)
        residual = points[:, 2] - hits[:, 2]
        edge = [(x, y) for y in range(-135, 105, 20) for x in (72, 84)]
        edge += [(x, y) for x in range(0, 80, 20) for y in (-128, -138, 95, 105)]
        where = np.concatenate([points[:, :2], np.asarray(edge, dtype=float)])
        value = np.concatenate([residual, np.zeros(len(edge))])
        side = where[:, 0] > 0
        where = np.concatenate([where, where[side] * [-1, 1]])
        value = np.concatenate([value, value[side]])
        plate = RBFInterpolator(where / 30.0, value, kernel="thin_plate_spline", smoothing=0.03)
        gx, gy = np.arange(-90.0, 91.0), np.arange(-140.0, 101.0, 2.0)
        grid = np.stack(np.meshgrid(gx[90:], gy, indexing="ij"), axis=-1)
        half = plate(grid.reshape(-1, 2) / 30.0).reshape(grid.shape[:2])
        return RectBivariateSpline(gx, gy, np.concatenate([half[:0:-1], half]))

    # ------------------------------------------------------------------ fine parts
    @staticmethod
    def _nose(p: Points) -> Values:
        d = capsule(p, (0, 8, 82), (0, -14, 95), 6.3, 6.8)
        d = union(d, capsule(p, (0, -11, 94.5), (0, -28, 106.0), 6.3, 7.8), 10)
        d = union(d, capsule(p, (7, -4, 78), (9, -28, 90), 6.3, 8), 20)
        d = union(d, ellipsoid(p, (0, -29.6, 106.6), (7.6, 6.9, 8.4)), 10)
        d = union(d, ellipsoid(p, (3.6, -31.5, 106.2), (5, 5, 6), yaw=0.3), 8)
        d = union(d, ellipsoid(p, (11.2, -34.5, 97.5), (6.3, 6.6, 9.5), yaw=0.5, pitch=0.12, roll=-0.15), 8)
        return union(d, capsule(p, (0, -34.5, 106.2), (0, -40.5, 98), 3.6, 4.6), 8)

    @cached_property
    def _details(self) -> list[tuple[tuple, tuple, Callable[[Points, Values], Values]]]:
        """Fine parts in order: box around where the part can change the distance, and the change."""

        def lids(p: Points, d: Values) -> Values:
            return union(d, ellipsoid(p, (31.5, 0, 71), (14.3, 14.1, 14.0), yaw=0.2), 7)

        def nose(p: Points, d: Values) -> Values:
            return union(d, self._nose(p), 11)

        def nasolabial(p: Points, d: Values) -> Values:
            return carve(d, swept(p, NASOLABIAL), 6)

        def nostril(p: Points, d: Values) -> Values:
            return carve(d, ellipsoid(p, (6.7, -41.1, 101.5), (2.5, 4.2, 5.0), yaw=0.45, roll=0.35), 4)

        def mouth(p: Points, d: Values) -> Values:
            d = carve(d, capsule(p, (0, -44, 106.6), (0, -55, 107), 2.6, 3.2), 8)
            d = union(d, swept(p, UPPER_LIP), 5)
            d = union(d, swept(p, LOWER_LIP), 5)
            d = carve(d, ellipsoid(p, (0, -81.0, 103), (19, 4.5, 6.2)), 10)
            d = carve(d, ellipsoid(p, (29.0, -65.8, 91.0), (3.5, 3.5, 4.5)), 6)
            return carve(d, swept(p, LIP_SLIT, 0.2), 3)

        return [
            ((8, -26, 45), (56, 26, 100), lids),
            ((-1, -60, 55), (40, 30, 140), nose),
            ((4, -80, 65), (48, -20, 120), nasolabial),
            ((-1, -60, 80), (24, -25, 125), nostril),
            ((-1, -105, 50), (48, -32, 130), mouth),
        ]

    # ------------------------------------------------------------------ queries
    def distance(self, points: Points) -> Values:
        """Signed distance of every point (mm)."""
        p = np.array(points, dtype=float)
        p[:, 0] = np.abs(p[:, 0])
        d = self._masses(p)
        for low, high, change in self._details:
            near = _near(p, low, high) & (np.abs(d) < 40)
            if near.any():
                d[near] = change(p[near], d[near])
        return d

    def normal(self, points: Points, step: float = 0.3) -> Points:
        """Outward unit normals by tetrahedral differences of the distance."""
        corners = np.array([(1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)], dtype=float)
        stack = (points[:, None] + step * corners).reshape(-1, 3)
        return rows(self.distance(stack).reshape(-1, 4) @ corners)

    def cast(
        self,
        origins: Points,
        directions: Points,
        *,
        limit: float = 700.0,
        inside: bool = False,
        surface: Callable[[Points], Values] | None = None,
    ) -> tuple[Points, Bool[ndarray, "N"]]:
        """First surface point along each ray and whether there is one; ``inside`` marches from within outward."""
        surface = surface or self.distance
        sign = -1.0 if inside else 1.0
        t = np.zeros(len(origins))
        hit = np.zeros(len(origins), dtype=bool)
        active = np.arange(len(origins))
        for _ in range(220):
            d = sign * surface(origins[active] + t[active, None] * directions[active])
            near = d < 0.03
            hit[active[near]] = True
            t[active] += np.where(near, d, 0.8 * d)
            active = active[~near & (t[active] < limit)]
            if not len(active):
                break
        return origins + t[:, None] * directions, hit

    def from_front(self, xy: Float[ndarray, "N 2"]) -> Points:
        """Surface points seen from the front at frontal positions (x, y)."""
        origins = np.column_stack([xy, np.full(len(xy), 200.0)])
        points, hit = self.cast(origins, np.tile([0.0, 0.0, -1.0], (len(xy), 1)))
        if not hit.all():
            raise ValueError("a frontal curve of the sculpt leaves the face")
        return points

    def from_side(self, zy: Float[ndarray, "N 2"]) -> Points:
        """Surface points seen from the left at positions (z, y)."""
        origins = np.column_stack([np.full(len(zy), 200.0), zy[:, 1], zy[:, 0]])
        points, hit = self.cast(origins, np.tile([-1.0, 0.0, 0.0], (len(zy), 1)))
        if not hit.all():
            raise ValueError("a lateral curve of the sculpt leaves the head")
        return points
