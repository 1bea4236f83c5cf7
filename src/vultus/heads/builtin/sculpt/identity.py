"""Identity components: a Gaussian process on displacement fields, conditioned on facial measurements.

A named mode is the most plausible smooth change of the whole head under which one measurement changes by one standard
deviation and the others do not; residual and asymmetric modes are the main directions of what the measurements leave
open. Means and standard deviations approximate adult averages with both sexes and several populations pooled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial import KDTree

from . import anatomy
from .mesh import HeadMesh, Part
from .primitives import Points, Values

# Nominal places of the facial landmarks (left ones of pairs); the nearest vertex of skin or ear is used.
LANDMARKS: dict[str, tuple[float, float, float]] = {
    "v": (0, 121, -8), "tr": (0, 75, 82), "m": (0, 52, 90), "g": (0, 26, 94), "n": (0, 10, 91), "rhi": (0, -12, 104),
    "prn": (0, -30.5, 116.5), "sn": (0, -42.5, 101), "ls": (0, -56.9, 101), "sto": (0, -64.8, 99),
    "li": (0, -75.8, 98), "sl": (0, -81, 93), "pg": (0, -96, 96), "gn": (0, -108, 86), "c": (0, -120, 36),
    "op": (0, 26, -95.5), "ino": (0, -20, -85), "lar": (0, -146, 28), "nap": (0, -130, -77), "eu": (75, 42, -22),
    "ft": (54, 32, 66), "te": (69, 10, 28), "zy": (66, -20, 36), "mal": (44, -22, 73), "t": (66, -22, 8),
    "go": (51, -76, 16), "jb": (36, -96, 56), "ck": (38, -55, 75), "en": (16.7, -1.2, 78), "ex": (45.3, 1, 73),
    "ps": (31, 5.1, 84), "pi": (32, -5.8, 83), "os": (32, 22, 87), "osi": (14, 19, 91), "or": (31, -22, 81),
    "mx": (18, -20, 87), "al": (16.4, -34.6, 99), "ac": (15.5, -36.5, 94), "cph": (5.3, -56, 100.5),
    "ch": (26, -65.6, 86), "sa": (80, 10, -19), "sba": (69, -52, 2), "pa": (84, -15, -27), "nk": (50, -150, -22),
}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """What one named mode changes.

    ``kind``: distance between two midline landmarks, ``width`` between a landmark and its mirror image, or one
    coordinate of a landmark. ``sd`` is one standard deviation in millimetres.
    """

    name: str
    kind: Literal["distance", "width", "x", "y", "z"]
    first: str
    second: str | None
    sd: float


def _m(name: str, kind: Literal["distance", "width", "x", "y", "z"], first: str, sd: float, second: str | None = None):
    return Measurement(name, kind, first, second, sd)


# Nose width, lip heights and lip protrusion span several populations, whose means differ by more than one SD within.
MEASUREMENTS: tuple[Measurement, ...] = (
    _m("head_length", "distance", "g", 6.8, "op"),
    _m("head_breadth", "width", "eu", 5.2),
    _m("vertex_height", "y", "v", 5.5),
    _m("forehead_height", "distance", "n", 5.0, "tr"),
    _m("forehead_width", "width", "ft", 4.6),
    _m("face_width", "width", "zy", 4.8),
    _m("jaw_width", "width", "go", 5.4),
    _m("ear_tragus_width", "width", "t", 4.8),
    _m("face_height", "distance", "n", 5.6, "gn"),
    _m("chin_height", "distance", "sto", 3.6, "gn"),
    _m("nose_height", "distance", "n", 3.2, "sn"),
    _m("nose_width", "width", "al", 4.0),
    _m("nose_protrusion", "distance", "sn", 1.8, "prn"),
    _m("nose_root_depth", "z", "n", 2.0),
    _m("nose_hump", "z", "rhi", 1.5),
    _m("nose_tip_up", "y", "prn", 2.0),
    _m("intercanthal", "width", "en", 2.8),
    _m("biocular", "width", "ex", 3.6),
    _m("eye_opening", "distance", "pi", 1.1, "ps"),
    _m("eye_cant", "y", "ex", 1.5),
    _m("eye_depth", "z", "en", 1.6),
    _m("brow_height", "y", "os", 2.2),
    _m("brow_ridge", "z", "osi", 2.0),
    _m("brow_lateral", "z", "os", 1.6),
    _m("cheekbone", "z", "mal", 2.4),
    _m("orbit_floor", "z", "or", 1.6),
    _m("paranasal", "z", "mx", 1.5),
    _m("cheek_full", "x", "ck", 2.6),
    _m("mouth_width", "width", "ch", 3.5),
    _m("philtrum", "distance", "sn", 1.9, "ls"),
    _m("upper_lip", "distance", "ls", 2.0, "sto"),
    _m("lower_lip", "distance", "sto", 2.0, "li"),
    _m("lip_protrusion_u", "z", "ls", 2.5),
    _m("lip_protrusion_l", "z", "li", 2.5),
    _m("mouth_corner", "y", "ch", 1.3),
    _m("mentolabial", "z", "sl", 1.6),
    _m("chin_protrusion", "z", "pg", 3.0),
    _m("jaw_angle", "y", "go", 4.0),
    _m("jaw_body", "x", "jb", 2.6),
    _m("forehead_slope", "z", "tr", 3.2),
    _m("forehead_bulge", "z", "m", 1.8),
    _m("temple", "x", "te", 2.2),
    _m("occiput_low", "z", "ino", 3.5),
    _m("ear_length", "distance", "sba", 3.8, "sa"),
    _m("ear_protrusion", "x", "pa", 2.6),
    _m("neck_width", "x", "nk", 3.2),
    _m("neck_front", "z", "lar", 3.0),
    _m("submental", "y", "c", 4.0),
)

RESIDUAL_MODES = 30
ASYMMETRIC_MODES = 12
SCALE_SD = 0.03
"""One standard deviation of overall size."""

_SCALES = ((80.0, 4.0), (38.0, 2.4), (17.0, 1.5))
"""Length scale and standard deviation (mm) of the prior's three kernels."""
_NOISE = 0.15
"""Share of a measurement's SD by which the others may give way: with less, nearly dependent ones make spikes."""
_ANCHORS = (("t", "y"), ("t", "z"), ("op", "y"))
"""Coordinates held still; they take rigid motion out of the modes."""

