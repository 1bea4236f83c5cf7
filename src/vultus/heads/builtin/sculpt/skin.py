"""Skin topology: feature rings and graded fill points on the chart's sphere, triangulated there and carried over.

Only the left half is triangulated; the right half is its mirror image, so the mesh is exactly symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import ConvexHull, KDTree

from . import chart, rings
from .field import HeadField
from .primitives import Points, Values, rows, smoothstep


class Kind(IntEnum):
    """What placed a skin vertex."""

    FILL = 0
    EYE = 1
    LIP_UPPER = 2
    LIP_LOWER = 3
    EAR = 4
    MIDLINE = 5
    BOTTOM = 6


@dataclass(frozen=True)
class Skin:
    """The skin in millimetres; vertex ``i`` was placed by ring ``ring[i]``, column ``column[i]`` of ``kind[i]``.

    Vertices below ``half`` lie on the left or on the midline; ``mirror`` maps each of these to its mirror image.
    """

    vertices: Points
    faces: Int[ndarray, "F 3"]
    directions: Points
    kind: Int[ndarray, "V"]
    ring: Int[ndarray, "V"]
    column: Int[ndarray, "V"]
    mirror: Int[ndarray, "half"]

    @property
    def half(self) -> int:
        """Number of left and midline vertices."""
        return len(self.mirror)

    def ring_ids(self, kind: Kind, ring: int) -> Int[ndarray, "N"]:
        """Left vertices of a ring in column order; lower-lip rings start with the shared corner."""
        ids = np.flatnonzero((self.kind[: self.half] == kind) & (self.ring[: self.half] == ring))
        if kind == Kind.LIP_LOWER:
            return np.r_[self.ring_ids(Kind.LIP_UPPER, ring)[:1], ids]
        return ids


def spacing(points: Points) -> Values:
    """Wanted edge length (mm) at a place of the head."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]

    def far(distance: Values) -> Values:
        return np.clip(distance, 0, 99)

    face = smoothstep(10, 55, z) * smoothstep(75, 40, y) * smoothstep(-125, -112, y)
    h = 7.2 * (1 - face) + 3.0 * face
    forehead = smoothstep(25, 60, y) * face
    h = h * (1 - forehead) + 4.6 * forehead
    h = np.minimum(h, 2.1 + 0.30 * far(np.sqrt(x**2 + ((y + 30) / 1.5) ** 2 + (z - 104) ** 2) - 15))
    h = np.minimum(h, 2.8 + 0.22 * far(np.hypot(x - 31.5, y * 1.2) - 22) + (z < 40) * 9)
    h = np.minimum(h, 2.8 + 0.20 * far(np.hypot(x, (y + 66) * 1.3) - 34) + (z < 40) * 9)
    h = np.minimum(h, 4.2 + 0.18 * far(np.hypot(y + 20, z + 5) - 26) + (x < 40) * 9)
    return np.where(y < -122, 7.5, h)


def inside_outline(outline: Points, directions: Points, grow: float = 1.0) -> Bool[ndarray, "N"]:
    """Which directions lie inside a closed outline on the sphere, seen in the gnomonic projection about its middle."""
    middle = rows(outline.mean(axis=0)[None])[0]
    u = rows(np.cross(middle, [0.0, 1.0, 0.0])[None])[0]
    v = np.cross(middle, u)

    def project(d: Points) -> Float[ndarray, "N 2"]:
        return np.stack([d @ u, d @ v], axis=1) / np.maximum(d @ middle, 1e-6)[:, None]

    polygon = project(outline) * grow
    ahead = np.flatnonzero(directions @ middle > 0.3)
    q = project(directions[ahead])
    a, b = polygon, np.roll(polygon, -1, axis=0)
    crosses = (a[None, :, 1] > q[:, None, 1]) != (b[None, :, 1] > q[:, None, 1])
    rise = np.where(np.abs(b[:, 1] - a[:, 1]) < 1e-15, 1e-15, b[:, 1] - a[:, 1])
    at = a[:, 0] + (q[:, None, 1] - a[:, 1]) / rise * (b[:, 0] - a[:, 0])
    result = np.zeros(len(directions), dtype=bool)
    result[ahead] = (crosses & (q[:, None, 0] < at)).sum(axis=1) % 2 == 1
    return result


