"""Expression shapes with ARKit's names, as displacements in millimetres for coefficient 1."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.interpolate import PchipInterpolator

from . import anatomy
from .lids import LidMotion
from .mesh import HeadMesh, Part
from .posing import posed, rest_of
from .primitives import Points, Values, rows, smoothstep
from .weights import CORNER_WEIGHT, mouth_profile

BLINK = (0.97, 0.04)
"""Fractions of the opening that upper and lower lid travel in a full blink."""
BLINK_BULGE = 0.45
"""How much (mm) farther from the eye's centre closed lids are, as they pass over the cornea."""
GAZE_REFERENCE = 0.4
"""Downward turn of the eye (radians) at which the lids have followed by ``GAZE_LIDS``."""
GAZE_LIDS = (0.20, -0.14)

_LIP_Y = -65.3


class ExpressionSculptor:
    """Brushes in frontal coordinates and the shapes made with them."""

    def __init__(self, mesh: HeadMesh, weights: Float[ndarray, "V 5"]) -> None:
        self.mesh, self.weights = mesh, weights
        self.v = mesh.vertices
        self.lateral = np.sign(self.v[:, 0])
        self.x, self.y, self.z = np.abs(self.v[:, 0]), self.v[:, 1], self.v[:, 2]
        soft = mesh.is_part(Part.SKIN, Part.LID, Part.MOUTH_BAG)
        self.front = smoothstep(18, 50, self.z) * soft
        by_height = smoothstep(_LIP_Y - 5, _LIP_Y + 5, self.y)
        self.upper = np.where(mesh.side > 0, 1.0, np.where(mesh.side < 0, 0.0, by_height))
        self.lower = 1 - self.upper
        bag = mesh.part == Part.MOUTH_BAG
        self.lip = np.where(bag, 0.8 * smoothstep(80, 92, self.z), smoothstep(0.2, 0.8, mesh.lip))
        self.off_lids = smoothstep(0.75, 1.6, np.hypot((self.x - 31.5) / 17, self.y / 9.5)) * (mesh.part != Part.LID)
        line_x, line_y = np.array(anatomy.LIP_LINE).T
        line = PchipInterpolator(line_x, line_y)(np.clip(self.x / anatomy.MOUTH_HALF_WIDTH, 0, 1))
        self.off_line = np.where(mesh.part == Part.MOUTH_BAG, 0.0, np.abs(self.y - line))
        # 0 on the line between the lips, so that lips squeezed together meet there instead of crossing.
        self.beside_line = smoothstep(0, 6, self.off_line)
        self.mouth = np.exp(-0.5 * (self.x / 26) ** 4 - 0.5 * ((self.y - _LIP_Y) / 15) ** 2) * self.front
        self.across = np.clip(self.x / 26, 0, 1)
        self.lids = (LidMotion(mesh, 0), LidMotion(mesh, 1))
        # The jaw's own motion drags what the lower teeth and the tongue are fixed to.
        self.jaw = weights[:, 2]

    # ------------------------------------------------------------------ brushes
    def bump(self, cx: float, cy: float, sx: float, sy: float) -> Values:
        """Gaussian in frontal coordinates, on both sides."""
        return np.exp(-0.5 * ((self.x - cx) / sx) ** 2 - 0.5 * ((self.y - cy) / sy) ** 2) * self.front

    def along(self, curve: list[tuple[float, float]], width: float) -> Values:
        """Ridge of a width (mm) around a frontal polyline."""
        distance = np.full(len(self.x), 1e9)
        for (ax, ay), (bx, by) in pairwise(curve):
            ux, uy = bx - ax, by - ay
            t = np.clip(((self.x - ax) * ux + (self.y - ay) * uy) / (ux * ux + uy * uy), 0, 1)
            distance = np.minimum(distance, np.hypot(self.x - ax - t * ux, self.y - ay - t * uy))
        return np.exp(-0.5 * (distance / width) ** 2) * self.front

    def move(self, weight: Values, lateral: float, up: float, forward: float) -> Points:
        """Displacement away from the midline, up and forward."""
        return np.stack([weight * lateral * self.lateral, weight * up, weight * forward], axis=1)

    def shift(self, weight: Values, x: float, y: float, z: float) -> Points:
        """Displacement in the frame's axes."""
        return np.stack([weight * x, weight * y, weight * z], axis=1)

    def close_lids(self, upper: float, lower: float, bulge: float = 0.0) -> Points:
        """Both eyes' lids closing by fractions of the opening and bulging (mm)."""
        return sum(lid.displacement(upper, lower, bulge) for lid in self.lids)  # type: ignore[return-value]

    # ------------------------------------------------------------------ shapes
    def shapes(self) -> dict[str, Points]:
        """All components by ARKit name; the eyeLook names and jawOpen belong to joints."""
        paired = {**self._brows(), **self._eyes(), **self._cheeks_and_nose(), **self._mouth_pairs()}
        left = smoothstep(-7, 7, self.v[:, 0])[:, None]
        right = left[self.mesh.mirror]
        out: dict[str, Points] = {"browInnerUp": self._brow_inner_up(), "cheekPuff": self._cheek_puff()}
        for name, shape in paired.items():
            out[name + "Left"], out[name + "Right"] = shape * left, shape * right
        out |= self._mouth_whole()
        hard = self.mesh.is_part(Part.LEFT_EYE, Part.RIGHT_EYE, Part.TEETH_UPPER, Part.TEETH_LOWER, Part.TONGUE)
        for shape in out.values():
            shape[hard] = 0.0
        out |= self._jaw()
        out["tongueOut"] = self._tongue_out()
        return dict(sorted(out.items()))

    def blink_correctives(self) -> list[tuple[str, Points]]:
        """(driving component, displacement weighted 4 a (1 - a)) per eye."""
        names = ("eyeBlinkLeft", "eyeBlinkRight")
        return [(name, lid.arc_corrective(*BLINK, BLINK_BULGE)) for name, lid in zip(names, self.lids, strict=True)]

    def gaze_followers(self) -> list[tuple[int, Points]]:
        """(entry of the 36 pose features, displacement): the lids follow the eye's pitch.

        Features are the row-major entries of R - I of neck, jaw, left and right eye; entry [2, 1] of a turn about x by
        ``a`` is sin a.
        """
        scale = np.sin(GAZE_REFERENCE)
        return [
            (9 * joint + 7, lid.displacement(*GAZE_LIDS) / scale) for joint, lid in zip((2, 3), self.lids, strict=True)
        ]

    def pose_correctives(self) -> list[tuple[int, Points]]:
        """(entry of the 36 pose features, displacement) of everything that follows a joint."""
        # Opening the jaw draws the corners of the mouth inward and hollows the cheeks.
        draw = self.bump(26, -66, 9, 13) + 0.5 * self.bump(42, -60, 10, 16)
        narrow = self.move(draw, -2.6, 0.0, -1.2) / np.sin(anatomy.JAW_OPEN_RADIANS)
        return [(16, narrow), *self.gaze_followers()]

    def _brows(self) -> dict[str, Points]:
        b, m, off = self.bump, self.move, self.off_lids
        return {
            "browDown": m(b(22, 21, 13, 7.5) * off, -2.2, -5.5, 0.8)
            + m(b(36, 22, 9, 7) * off, -0.5, -2.5, 0)
            + m(b(9, 14, 7, 8) * off, -0.8, -2.5, 0.6),
            "browOuterUp": m(b(38, 22, 11, 9) * off, 0.3, 6.5, -0.3) + m(b(36, 42, 16, 13), 0, 2.5, 0),
        }

    def _brow_inner_up(self) -> Points:
        b, m = self.bump, self.move
        return m(b(12, 23, 10, 9) * self.off_lids, -0.5, 6.5, 0.3) + m(b(12, 45, 18, 14), 0, 2.5, 0)

    def _eyes(self) -> dict[str, Points]:
        below = self.bump(33, -15, 16, 8) * self.off_lids
        return {
            "eyeBlink": self.close_lids(*BLINK, BLINK_BULGE),
            "eyeSquint": self.close_lids(0.18, 0.28) + self.move(below, 0, 2.2, 0.8),
            "eyeWide": self.close_lids(-0.30, -0.08),
        }

    def _cheeks_and_nose(self) -> dict[str, Points]:
        b, m = self.bump, self.move
        return {
            "cheekSquint": m(b(36, -22, 15, 11) * self.off_lids, 0, 4.5, 2.2) + self.close_lids(0.0, 0.15),
            "noseSneer": m(b(12, -29, 7, 10), 0.8, 4.0, 0.8)
            + m(b(8, -4, 6, 9) * self.off_lids, 0, 1.5, 0.8)
            + m(b(16, -52, 9, 7) * self.upper, 0.5, 2.6, 0.3),
        }

    def _cheek_puff(self) -> Points:
        outward = rows(np.stack([0.9 * self.v[:, 0], np.zeros_like(self.y), self.z - 20], axis=1))
        # The lips hold the air back: the shape fades slowly toward them.
        beyond_lips = smoothstep(0.9, 1.9, np.hypot(self.x / 27, (self.y - _LIP_Y) / 15))
        weight = self.bump(42, -56, 15, 17) * beyond_lips * (1 - self.lip)
        return outward * (11.5 * weight)[:, None] + self.move(self.mouth * self.lip, 0, 0, -0.6)

    def _mouth_pairs(self) -> dict[str, Points]:
        b, m = self.bump, self.move
        fold = self.along([(19, -38), (27, -48), (34, -62)], 3.2)
        press = self.mouth * smoothstep(14, 4, self.off_line) * self.beside_line
        valley = self.along([(16, -40), (23.5, -50), (29.5, -62)], 2.2)
        return {
            "mouthSmile": m(b(27, -65, 11, 9.5), 8.5, 9.0, -5.5)
            + m(b(36, -40, 12, 13) * self.off_lids, 1.2, 4.6, 3.8)
            + m(b(13, -60, 7, 5) * self.upper, 1.5, 1.6, -1.3)
            + m(b(13, -70, 7, 5) * self.lower, 1.5, 1.8, -1.0)
            + m(fold, 0.4, 0.3, 1.5)
            + m(valley, 0, 0, -1.2),
            "mouthFrown": m(b(27, -67, 10, 9), 1.0, -6.5, -0.8) + m(b(24, -82, 10, 9), 0, -1.5, 0.8),
            "mouthDimple": m(b(26, -65.5, 9, 7.7), 4.5, 0.8, -4.0),
            "mouthStretch": m(b(27, -68, 12, 12), 7.5, -3.5, -3.0),
            "mouthUpperUp": m(b(11, -60, 9, 8) * self.upper, 0.6, 5.2, 0.6) + m(b(20, -46, 8, 8), 0, 1.6, 0.8),
            "mouthLowerDown": m(b(11, -71, 9, 8) * self.lower, 0.4, -5.2, 0.2),
            "mouthPress": m(press * (self.upper - self.lower), 0, -1.9, 0) + m(self.mouth * self.lip, 0, 0, -1.8),
        }

    def _mouth_whole(self) -> dict[str, Points]:
        b, m = self.bump, self.move
        mouth, lip, i, off = self.mouth, self.lip, self.across, self.off_line
        pucker = np.stack(
            [
                -0.42 * self.v[:, 0] * mouth,
                -0.06 * (self.y - _LIP_Y) * mouth,
                (6 + 4 * i**2) * mouth * (0.6 + 0.4 * lip),
            ],
            axis=1,
        )
        open_ring = (1 - 0.75 * i**2) * (0.35 + 0.65 * smoothstep(16, 3, off))
        funnel = np.stack(
            [
                -0.22 * self.v[:, 0] * mouth,
                (3.6 * self.upper - 4.2 * self.lower) * mouth * open_ring,
                4.5 * mouth * (0.4 + 0.6 * lip),
            ],
            axis=1,
        )
        hold = (1 - i**4) * mouth * smoothstep(13, 3, off)
        out = {"mouthPucker": pucker, "mouthFunnel": funnel}
        for name, half, sign in (("Upper", self.upper, -1.0), ("Lower", self.lower, 1.0)):
            rolled = lip * (1 - i**4) * half * (self.z > 60)
            out["mouthRoll" + name] = m(hold * half * self.beside_line, 0, 3.2 * sign, -1.2) + m(rolled, 0, 0, -4.2)
        out["mouthShrugUpper"] = m(mouth * self.upper * (1 - 0.7 * i**3) * (0.3 + 0.7 * self.beside_line), 0, 3.2, 1.2)
        out["mouthShrugLower"] = m(b(0, -84, 17, 11), 0, 4.2, 1.8) + m(mouth * lip, 0, 0.8, 1.0)
        for name, sign in (("mouthLeft", 1.0), ("mouthRight", -1.0)):
            out[name] = self.shift(b(0, -67, 24, 15), 8 * sign, 0, -1)
        out["mouthClose"] = self._mouth_close()
        return out

    def _mouth_close(self) -> Points:
        """Over the open jaw both lips follow the same small share of the jaw's turn, so that they touch."""
        turn = {"jaw": (anatomy.JAW_OPEN_RADIANS, 0.0, 0.0)}
        near = np.clip(1.7 * self.mouth, 0, 1) * smoothstep(26, 4, self.off_line)
        w = self.weights.copy()
        share = np.minimum(0.15, CORNER_WEIGHT * (1 - mouth_profile(self.x / anatomy.MOUTH_HALF_WIDTH)))
        w[:, 2] = self.jaw + near * np.minimum(share - self.jaw, 0)
        w[:, 1] = self.weights[:, 1:3].sum(axis=1) - w[:, 2]
        return rest_of(posed(self.v, w, turn), self.weights, turn) - self.v

    def _jaw(self) -> dict[str, Points]:
        return {
            "jawForward": self.shift(self.jaw, 0, -0.8, 6.5),
            "jawLeft": self.shift(self.jaw, 7, 0, 0),
            "jawRight": self.shift(self.jaw, -7, 0, 0),
        }

    def _tongue_out(self) -> Points:
        """The jaw drops a little and the tongue reaches over the lower lip."""
        opened = posed(self.v, self.weights, {"jaw": (0.17, 0, 0)}) - self.v
        out = opened
        tongue = self.mesh.part == Part.TONGUE
        p = self.v[tongue]
        t = np.clip((p[:, 2] - 50) / 34, 0, 1)
        reach = np.stack(
            [-0.12 * p[:, 0] * t, 2.5 * np.sin(np.pi * t) - 7.0 * t**3 - 0.25 * (p[:, 1] + 69.5) * t, 30.0 * t**1.4],
            axis=1,
        )
        out[tongue] += reach
        lip = self.lip * self.mouth * (1 - self.across**2)
        out += self.move(lip * self.lower, 0, -1.5, 1.0) + self.move(lip * self.upper, 0, 1.2, 0.4)
        return out


def component_index(names: list[str], drivers: list[str]) -> Int[ndarray, "C"]:
    """Positions of driving components among the expression names."""
    return np.array([names.index(d) for d in drivers], dtype=np.int32)