Field = Float[ndarray, "N 3 M"]


def _kernel(p: Points, q: Points, parity: float) -> Float[ndarray, "N3 M3"]:
    """Prior covariance of displacements between points, for mirror-symmetric (+1) or antisymmetric (-1) fields."""

    def isotropic(a: Points, b: Points) -> Float[ndarray, "N M"]:
        d2 = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
        d2 = np.maximum(d2, 0.0)
        return sum(s * s * np.exp(-0.5 * d2 / (length * length)) for length, s in _SCALES)  # type: ignore[return-value]

    direct, crossed = isotropic(p, q), isotropic(p, q * anatomy.MIRROR)
    out = np.zeros((len(p), 3, len(q), 3))
    for c in range(3):
        out[:, c, :, c] = 0.5 * (direct + parity * anatomy.MIRROR[c] * crossed)
    return out.reshape(len(p) * 3, len(q) * 3)


class IdentitySculptor:
    """Identity modes of a mesh."""

    def __init__(self, mesh: HeadMesh) -> None:
        self.mesh = mesh
        self.names = list(LANDMARKS)
        candidates = np.flatnonzero(mesh.is_part(Part.SKIN, Part.EAR) & (mesh.vertices[:, 0] >= 0))
        _, nearest = KDTree(mesh.vertices[candidates]).query(np.array(list(LANDMARKS.values())))
        self.landmark_ids = candidates[nearest]
        middle = [i for i, p in enumerate(LANDMARKS.values()) if p[0] == 0]
        on_midline = candidates[mesh.vertices[candidates, 0] == 0]
        _, nearest = KDTree(mesh.vertices[on_midline]).query(np.array(list(LANDMARKS.values()))[middle])
        self.landmark_ids[middle] = on_midline[nearest]
        self.points = mesh.vertices[self.landmark_ids]
        self.sd = np.array([m.sd for m in MEASUREMENTS])

    @cached_property
    def measurement_rows(self) -> Float[ndarray, "M L3"]:
        """Linearised measurements over the displacements of all landmarks."""
        index = {name: i for i, name in enumerate(self.names)}
        rows = np.zeros((len(MEASUREMENTS), len(self.names), 3))
        for row, m in zip(rows, MEASUREMENTS, strict=True):
            first = index[m.first]
            if m.kind == "distance":
                assert m.second is not None
                second = index[m.second]
                unit = self.points[second] - self.points[first]
                unit = unit / np.linalg.norm(unit)
                row[second], row[first] = unit, -unit
            elif m.kind == "width":
                row[first, 0] = 2.0
            else:
                row[first, "xyz".index(m.kind)] = 1.0
        return rows.reshape(len(MEASUREMENTS), -1)

    @cached_property
    def _conditions(self) -> tuple[Float[ndarray, "K L3"], Float[ndarray, "K K"]]:
        """Measurement rows with anchors, and the inverse of their prior covariance with noise."""
        anchors = np.zeros((len(_ANCHORS), len(self.names), 3))
        for row, (name, axis) in zip(anchors, _ANCHORS, strict=True):
            row[self.names.index(name), "xyz".index(axis)] = 1.0
        rows = np.concatenate([self.measurement_rows, anchors.reshape(len(_ANCHORS), -1)])
        prior = rows @ _kernel(self.points, self.points, 1.0) @ rows.T
        noise = np.r_[(_NOISE * self.sd) ** 2, np.full(len(_ANCHORS), 0.3)]
        return rows, np.linalg.inv(prior + np.diag(noise))

    def named(self) -> Field:
        """One mode per measurement, for 1 standard deviation."""
        rows, inverse = self._conditions
        weights = rows.T @ inverse[:, : len(MEASUREMENTS)]

        def field(p: Points) -> Field:
            return (_kernel(p, self.points, 1.0) @ weights).reshape(len(p), 3, -1)

        modes = self._with_rigid_parts(field)
        # Scaled on the finished mesh, so that a mode's own measurement changes by exactly its SD.
        own = (self.measurement_rows @ modes[self.landmark_ids].reshape(-1, len(MEASUREMENTS))).diagonal()
        return modes * (self.sd / own)

    def residual(self, count: int = RESIDUAL_MODES) -> Field:
        """Main symmetric directions the measurements leave open (Nystrom extension of the posterior covariance)."""
        rows, inverse = self._conditions
        p = self._sample()

        def posterior(a: Points, b: Points) -> Float[ndarray, "N3 M3"]:
            left, right = (_kernel(q, self.points, 1.0) @ rows.T for q in (a, b))
            return _kernel(a, b, 1.0) - left @ inverse @ right.T

        return self._main_directions(posterior, p, count)

    def asymmetric(self, count: int = ASYMMETRIC_MODES) -> Field:
        """Main antisymmetric directions, after removing those that turn or shift the head as a whole."""
        p = self._sample()
        held = self._rigid_motions(p)

        def prior(a: Points, b: Points) -> Float[ndarray, "N3 M3"]:
            return _kernel(a, b, -1.0)

        cross = prior(p, p) @ held
        inverse = np.linalg.inv(held.T @ cross + np.diag(np.full(held.shape[1], 1e-3)))

        def posterior(a: Points, b: Points) -> Float[ndarray, "N3 M3"]:
            return prior(a, b) - prior(a, p) @ held @ inverse @ held.T @ prior(p, b)

        # Real faces are asymmetric by a fraction of how much they differ from each other.
        return 0.5 * self._main_directions(posterior, p, count)

    def scale(self) -> Field:
        """Uniform size about the point between the ears."""
        return (self.mesh.vertices * SCALE_SD)[..., None]

    def _sample(self, count: int = 320) -> Points:
        ids = np.flatnonzero(self.mesh.is_part(Part.SKIN, Part.EAR) & (self.mesh.vertices[:, 0] >= 0))
        ids = np.random.default_rng(0).choice(ids, count, replace=False)
        return self.mesh.vertices[ids]

    @staticmethod
    def _rigid_motions(p: Points) -> Float[ndarray, "N3 3"]:
        """Shift along x and turns about y and z, orthonormal: the rigid motions an antisymmetric field can contain."""
        x, y, z = p.T
        o = np.zeros_like(x)
        moves = np.stack(
            [np.stack([o + 1, o, o], 1), np.stack([z, o, -x], 1), np.stack([-y, x, o], 1)], axis=-1
        ).reshape(-1, 3)
        return np.linalg.qr(moves)[0]

    def _main_directions(self, covariance, p: Points, count: int) -> Field:
        values, vectors = np.linalg.eigh(covariance(p, p))
        values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
        # An eigenvector's sign is arbitrary: fix it so that a rebuild gives the same mode.
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
        coefficients = vectors / np.sqrt(values)

        def field(q: Points) -> Field:
            return (covariance(q, p) @ coefficients).reshape(len(q), 3, -1)

        return self._with_rigid_parts(field)

    def _with_rigid_parts(self, field) -> Field:
        """A field on all vertices: eyeballs shift with their centre, teeth and tongue with the palate, lids half so."""
        mesh = self.mesh
        out = field(mesh.vertices)
        centres = anatomy.EYE_CENTRE * np.array([[1.0, 1.0, 1.0], anatomy.MIRROR])
        eyes = field(centres)
        out[mesh.part == Part.LEFT_EYE] = eyes[0]
        out[mesh.part == Part.RIGHT_EYE] = eyes[1]
        palate = field(np.array([[0.0, -66.0, 88.0]]))[0]
        out[mesh.is_part(Part.TEETH_UPPER, Part.TEETH_LOWER, Part.TONGUE)] = palate
        for side in (0, 1):
            inside = mesh.lid_rings[side, 1:].ravel()
            out[inside] = 0.5 * out[inside] + 0.5 * eyes[side]
        return out


def hair_volume(normals: Points, lift: Values, thickness: float = 10.0) -> Points:
    """The scalp lifted along its normals where hair grows: 1 stands for short full hair (10 mm on the crown)."""
    return normals * (lift * thickness)[:, None]


def measure(vertices: Points, sculptor: IdentitySculptor) -> Values:
    """All measurements (mm) of a mesh with the sculptor's topology."""
    p = dict(zip(sculptor.names, vertices[sculptor.landmark_ids], strict=True))
    out = []
    for m in MEASUREMENTS:
        if m.kind == "distance":
            out.append(np.linalg.norm(p[m.second or m.first] - p[m.first]))
        elif m.kind == "width":
            out.append(2 * p[m.first][0])
        else:
            out.append(p[m.first]["xyz".index(m.kind)])
    return np.array(out)