def _throw_darts(candidates: Points, radius: Values, fixed: Points, fixed_radius: Values) -> Bool[ndarray, "N"]:
    """Greedy Poisson sampling: keeps a candidate farther than .88 of the mean radius from all kept so far."""
    kept = np.concatenate([fixed, np.empty_like(candidates)])
    kept_radius = np.concatenate([fixed_radius, np.empty(len(candidates))])
    count = len(fixed)
    keep = np.zeros(len(candidates), dtype=bool)
    for i in np.flatnonzero(candidates[:, 0] > 0.55 * radius):
        reach = 0.44 * (radius[i] + kept_radius[:count])
        gap = kept[:count] - candidates[i]
        if (np.einsum("ij,ij->i", gap, gap) < reach * reach).any():
            continue
        kept[count], kept_radius[count] = candidates[i], radius[i]
        count += 1
        keep[i] = True
    return keep


class _HalfBuilder:
    """Collects the left half's points: chart direction, origin (kind, ring, column) and fixed position or NaN."""

    def __init__(self, field: HeadField) -> None:
        self.field = field
        self.directions: list[Points] = []
        self.positions: list[Points] = []
        self.tags: list[Int[ndarray, "N 3"]] = []

    def add(self, points: Points, kind: Kind, ring: int, directions: Points | None = None) -> None:
        self.directions.append(chart.direction_of(points) if directions is None else directions)
        self.positions.append(points)
        column = np.arange(len(points))
        self.tags.append(np.stack([np.full_like(column, kind), np.full_like(column, ring), column], axis=1))

    def arrays(self) -> tuple[Points, Points, Int[ndarray, "N 3"]]:
        return np.concatenate(self.directions), np.concatenate(self.positions), np.concatenate(self.tags)

    def add_features(self) -> None:
        for k, ring in enumerate(rings.eye_rings()):
            self.add(self.field.from_front(ring), Kind.EYE, k)
        spread = np.linspace(0, 1, rings.MOUTH_COLUMNS) ** 0.6
        for k, halves in enumerate(rings.mouth_rings()):
            for half, (kind, sign) in zip(halves, ((Kind.LIP_UPPER, 1.0), (Kind.LIP_LOWER, -1.0)), strict=True):
                points = self.field.from_front(half)
                start = 0 if kind == Kind.LIP_UPPER else 1  # the corner belongs to the upper half
                where = points.copy()
                if k == 0:  # upper and lower lip touch in space but not on the sphere
                    where[:, 1] += sign * 1.1 * spread
                self.add(points[start:], kind, k, chart.direction_of(where[start:]))
        base, around = rings.ear_rings()
        self.add(self.field.from_side(base), Kind.EAR, 0)
        self.add(self.field.from_side(around), Kind.EAR, 1)

    def add_midline(self) -> None:
        directions, _, _ = self.arrays()
        mouth = chart.latitude(directions[np.abs(directions[:, 0]) < 1e-9])
        lat = np.radians(np.linspace(90, chart.BOTTOM_LATITUDE, 1500))
        for lon in (0.0, np.pi):
            d = chart.direction(np.full_like(lat, lon), lat)
            d[:, 0] = 0.0
            points, _ = chart.to_surface(self.field, d)
            points[:, 0] = 0.0
            h = spacing(points)
            steps = np.linalg.norm(np.diff(points, axis=0), axis=1) / (0.5 * (h[1:] + h[:-1]))
            s = np.r_[0.0, np.cumsum(steps)]
            wanted = np.linspace(0, s[-1], round(s[-1]) + 1)
            ids = np.interp(wanted, s, np.arange(len(s))).round().astype(int)
            if lon == 0.0:
                deg = chart.latitude(d[ids])
                ids = ids[(deg > mouth.max() + 1.0) | (deg < mouth.min() - 1.0)]
            else:
                ids = ids[1:]
            self.add(points[ids], Kind.MIDLINE, int(lon > 0), d[ids])

    def add_bottom(self) -> None:
        lon = np.linspace(0, np.pi, 26)[1:-1]
        d = chart.direction(lon, np.full_like(lon, np.radians(chart.BOTTOM_LATITUDE)))
        points, _ = chart.to_surface(self.field, d)
        self.add(points, Kind.BOTTOM, 0, d)


