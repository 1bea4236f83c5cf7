"""Closed parts inside the head: eyeballs, teeth, tongue."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from . import anatomy
from .mesh import MeshBuilder, Part, Patch
from .primitives import rows, smoothstep

EYE_SEGMENTS = 28


def add_eyeballs(b: MeshBuilder) -> None:
    """Spheres with a cornea; rings of vertices lie on the borders of pupil and iris."""
    r = anatomy.EYE_RADIUS
    pupil, iris = np.arcsin(anatomy.PUPIL_RADIUS / r), np.arcsin(anatomy.IRIS_RADIUS / r)
    polar = np.r_[
        pupil * 0.55, pupil, pupil + (iris - pupil) * np.array([0.35, 0.7, 1.0]), iris + 0.09,
        np.linspace(iris + 0.09, np.pi, 9)[1:-1],
    ]  # fmt: skip

    def height(angle: Float[ndarray, "N"] | float) -> Float[ndarray, "N"]:
        return r * np.cos(angle) + anatomy.CORNEA_HEIGHT * np.exp(-((np.asarray(angle) / 0.36) ** 4))

    # Segments are laid out about the plane x = 0 so that mirroring maps them onto themselves.
    around = (np.arange(EYE_SEGMENTS) + 0.5) / EYE_SEGMENTS * 2 * np.pi
    parts = (Part.LEFT_EYE, Part.RIGHT_EYE)
    front = b.add_pair(anatomy.EYE_CENTRE[None] + [0, 0, height(0.0)], parts)
    grids: list[list] = [[], []]
    for angle in polar:
        ring = np.stack([np.cos(around), np.sin(around), np.zeros(EYE_SEGMENTS)], axis=1) * r * np.sin(angle)
        ring[:, 2] = height(angle)
        for grid, ids in zip(grids, b.add_pair(ring + anatomy.EYE_CENTRE, parts), strict=True):
            grid.append(ids)
    back = b.add_pair(anatomy.EYE_CENTRE[None] - [0, 0, r], parts)
    for k, name in enumerate(("left_eyeball", "right_eyeball")):
        # The pupil is the innermost point of the disc chart: the grid runs from the back to the front.
        grid = np.stack(grids[k][::-1])
        b.patches.append(Patch(name, parts[k], grid, "disc", first=int(back[k][0]), last=int(front[k][0])))


# Teeth in section: offset along the arch's outward normal, fraction of the way from gum to edge.
_TOOTH_PROFILE = ((-4.5, 0.0), (-0.2, 0.0), (0.7, 0.3), (0.55, 0.7), (-0.6, 1.0), (-4.0, 0.95), (-5.5, 0.2))


def tooth_phase(x: Float[ndarray, "N"]) -> Float[ndarray, "N"]:
    """Position along the arch in teeth: whole numbers are the gaps between them."""
    x = np.abs(x)
    return np.where(x < 8, x / 7.6, x / 6.9 + 8 / 7.6 - 8 / 6.9)


def add_teeth(b: MeshBuilder) -> None:
    """Upper and lower row of teeth with gums, as tubes along the dental arch."""
    for part, gum, edge, z0, bend, half_width in (
        (Part.TEETH_UPPER, -57.5, -66.4, 92.0, 0.040, 23.0),
        (Part.TEETH_LOWER, -74.8, -66.6, 89.6, 0.043, 21.0),
    ):
        half = np.linspace(0, half_width, 31)
        x = np.concatenate([-half[:0:-1], half])
        bulge = np.abs(np.sin(np.pi * tooth_phase(x)))
        notch = 1 - np.minimum(1, bulge * 2.2)
        groove = 1 - np.minimum(1, bulge * 2.0)
        slope = 2 * bend * x
        normal = rows(np.stack([slope, np.zeros_like(x), np.ones_like(x)], axis=1))
        loops = []
        for offset, fraction in _TOOTH_PROFILE:
            y = np.full_like(x, gum + (edge - gum) * fraction)
            if fraction > 0.9:
                y += (gum - edge) * 0.09 * notch
            out = np.full_like(x, offset)
            if 0.2 < fraction < 0.9 and offset > 0:
                out -= 0.7 * groove
            loops.append(np.stack([x, y, z0 - bend * x * x], axis=1) + normal * out[:, None])
        points = np.stack(loops, axis=1)  # [along the arch, profile, 3]
        n, m = points.shape[:2]
        mirror = (np.arange(n)[::-1, None] * m + np.arange(m)).ravel()
        grid = b.add(points.reshape(-1, 3), part, mirror).reshape(n, m)
        poles = b.add(points[[0, -1]].mean(axis=1), part, np.array([1, 0]))
        name = "teeth_upper" if part == Part.TEETH_UPPER else "teeth_lower"
        b.patches.append(Patch(name, part, grid, "tube", first=int(poles[0]), last=int(poles[1])))


TONGUE_RINGS = 13
TONGUE_COLUMNS = 20


def add_tongue(b: MeshBuilder) -> None:
    """A tongue behind the lower teeth: flattened tube from its root to a rounded tip, with a groove along the top."""
    t = np.sin(np.linspace(0, np.pi / 2, TONGUE_RINGS + 2)[1:-1])  # closer together toward the tip
    around = (np.arange(TONGUE_COLUMNS) + 0.5) / TONGUE_COLUMNS * 2 * np.pi  # from the left side over the top
    z = 51.0 + 32.5 * t
    width = 14.5 * np.sqrt(1 - np.clip((t - 0.35) / 0.65, 0, 1) ** 2.6) * (0.80 + 0.20 * smoothstep(0, 0.3, t))
    thick = 5.2 * np.sqrt(1 - np.clip((t - 0.25) / 0.75, 0, 1) ** 2.2) * (0.75 + 0.25 * smoothstep(0, 0.2, t))
    middle = -69.2 + 1.2 * np.sin(np.pi * t) - 0.6 * t
    c, s = np.cos(around), np.sin(around)
    # A superellipse keeps the top broad; the groove runs along it.
    px = np.sign(c) * np.abs(c) ** 0.8
    py = np.sign(s) * np.abs(s) ** 0.9
    groove = np.exp(-((px / 0.22) ** 2)) * (s > 0)
    points = np.empty((TONGUE_RINGS, TONGUE_COLUMNS, 3))
    points[..., 0] = width[:, None] * px
    points[..., 1] = middle[:, None] + thick[:, None] * py - (0.9 * np.sin(np.pi * t))[:, None] * groove
    points[..., 2] = z[:, None]
    column = np.arange(TONGUE_COLUMNS)
    swap = (TONGUE_COLUMNS // 2 - 1 - column) % TONGUE_COLUMNS
    points = 0.5 * (points + points[:, swap] * [-1, 1, 1])  # rounding of cos and sin is not symmetric
    mirror = (np.arange(TONGUE_RINGS)[:, None] * TONGUE_COLUMNS + swap).ravel()
    grid = b.add(points.reshape(-1, 3), Part.TONGUE, mirror).reshape(TONGUE_RINGS, TONGUE_COLUMNS)
    poles = b.add(np.array([[0, -69.2, 50.0], [0, -70.0, 84.2]]), Part.TONGUE, np.arange(2))
    b.patches.append(Patch("tongue", Part.TONGUE, grid, "disc", first=int(poles[0]), last=int(poles[1])))
