"""Rings of vertices around eye, mouth and ear (left side), which hold the semantic loops of the topology."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.interpolate import PchipInterpolator

from . import anatomy
from .primitives import rows

EYE_POINTS = 32
"""Points per ring around an eye; index 0 is the outer corner, then over the upper lid to the inner corner."""
EYE_OFFSETS = (0.0, 0.9, 2.2, 3.8, 4.9, 6.0, 8.4)
EYE_BLEND = (0.0, 0.0, 0.1, 0.3, 0.45, 0.65, 0.9)
CREASE_RING = 4
"""The ring along which the upper lid folds."""

MOUTH_COLUMNS = 14
"""Columns from a mouth corner to the midline, both included."""
LIP_FRACTIONS = (0.0, 0.22, 0.5, 0.8, 1.0)
"""Rings on the lips, from the line between them (0) to the vermilion border (1)."""
MOUTH_OFFSETS = (1.7, 4.3, 8.0)
LIP_RINGS = len(LIP_FRACTIONS)
MOUTH_RINGS = LIP_RINGS + len(MOUTH_OFFSETS)

EAR_POINTS = 36

Ring = Float[ndarray, "N 2"]


def resample_closed(points: Ring, count: int) -> Ring:
    """``count`` points evenly spaced along a closed polyline, starting at its first point."""
    loop = np.vstack([points, points[:1]])
    length = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(loop, axis=0), axis=1))]
    t = np.arange(count) / count * length[-1]
    return np.stack([np.interp(t, length, loop[:, k]) for k in range(2)], axis=1)


def lid_opening(count: int) -> Ring:
    """Contour of the open lids' edge about the eye's centre: angle 0 at the outer corner, then over the upper lid."""
    a = np.arange(count) / count * 2 * np.pi
    t = np.cos(a)
    upper = 5.15 * (1 - np.abs(t + 0.08 * (1 - t * t)) ** 2.3)
    lower = -5.75 * (1 - np.abs(t - 0.10 * (1 - t * t)) ** 2.2)
    open_height = np.where(np.sin(a) >= 0, upper, lower) * np.abs(np.sin(a)) ** 0.15
    return np.stack([14.3 * t - 0.5, -0.1 + 1.1 * t + np.where(np.abs(np.sin(a)) < 1e-9, 0.0, open_height)], axis=1)


def eye_rings() -> list[Ring]:
    """Rings from the lid edge outward, frontal coordinates of the left eye."""
    edge = resample_closed(lid_opening(360), EYE_POINTS)
    normal = np.roll(edge, -1, axis=0) - np.roll(edge, 1, axis=0)
    normal = rows(np.stack([normal[:, 1], -normal[:, 0]], axis=1))
    if (normal * edge).sum() < 0:
        normal = -normal
    angle = np.arctan2(edge[:, 1] / 6.0, edge[:, 0] / 14.0)
    rings = []
    for offset, blend in zip(EYE_OFFSETS, EYE_BLEND, strict=True):
        ellipse = np.stack(
            [(14.3 + offset * 0.95) * np.cos(angle), 0.4 + (5.6 + offset * 1.05) * np.sin(angle)], axis=1
        )
        rings.append((edge + normal * offset) * (1 - blend) + ellipse * blend + anatomy.EYE_CENTRE[:2])
    return rings


def mouth_columns() -> Float[ndarray, "MOUTH_COLUMNS"]:
    """Columns of the mouth as fractions of its half width, from the corner (1) to the midline (0)."""
    t = np.linspace(0, 1, MOUTH_COLUMNS)
    return 0.75 * np.cos(t * np.pi / 2) + 0.25 * (1 - t)


def _mouth_curve(knots: list[tuple[float, float]], half_width: float) -> Ring:
    t = mouth_columns()
    t[-1] = 0.0  # the cosine of a right angle is not exactly zero
    x, y = np.asarray(knots, dtype=float).T
    return np.stack([t * half_width, PchipInterpolator(x, y)(t)], axis=1)


def mouth_rings() -> list[tuple[Ring, Ring]]:
    """Rings from the lip line outward as (upper, lower) halves from the corner to the midline, frontal coordinates."""
    line = _mouth_curve(anatomy.LIP_LINE, anatomy.MOUTH_HALF_WIDTH)
    borders = (
        (_mouth_curve(anatomy.LIP_BORDER_UPPER, anatomy.BORDER_HALF_WIDTH), 1.0),
        (_mouth_curve(anatomy.LIP_BORDER_LOWER, anatomy.BORDER_HALF_WIDTH), -1.0),
    )
    rings = [tuple(line * (1 - f) + border * f for border, _ in borders) for f in LIP_FRACTIONS]
    angle = np.arccos(np.clip(mouth_columns(), 0, 1))
    for k, offset in enumerate(MOUTH_OFFSETS):
        halves = []
        for border, sign in borders:
            along = np.gradient(border, axis=0)
            normal = rows(np.stack([along[:, 1], -along[:, 0]], axis=1))
            if normal[-1, 1] * sign < 0:
                normal = -normal
            round_normal = np.stack([np.cos(angle), sign * np.sin(angle)], axis=1)
            ring = border + offset * rows(0.25 * normal + 0.75 * round_normal)
            blend = (0.0, 0.5, 0.8)[k]
            ellipse = np.stack([(26.8 + offset) * np.cos(angle), -65.6 + sign * (9.2 + offset) * np.sin(angle)], axis=1)
            ring = ring * (1 - blend) + ellipse * blend
            ring[-1, 0] = 0.0
            halves.append(ring)
        rings.append(tuple(halves))
    return rings  # type: ignore[return-value]


def ear_rings() -> tuple[Ring, Ring]:
    """Base ring of the ear and the ring around it, as (z, y); index 0 in front, then over the top."""
    a = np.arange(EAR_POINTS) / EAR_POINTS * 2 * np.pi
    forward, up = np.cos(a) * 10.5, np.sin(a) * 23.0
    tilt = np.radians(14)
    base = np.stack(
        [-7 + forward * np.cos(tilt) - up * np.sin(tilt), -20 + up * np.cos(tilt) + forward * np.sin(tilt)], axis=1
    )
    centre = np.array([-7.0, -20.0])
    return base, (base - centre) * [1.35, 1.16] + centre