def _candidates() -> Points:
    """Spiral points over the left half of the sphere, denser in the southern cap that becomes the neck."""
    turn = np.pi * (3 - np.sqrt(5))
    i = np.arange(22000) + 0.5
    j = np.arange(14000) + 0.5
    parts = []
    for n, y in ((i, 1 - 2 * i / 22000), (j, -1 + j / 14000 * 0.36)):
        r = np.sqrt(1 - y * y)
        parts.append(np.stack([r * np.sin(n * turn), y, r * np.cos(n * turn)], axis=1))
    d = np.concatenate(parts)
    return d[(d[:, 0] > 0) & (d[:, 1] > np.sin(np.radians(chart.BOTTOM_LATITUDE + 0.4)))]


def _triangulate(directions: Points) -> Int[ndarray, "F 3"]:
    """Spherical Delaunay triangles of the left half: convex hull of the points and their mirror images."""
    off = np.flatnonzero(np.abs(directions[:, 0]) > 1e-9)
    both = np.concatenate([directions, directions[off] * [-1, 1, 1]])
    f = ConvexHull(both).simplices
    normal = np.cross(both[f[:, 1]] - both[f[:, 0]], both[f[:, 2]] - both[f[:, 0]])
    inward = (normal * both[f].mean(axis=1)).sum(axis=1) < 0
    f[inward] = f[inward][:, [0, 2, 1]]
    straddling = (both[f][:, :, 0] > 1e-9).any(axis=1) & (both[f][:, :, 0] < -1e-9).any(axis=1)
    southern = both[f].mean(axis=1)[:, 1] < -0.99
    if (straddling & ~southern).any():
        raise ValueError("triangles of the sculpt straddle the midline")
    left = (f < len(directions)).all(axis=1) & (both[f].mean(axis=1)[:, 0] > 1e-7)
    f = f[left]
    # A canonical order makes the topology independent of the order in which the hull was found.
    f = np.take_along_axis(f, (np.argmin(f, axis=1)[:, None] + np.arange(3)) % 3, axis=1)
    return f[np.lexsort(f.T[::-1])]


def ring_strip(inner: Int[ndarray, "N"], outer: Int[ndarray, "N"], *, closed: bool) -> Int[ndarray, "F 3"]:
    """Two triangles per quad between two rings of equal length."""
    i = np.arange(len(inner) if closed else len(inner) - 1)
    j = (i + 1) % len(inner)
    first = np.stack([inner[i], inner[j], outer[j]], axis=1)
    second = np.stack([inner[i], outer[j], outer[i]], axis=1)
    return np.stack([first, second], axis=1).reshape(-1, 3)


def edges_of(faces: Int[ndarray, "F 3"]) -> Int[ndarray, "E 2"]:
    """Undirected edges, each once."""
    e = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(e, axis=1), axis=0)


def neighbour_mean(values: Float[ndarray, "V K"], edges: Int[ndarray, "E 2"]) -> Float[ndarray, "V K"]:
    """Mean over the vertices joined to each vertex by an edge; a vertex without edges keeps its own value."""
    total, count = np.zeros_like(values), np.zeros((len(values), 1))
    for a, b in ((0, 1), (1, 0)):
        np.add.at(total, edges[:, a], values[edges[:, b]])
        np.add.at(count, edges[:, a], 1)
    return np.where(count > 0, total / np.maximum(count, 1), values)


