"""Colour of the head as a function of template position and part, in six styles, with soft masks and occlusion."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from . import anatomy
from .field import HeadField
from .mesh import HeadMesh, Part
from .primitives import Points, Values, smoothstep
from .solids import tooth_phase

Colours = Float[ndarray, "N 3"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """Base colours (sRGB in [0, 1]) of a person's look."""

    skin: Triple
    lip: Triple
    hair: Triple
    brow: Triple
    iris: Triple
    blush: float = 0.7
    stubble: float = 0.0
    hairline: float = 0.0
    """Millimetres the hairline sits higher than usual."""


STYLES: dict[str, Style] = {
    "a": Style(
        skin=(0.80, 0.615, 0.53), lip=(0.755, 0.47, 0.44), hair=(0.16, 0.105, 0.075), brow=(0.17, 0.115, 0.085),
        iris=(0.33, 0.22, 0.12),
    ),
    "b": Style(
        skin=(0.91, 0.74, 0.65), lip=(0.86, 0.55, 0.52), hair=(0.52, 0.36, 0.20), brow=(0.42, 0.29, 0.18),
        iris=(0.32, 0.45, 0.55),
    ),
    "c": Style(
        skin=(0.44, 0.29, 0.215), lip=(0.42, 0.235, 0.215), hair=(0.06, 0.05, 0.045), brow=(0.07, 0.05, 0.04),
        iris=(0.16, 0.09, 0.05), blush=0.25,
    ),
    "d": Style(
        skin=(0.85, 0.68, 0.55), lip=(0.78, 0.49, 0.45), hair=(0.05, 0.045, 0.045), brow=(0.07, 0.06, 0.05),
        iris=(0.18, 0.10, 0.06), hairline=3,
    ),
    "e": Style(
        skin=(0.76, 0.57, 0.47), lip=(0.66, 0.41, 0.37), hair=(0.11, 0.08, 0.06), brow=(0.10, 0.07, 0.06),
        iris=(0.30, 0.36, 0.20), stubble=0.75,
    ),
    "f": Style(
        skin=(0.62, 0.43, 0.32), lip=(0.56, 0.33, 0.30), hair=(0.07, 0.055, 0.05), brow=(0.07, 0.055, 0.05),
        iris=(0.20, 0.12, 0.07), blush=0.4, hairline=-4,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Places:
    """Where colour is asked for: template positions (mm), part, and the lip and lid masks there."""

    position: Points
    part: Int[ndarray, "N"]
    lip: Values
    lid: Values
    _noise: dict[tuple[float, Triple], Values] = field(default_factory=dict, repr=False)

    @classmethod
    def of_vertices(cls, mesh: HeadMesh) -> Places:
        """The mesh's vertices."""
        return cls(mesh.vertices, mesh.part, mesh.lip, mesh.lid)

    def noise(self, frequency: float, stretch: Triple = (1.0, 1.0, 1.0)) -> Values:
        """Smooth value noise in [-.5, .5] of a frequency (cycles per mm); kept, since all styles share it."""
        key = (frequency, stretch)
        if key not in self._noise:
            self._noise[key] = value_noise(self.position * np.asarray(stretch) * frequency)
        return self._noise[key]

    def brow_hairs(self) -> Values:
        """Noise along the slant of the eyebrows' hairs."""
        key = (0.0, (0.0, 0.0, 0.0))
        if key not in self._noise:
            x, y, z = np.abs(self.position[:, 0]), self.position[:, 1], self.position[:, 2]
            self._noise[key] = value_noise(1.1 * np.stack([x * 1.2 + y * 0.8, y * 0.35, z * 0.2], axis=1))
        return self._noise[key]


_LATTICE = np.random.default_rng(0).random((32, 32, 32))


def value_noise(points: Points) -> Values:
    """Random lattice values in [-.5, .5], blended smoothly; period 32."""
    cell = np.floor(points).astype(np.int32)
    t = points - cell
    t = t * t * (3 - 2 * t)
    (i0, j0, k0), (i1, j1, k1) = (cell % 32).T, ((cell + 1) % 32).T
    u, v, w = t.T

    def along_x(j: ndarray, k: ndarray) -> Values:
        a = _LATTICE[i0, j, k]
        return a + (_LATTICE[i1, j, k] - a) * u

    near = along_x(j0, k0)
    near = near + (along_x(j1, k0) - near) * v
    far = along_x(j0, k1)
    far = far + (along_x(j1, k1) - far) * v
    return near + (far - near) * w - 0.5


def _over_hairline(p: Points) -> Values:
    """Height (mm) above the hairline, measured along y."""
    lon = np.arctan2(np.abs(p[:, 0]), p[:, 2] + 10)
    knots = [0, 0.35, 0.62, 0.85, 1.0, 1.2, 1.38, 1.5, 1.75, 2.2, 3.14]
    return p[:, 1] - np.interp(lon, knots, [76, 74, 70, 58, 38, 18, -10, -2, -6, -50, -66])


def hair_lift(places: Places) -> Values:
    """Share of its full thickness that hair has: rises from 0 at the hairline and around the ears."""
    p = places.position
    from_ear = np.hypot(p[:, 1] + 18, p[:, 2] + 8) - 32
    beside = np.maximum(smoothstep(0, 30, from_ear), smoothstep(50, 20, np.abs(p[:, 0])))
    return smoothstep(-2, 34, _over_hairline(p)) * beside * (places.part == Part.SKIN)


def hair_weight(places: Places, hairline: float = 0.0, rough: bool = False) -> Values:
    """1 where hair grows on the scalp, 0 elsewhere; ``rough`` adds the irregular edge that is painted."""
    p = places.position
    edge = _over_hairline(p) - hairline
    if rough:
        noise = places.noise
        edge = edge + 9 * (noise(0.8, (1, 0.25, 0.25)) + 0.6 * noise(1.9)) + 5 * noise(0.18)
    return smoothstep(-3, 5, edge) * smoothstep(-86, -76, p[:, 1]) * (places.part == Part.SKIN)


def brow_weight(places: Places, rough: bool = False) -> Values:
    """1 on the eyebrows."""
    p = places.position
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    curve = anatomy.BROW_CURVE
    middle, half = np.interp(x, curve[:, 0], curve[:, 1]), np.interp(x, curve[:, 0], curve[:, 2], left=0.1, right=0.1)
    off = np.abs(y - middle) / half
    if rough:
        off = off + 0.8 * places.brow_hairs()
    ends = smoothstep(7.5, 12, x) * smoothstep(49.5, 43, x)
    return smoothstep(1.15, 0.35, off) * ends * smoothstep(50, 55, z) * (places.part == Part.SKIN)


def lip_weight(places: Places) -> Values:
    """1 on the vermilion of the lips."""
    return smoothstep(0.25, 0.75, places.lip)


def paint(places: Places, style: Style) -> Colours:
    """sRGB colours of all places in a style."""
    p, part = places.position, places.part
    colour = _skin(places, style)
    for k, own in (
        (Part.LID, _lid_interior),
        (Part.MOUTH_BAG, _mouth_bag),
        (Part.TONGUE, _tongue),
        (Part.TEETH_UPPER, _teeth),
        (Part.TEETH_LOWER, _teeth),
    ):
        chosen = part == k
        if chosen.any():
            colour[chosen] = own(p[chosen])
    for k in (Part.LEFT_EYE, Part.RIGHT_EYE):
        chosen = part == k
        if chosen.any():
            colour[chosen] = _eye(p[chosen], style)
    return np.clip(colour, 0, 1)


def _tint(colour: Colours, weight: Values, factor: Triple) -> Colours:
    w = np.clip(weight, 0, 1)[:, None]
    return colour * (1 - w + w * np.asarray(factor))


def _over(colour: Colours, top: Colours, weight: Values) -> Colours:
    return colour + (top - colour) * np.clip(weight, 0, 1)[:, None]


def _skin(places: Places, style: Style) -> Colours:
    p = places.position
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    noise = places.noise
    low, mid, fine, finest = noise(0.045), noise(0.18), noise(0.9), noise(2.3)

    def spot(cx: float, cy: float, sx: float, sy: float) -> Values:
        return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2) * smoothstep(20, 60, z)

    c = np.tile(np.asarray(style.skin), (len(p), 1)) * (1 + 0.05 * (low + mid + fine) + 0.04 * finest)[:, None]
    blush = style.blush
    c = _tint(c, 0.55 * blush * spot(34, -30, 17, 14), (1.0, 0.80, 0.78))
    c = _tint(c, 0.6 * blush * spot(0, -34, 16, 9) * smoothstep(90, 105, z), (1.0, 0.78, 0.75))
    c = _tint(c, 0.35 * blush * spot(0, -97, 18, 10), (1.0, 0.86, 0.84))
    c = _tint(c, 0.45 * spot(31, -9, 15, 6), (0.84, 0.72, 0.74))
    c = _tint(c, 0.5 * spot(30, 9, 15, 5), (0.86, 0.72, 0.68))
    crease = np.interp(x, [17, 24, 31, 38, 47], [6.0, 9.4, 10.4, 9.4, 4.0])
    fold = np.exp(-(((y - crease) / 0.9) ** 2)) * smoothstep(16, 22, x) * smoothstep(48, 42, x) * (z > 60)
    c = _tint(c, 0.5 * fold, (0.72, 0.56, 0.52))
    c = _tint(c, 0.35 * spot(0, 45, 45, 22), (1.0, 0.98, 0.90))
    if style.stubble:
        edge = -50 + 1.05 * np.clip(x - 36, 0, 40) - 9 * np.exp(-(((x - 27) / 7) ** 2))
        beard = smoothstep(5, -9, y - edge + 5 * mid) * smoothstep(-128, -104, y) * smoothstep(-4, 14, z)
        c = _tint(c, style.stubble * beard * (0.7 + 1.2 * fine + finest), (0.42, 0.42, 0.46))
    ear = places.part == Part.EAR
    c[ear] *= [1.0, 0.92, 0.90]

    wrinkles = noise(0.7, (3.0, 0.4, 1.0))
    lip = np.asarray(style.lip) * (1 + 0.12 * fine + 0.1 * wrinkles)[:, None]
    lip = lip * (1 - 0.25 * smoothstep(0.97, 1.0, places.lip))[:, None]
    c = _over(c, lip, smoothstep(0.25, 0.75, places.lip + 0.08 * fine))
    lashes = smoothstep(0.55, 0.95, places.lid) * (0.35 + 0.55 * smoothstep(-3, 2, y))
    c = _tint(c, 0.85 * lashes, (0.28, 0.20, 0.18))
    nostril = np.exp(-(((x - 6.4) / 3.0) ** 2) - ((y + 41.2) / 2.2) ** 2 - ((z - 101) / 5.0) ** 2)
    c = _tint(c, 1.3 * nostril, (0.35, 0.20, 0.18))
    c = _over(
        c, np.asarray(style.brow) * (1 + 0.5 * places.brow_hairs())[:, None], 0.85 * brow_weight(places, rough=True)
    )
    strands = 0.7 * noise(0.8, (1, 0.25, 0.25)) + 0.7 * noise(1.9, (1, 0.2, 0.3)) + 0.3 * low
    hair = np.asarray(style.hair) * (1 + 0.75 * strands)[:, None]
    return _over(c, hair, 0.93 * hair_weight(places, style.hairline, rough=True))


def _lid_interior(p: Points) -> Colours:
    return np.array([0.74, 0.50, 0.46]) * (1 - 0.35 * np.clip((80 - p[:, 2]) / 6, 0, 1))[:, None]


def _mouth_bag(p: Points) -> Colours:
    return np.array([0.55, 0.26, 0.25]) * np.clip((p[:, 2] - 55) / 38, 0.12, 1)[:, None]


def _tongue(p: Points) -> Colours:
    shade = 0.45 + 0.55 * smoothstep(52, 78, p[:, 2])
    return (
        np.array([0.80, 0.43, 0.42])
        * (shade * (1 + 0.10 * value_noise(p * 0.9) + 0.08 * value_noise(p * 2.3)))[:, None]
    )


def _teeth(p: Points) -> Colours:
    upper = p[:, 1] > -66.5
    from_gum = np.where(upper, (-57.5 - p[:, 1]) / 8.9, (p[:, 1] + 74.8) / 8.2)
    gum = smoothstep(0.20, 0.10, from_gum)
    gap = smoothstep(0.18, 0.0, np.abs(np.sin(np.pi * tooth_phase(p[:, 0]))))
    tooth = np.array([0.93, 0.90, 0.83]) * (1 - 0.30 * gap * (1 - gum))[:, None]
    depth = (1 - 0.45 * smoothstep(10, 24, np.abs(p[:, 0]))) * smoothstep(60, 88, p[:, 2])
    return _over(tooth, np.tile([0.72, 0.40, 0.39], (len(p), 1)), gum) * depth[:, None]


def _eye(p: Points, style: Style) -> Colours:
    q = p - anatomy.EYE_CENTRE * np.where(p[:, :1] > 0, 1.0, anatomy.MIRROR)
    r = np.hypot(q[:, 0], q[:, 1])
    front = q[:, 2] > 0
    angle = np.arctan2(q[:, 1], np.abs(q[:, 0]) * np.sign(q[:, 0]) * np.sign(p[:, 0]))
    sclera = np.array([0.90, 0.87, 0.84]) * (1 - 0.12 * smoothstep(6, 12, r))[:, None]
    sclera = sclera * (1 - np.array([0, 0.1, 0.1]) * smoothstep(6, 11, r)[:, None])
    radius = anatomy.IRIS_RADIUS
    fibres = 0.5 + 0.5 * np.sin(angle * 37 + 3 * np.sin(angle * 11))
    light = 0.75 + 0.5 * fibres * smoothstep(1.8, 4.5, r) + 0.25 * smoothstep(4, 2, r)
    iris = np.asarray(style.iris) * (light * (1 - 0.55 * smoothstep(radius - 0.95, radius + 0.05, r)))[:, None]
    c = _over(sclera, iris, smoothstep(radius + 0.25, radius - 0.25, r) * front)
    pupil = smoothstep(anatomy.PUPIL_RADIUS + 0.2, anatomy.PUPIL_RADIUS - 0.2, r) * front
    return _over(c, np.full_like(c, 0.02), pupil)


def ambient_occlusion(field: HeadField, mesh: HeadMesh, normals: Points) -> Values:
    """Share of ambient light that reaches each vertex, in [.15, 1], probed along the normal of the distance field."""
    v = mesh.vertices
    out = np.ones(len(v))
    probed = mesh.is_part(Part.SKIN, Part.LID)
    for reach, weight in ((2.5, 0.18), (6.0, 0.2), (13.0, 0.2), (25.0, 0.2)):
        d = field.distance(v[probed] + normals[probed] * reach)
        out[probed] -= weight * np.clip(reach - d, 0, reach) / reach
    for patch in mesh.patches:
        if patch.part == Part.EAR:  # darker toward the concha, the last ring
            shade = 1 - 0.5 * smoothstep(7, 12, np.arange(len(patch.grid), dtype=float))
            out[patch.grid[1:]] = 0.95 * shade[1:, None]
            out[patch.last] = 0.45
    out[mesh.part == Part.MOUTH_BAG] = 0.35
    eyes = mesh.is_part(Part.LEFT_EYE, Part.RIGHT_EYE)
    x, y = np.abs(np.abs(v[:, 0]) - anatomy.EYE_CENTRE[0]), v[:, 1]
    shade = 1 - 0.55 * smoothstep(2.0, 6.5, y) - 0.25 * smoothstep(-3, -7, y) - 0.4 * smoothstep(9, 13, x)
    out[eyes] = np.clip(shade, 0.2, 1)[eyes]
    out[mesh.is_part(Part.TEETH_UPPER, Part.TEETH_LOWER)] = 0.75
    out[mesh.part == Part.TONGUE] = 0.6
    return np.clip(out, 0.15, 1)
