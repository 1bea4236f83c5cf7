"""What continues the skin inward or outward at its openings: ears, the inside of the lids, the mouth's cavity."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from . import anatomy, rings
from .mesh import MeshBuilder, Part, Patch
from .primitives import Points, Values, intersection, rows, smoothstep
from .skin import Kind

EAR_CENTRE = np.array([66.5, -20.0, -5.0])
_TILT, _OPEN = np.radians(14), np.radians(33)
_EAR_UP = np.array([0.0, np.cos(_TILT), -np.sin(_TILT)])
_EAR_BACK = np.array([np.sin(_OPEN), 0.0, -np.cos(_OPEN)])
_EAR_OUT = np.array([np.cos(_OPEN), 0.0, np.sin(_OPEN)])
_CONCHA = np.array([2.0, -6.0])

# Rings inside the rim: fraction of the outline about the concha, height over the ear's plane, depth in front (mm).
_EAR_INNER = (
    (0.91, 0.9, 2.9), (0.83, -1.9, 3.5), (0.74, -1.6, 4.2), (0.64, 2.1, 5.0), (0.55, 1.8, 5.8), (0.46, -3.6, 6.6),
    (0.36, -7.5, 7.6), (0.22, -9.0, 9.0),
)  # fmt: skip


def ear_rings(base: Points) -> tuple[list[Points], Points]:
    """Rings of the left pinna after its base ring, over the rim and into the concha, and the concha's centre."""
    a = np.arange(rings.EAR_POINTS) / rings.EAR_POINTS * 2 * np.pi
    ca, sa = np.cos(a), np.sin(a)
    # In front the rings lie on the head; the helix leaves it gradually above, the lobule quickly below.
    front = np.where(sa > 0, smoothstep(0.55, 1.0, ca), smoothstep(0.05, 0.80, ca))
    lobule = smoothstep(-0.62, -0.92, sa)
    width = 16.5 + 2.0 * smoothstep(-0.3, 0.6, sa) - 2.5 * lobule
    round_ca = np.sign(ca) * np.abs(ca) ** 0.85
    outline = np.stack([8.5 - width * round_ca, np.where(sa > 0, 30.5 * sa, 33.0 * sa) - 1.0], axis=1)

    def place(fraction: float, height: Values | float, lift: float | None = None) -> Points:
        q = _CONCHA + (outline - _CONCHA) * fraction
        h = np.broadcast_to(height, (len(a),))
        # Inside the concha depth goes straight into the head; along the plane's normal it would leave behind it.
        down = np.array([1.0, 0.0, 0.0]) if fraction < 0.7 else _EAR_OUT
        up = np.maximum(h, 0)[:, None] * _EAR_OUT + np.minimum(h, 0)[:, None] * down
        out = EAR_CENTRE + q[:, :1] * _EAR_BACK + q[:, 1:] * _EAR_UP + up
        if lift is not None:  # in front the ear's plane dips into the head: the rim rides on the skin there
            out[:, 0] = intersection(out[:, 0], base[:, 0] + lift, 3.0)
        return out

    def blend(free: Points, attached: Points) -> Points:
        return free * (1 - front[:, None]) + attached * front[:, None]

    lateral = np.array([1.0, 0.0, 0.0])
    inward = EAR_CENTRE + _CONCHA[0] * _EAR_BACK + _CONCHA[1] * _EAR_UP - base
    inward[:, 0] = 0.0
    inward = rows(inward)
    behind = _EAR_OUT * smoothstep(0.3, -0.4, ca)[:, None]  # keeps the groove behind the ear narrow
    rim_back, rim, rim_front = place(1.0, -2.2, 0.4), place(1.04, -0.3, 1.6), place(0.98, 1.6, 2.6)
    out = [
        blend(base * 0.6 + rim_back * 0.4 - behind, base + 0.15 * lateral + 0.4 * inward),
        blend(base * 0.2 + rim_back * 0.8 - behind, base + 0.3 * lateral + 0.8 * inward),
        blend(rim_back, base + 0.6 * lateral + 1.2 * inward),
        blend(rim, base + 1.0 * lateral + 1.7 * inward),
        blend(rim_front, base + 1.5 * lateral + 2.3 * inward),
    ]
    tragus = np.exp(-(((sa + 0.12) / 0.25) ** 2)) * front
    for fraction, height, depth in _EAR_INNER:
        h = height * (1 - lobule) + 0.3 * lobule
        if height > 0 and fraction < 0.7:
            h = h * (0.55 + 0.45 * smoothstep(0.5, -0.6, ca))
        sink = 1.6 - 0.9 * max(depth - 2.9, 0.0) + tragus * 4.0 * np.exp(-(((depth - 3.6) / 1.3) ** 2))
        lift = {0.91: 2.0, 0.83: 0.3, 0.74: -0.8}.get(fraction)
        out.append(blend(place(fraction, h, lift), base + inward * depth + sink[:, None] * lateral))
    centre = EAR_CENTRE + _CONCHA[0] * _EAR_BACK + _CONCHA[1] * _EAR_UP - 9.5 * lateral
    loops = [base, *out, np.repeat(centre[None], len(base), axis=0)]
    for _ in range(3):
        smooth = list(loops)
        for k in range(1, len(loops) - 1):
            around = np.roll(loops[k], 1, axis=0) + np.roll(loops[k], -1, axis=0)
            smooth[k] = 0.6 * loops[k] + 0.1 * (around + loops[k - 1] + loops[k + 1])
        loops = smooth
    return loops[1:-1], centre