def build_skin(field: HeadField) -> Skin:
    """Triangulated skin of both halves."""
    builder = _HalfBuilder(field)
    builder.add_features()
    builder.add_midline()
    builder.add_bottom()
    d0, x0, t0 = builder.arrays()

    def ring(kind: Kind, k: int, tags: Int[ndarray, "N 3"]) -> Int[ndarray, "M"]:
        return np.flatnonzero((tags[:, 0] == kind) & (tags[:, 1] == k))

    last_eye, last_mouth = len(rings.EYE_OFFSETS) - 1, rings.MOUTH_RINGS - 1
    upper, lower = d0[ring(Kind.LIP_UPPER, last_mouth, t0)], d0[ring(Kind.LIP_LOWER, last_mouth, t0)]
    flip = np.array([-1.0, 1.0, 1.0])
    mouth = np.concatenate([upper, (upper * flip)[-2::-1], (lower * flip)[:-1], lower[::-1]])
    outlines = [d0[ring(Kind.EYE, last_eye, t0)], mouth, d0[ring(Kind.EAR, 1, t0)]]

    def in_ring_region(d: Points) -> Bool[ndarray, "N"]:
        return np.any([inside_outline(o, d, 1.05) for o in outlines], axis=0)

    # Fill points.
    candidates = _candidates()
    candidates = candidates[~in_ring_region(candidates)]
    points, hit = chart.to_surface(field, candidates)
    candidates, points = candidates[hit], points[hit]
    radius = spacing(points) / chart.millimetres_per_radian(candidates, points)
    order = np.random.default_rng(1).permutation(len(candidates))
    candidates, radius = candidates[order], radius[order]
    fixed_radius = spacing(x0) / chart.millimetres_per_radian(d0, x0)
    fixed_radius[t0[:, 0] < Kind.MIDLINE] *= 0.8
    keep = _throw_darts(candidates, radius, d0, fixed_radius)
    fill, fill_radius = candidates[keep], radius[keep]

    d = np.concatenate([d0, fill])
    tags = np.concatenate([t0, np.zeros((len(fill), 3), dtype=int)])
    kind, k = tags[:, 0], tags[:, 1]
    inner = ((kind == Kind.EYE) & (k < last_eye)) | ((kind == Kind.EAR) & (k < 1))
    inner |= ((kind == Kind.LIP_UPPER) | (kind == Kind.LIP_LOWER)) & (k < last_mouth)
    is_fill = kind == Kind.FILL
    for _ in range(6):
        outer = np.flatnonzero(~inner)
        f = outer[_triangulate(d[outer])]
        area = np.linalg.norm(np.cross(d[f[:, 1]] - d[f[:, 0]], d[f[:, 2]] - d[f[:, 0]]), axis=1) ** 0.35
        total, weight = np.zeros_like(d), np.zeros(len(d))
        for corner in range(3):
            np.add.at(total, f[:, corner], d[f].mean(axis=1) * area[:, None])
            np.add.at(weight, f[:, corner], area)
        moved = 0.3 * d[is_fill] + 0.7 * total[is_fill] / weight[is_fill][:, None]
        moved[:, 0] = np.maximum(moved[:, 0], 0.56 * fill_radius)
        moved = rows(moved)
        stuck = in_ring_region(moved)
        moved[stuck] = d[is_fill][stuck]
        d[is_fill] = moved
    stay = np.ones(len(d), dtype=bool)
    stay[np.flatnonzero(is_fill)[in_ring_region(d[is_fill])]] = False
    d, tags, inner = d[stay], tags[stay], inner[stay]
    outer = np.flatnonzero(~inner)
    f = outer[_triangulate(d[outer])]

    # Open the regions inside the outermost rings, then fill them with structured strips.
    def opened(f: Int[ndarray, "F 3"], outline: Points, ids: Int[ndarray, "N"]) -> Int[ndarray, "F 3"]:
        corners = d[f]
        longest = np.max([np.linalg.norm(corners[:, i] - corners[:, (i + 1) % 3], axis=1) for i in range(3)], axis=0)
        typical = np.median(KDTree(d[ids]).query(d[ids], k=2)[0][:, 1])
        hole = inside_outline(outline, rows(corners.mean(axis=1))) | (longest > 2.2 * typical)
        return f[~(hole & np.isin(f, ids).all(axis=1))]

    upper_ids, lower_ids = ring(Kind.LIP_UPPER, last_mouth, tags), ring(Kind.LIP_LOWER, last_mouth, tags)
    f = opened(f, outlines[0], ring(Kind.EYE, last_eye, tags))
    f = opened(f, outlines[1], np.r_[upper_ids, lower_ids])
    f = opened(f, outlines[2], ring(Kind.EAR, 1, tags))
    rim = np.flatnonzero((tags[:, 0] == Kind.BOTTOM) | ((tags[:, 0] == Kind.MIDLINE) & (d[:, 1] < -0.9961)))
    f = f[~np.isin(f, rim).all(axis=1)]

    strips = [ring_strip(ring(Kind.EYE, a, tags), ring(Kind.EYE, a + 1, tags), closed=True) for a in range(last_eye)]
    for a in range(last_mouth):
        top, top_out = ring(Kind.LIP_UPPER, a, tags), ring(Kind.LIP_UPPER, a + 1, tags)
        strips.append(ring_strip(top, top_out, closed=False))
        bottom = np.r_[top[:1], ring(Kind.LIP_LOWER, a, tags)]
        bottom_out = np.r_[top_out[:1], ring(Kind.LIP_LOWER, a + 1, tags)]
        strips.append(ring_strip(bottom, bottom_out, closed=False))
    strips.append(ring_strip(ring(Kind.EAR, 0, tags), ring(Kind.EAR, 1, tags), closed=True))
    for s in strips:
        normal = np.cross(d[s[:, 1]] - d[s[:, 0]], d[s[:, 2]] - d[s[:, 0]])
        f = np.concatenate([f, s if (normal * d[s].mean(axis=1)).sum() > 0 else s[:, [0, 2, 1]]])

    x = np.full_like(d, np.nan)
    x[: len(x0)] = x0
    x[len(x0) :], hit = chart.to_surface(field, d[len(x0) :])
    if not hit.all():
        raise ValueError("a ray of the chart misses the head")
    x = _relax(field, x, d, f, tags)
    return _mirrored(x, d, f, tags)


def _relax(field: HeadField, x: Points, d: Points, f: Int[ndarray, "F 3"], tags: Int[ndarray, "V 3"]) -> Points:
    """Evens out the fill points along the surface (tangential Laplacian), reprojecting onto the field."""
    edges = edges_of(f)
    moving = tags[:, 0] == Kind.FILL
    # The chart's rays graze the shoulders, whose triangles need more passes.
    for chosen, passes in ((moving, 5), (moving & (x[:, 1] < -122), 30)):
        for _ in range(passes):
            pull = neighbour_mean(x, edges)[chosen] - x[chosen]
            normal = field.normal(x[chosen])
            p = x[chosen] + 0.45 * (pull - normal * (pull * normal).sum(axis=1, keepdims=True))
            for _ in range(2):
                p = p - field.normal(p) * np.clip(field.distance(p), -2, 2)[:, None] * 0.9
            x[chosen] = p
    x[np.abs(d[:, 0]) < 1e-9, 0] = 0.0
    return x


def _mirrored(x: Points, d: Points, f: Int[ndarray, "F 3"], tags: Int[ndarray, "V 3"]) -> Skin:
    off = np.abs(d[:, 0]) > 1e-9
    mirror = np.arange(len(d))
    mirror[off] = len(d) + np.arange(off.sum())
    flip = np.array([-1.0, 1.0, 1.0])
    all_tags = np.concatenate([tags, tags[off]])
    return Skin(
        vertices=np.concatenate([x, x[off] * flip]),
        faces=np.concatenate([f, mirror[f][:, [0, 2, 1]]]),
        directions=np.concatenate([d, d[off] * flip]),
        kind=all_tags[:, 0],
        ring=all_tags[:, 1],
        column=all_tags[:, 2],
        mirror=mirror,
    )