def add_ears(b: MeshBuilder) -> None:
    """Both pinnae, grown from the skin's ear ring."""
    base = b.skin.ring_ids(Kind.EAR, 0)
    loops, centre = ear_rings(b.skin.vertices[base])
    grids = [[base], [b.skin.mirror[base]]]
    for loop in loops:
        for grid, ids in zip(grids, b.add_pair(loop, (Part.EAR, Part.EAR)), strict=True):
            grid.append(ids)
    poles = b.add_pair(centre[None], (Part.EAR, Part.EAR))
    for name, grid, pole in zip(("left_ear", "right_ear"), grids, poles, strict=True):
        b.patches.append(Patch(name, Part.EAR, np.stack(grid), "disc", last=int(pole[0])))


def add_lid_interiors(b: MeshBuilder) -> Int[ndarray, "2 R N"]:
    """The inside of both eyes' lids, from the lid edge back around the eyeball; returns rings by side."""
    edge = b.skin.ring_ids(Kind.EYE, 0)
    p = b.skin.vertices[edge] - anatomy.EYE_CENTRE
    rho = np.hypot(p[:, 0], p[:, 1])
    alpha = np.arcsin(np.clip(rho / 14.9, 0, 0.985))
    outward = p[:, :2] / rho[:, None]
    corner = np.clip((rho - 11.0) / 3.0, 0, 1)[:, None]
    inner = anatomy.LID_INNER_RADIUS
    grids = [[edge], [b.skin.mirror[edge]]]
    # Near the corners the first two rings stay behind the lid edge instead: that makes the caruncle.
    for radius, angle, set_back in (
        (inner, alpha * 0.97, 1.2),
        (inner, alpha * 1.08 + 0.06, 3.0),
        (inner + 0.45, alpha * 1.1 + 0.45, None),
        (inner + 0.65, np.full_like(alpha, 1.85), None),
    ):
        q = np.concatenate([outward * (radius * np.sin(angle))[:, None], (radius * np.cos(angle))[:, None]], axis=1)
        if set_back is not None:
            q = q * (1 - corner) + (p * [0.96, 0.9, 1.0] - [0, 0, set_back]) * corner
        for grid, ids in zip(grids, b.add_pair(q + anatomy.EYE_CENTRE, (Part.LID, Part.LID)), strict=True):
            grid.append(ids)
    for name, grid in zip(("left_lid", "right_lid"), grids, strict=True):
        b.patches.append(Patch(name, Part.LID, np.stack(grid), "disc"))
    return np.stack([np.stack(g) for g in grids])


# Rings of the mouth's cavity behind the lip line: set back, half height, width scale.
_BAG = (
    (1.6, 1.2, 1.0), (3.6, 4.0, 1.0), (5.4, 7.8, 1.0), (9.5, 9.4, 0.95), (14.5, 8.8, 0.87), (24.0, 8.4, 0.76),
    (38.0, 7.0, 0.55),
)  # fmt: skip


def add_mouth_bag(b: MeshBuilder) -> Int[ndarray, "R N"]:
    """The mouth's cavity as a bag behind the lip line; returns its rings."""
    upper, lower = b.skin.ring_ids(Kind.LIP_UPPER, 0), b.skin.ring_ids(Kind.LIP_LOWER, 0)
    mirror = b.skin.mirror
    # Left corner, upper line to the right corner, lower line back.
    loop = np.concatenate([upper, mirror[upper[-2::-1]], mirror[lower[1:]], lower[-2:0:-1]])
    n, m = len(loop), rings.MOUTH_COLUMNS
    side = np.where(np.arange(n) < 2 * m - 1, 1, -1)
    side[[0, 2 * m - 2]] = 0
    column_mirror = (2 * m - 2 - np.arange(n)) % n
    line = b.skin.vertices[loop]
    x = np.abs(line[:, 0]) / anatomy.MOUTH_HALF_WIDTH
    bulge = np.sqrt(np.clip(1 - x * x, 0, 1))
    grid = [loop]
    for set_back, half_height, narrow in _BAG:
        q = line.copy()
        q[:, 0] *= narrow * (1 - 0.05 * min(set_back / 4, 1))
        q[:, 0] -= np.sign(q[:, 0]) * 1.2 * x**4
        q[:, 2] -= set_back * (1 - 0.25 * x)
        q[:, 1] = -65.2 + (q[:, 1] + 65.2) * 0.6 + side * half_height * (0.12 + 0.88 * bulge)
        if set_back > 10:
            q[:, 2] = q[:, 2] * 0.4 + 0.6 * (96 - set_back)
        grid.append(b.add(q, Part.MOUTH_BAG, column_mirror, side))
    pole = b.add(np.array([[0.0, -65.5, 52.0]]), Part.MOUTH_BAG, np.zeros(1, dtype=int))
    b.patches.append(Patch("mouth_bag", Part.MOUTH_BAG, np.stack(grid), "disc", last=int(pole[0])))
    return np.stack(grid)
