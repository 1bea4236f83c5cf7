"""Motion of the eyelids: vertices turn about the eye's horizontal axis, keeping their distance from its centre."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from . import anatomy
from .mesh import HeadMesh, Part
from .primitives import Points, smoothstep


@dataclass(frozen=True)
class LidMotion:
    """Lids of one eye (``side`` 0 left, 1 right) of a mesh."""

    mesh: HeadMesh
    side: int

    @cached_property
    def _sign(self) -> float:
        return 1.0 if self.side == 0 else -1.0

    @cached_property
    def ids(self) -> Int[ndarray, "N"]:
        """Vertices that can move with the lids."""
        v = self.mesh.vertices * [self._sign, 1, 1] - anatomy.EYE_CENTRE
        near = (np.hypot(v[:, 0] / 24, v[:, 1] / 17) < 1) & (v[:, 2] > -3)
        return np.flatnonzero(near & self.mesh.is_part(Part.SKIN, Part.LID))

    @cached_property
    def _local(self) -> Points:
        return self.mesh.vertices[self.ids] * [self._sign, 1, 1] - anatomy.EYE_CENTRE

    @cached_property
    def _elevation(self) -> Float[ndarray, "N"]:
        return np.arctan2(self._local[:, 1], self._local[:, 2])

    @cached_property
    def _edges(self) -> tuple[Float[ndarray, "N"], Float[ndarray, "N"]]:
        """Elevation (radians) of the upper and lower lid edge at every vertex's x."""
        edge = self.mesh.vertices[self.mesh.lid_rings[self.side, 0]] * [self._sign, 1, 1] - anatomy.EYE_CENTRE
        elevation = np.arctan2(edge[:, 1], edge[:, 2])
        is_upper = edge[:, 1] > -0.2 + 1.1 * edge[:, 0] / 14.3
        out = []
        for half in (is_upper, ~is_upper):
            order = np.argsort(edge[half, 0])
            out.append(np.interp(self._local[:, 0], edge[half, 0][order], elevation[half][order]))
        return out[0], out[1]

    @cached_property
    def is_upper(self) -> ndarray:
        """Which of ``ids`` belong to the upper lid: by ring column on the lids' inside, by height on the skin."""
        upper, lower = self._edges
        result = self._elevation > 0.5 * (upper + lower)
        ring = self.mesh.lid_rings[self.side]
        edge_upper = np.zeros(ring.shape[1], dtype=bool)
        edge_upper[1 : ring.shape[1] // 2] = True
        lookup = dict(zip(ring.ravel().tolist(), np.tile(edge_upper, len(ring)).tolist(), strict=True))
        for i, vertex in enumerate(self.ids.tolist()):
            if vertex in lookup:
                result[i] = lookup[vertex]
        return result

    def turned(self, upper_closes: float, lower_closes: float, bulge: float = 0.0, share: float = 1.0) -> Points:
        """Positions of ``ids`` (mesh frame) after the lids close by fractions of the opening.

        Args:
            upper_closes: fraction of the opening the upper lid travels downward (negative opens).
            lower_closes: fraction the lower lid travels upward.
            bulge: how far (mm) the turned lid moves away from the eye's centre.
            share: part of that turn that is made (0.5: the point half way along the arc).
        """
        top, bottom = self._edges
        opening = np.maximum(top - bottom, 0.0)
        p, elevation = self._local, self._elevation
        beyond = np.where(self.is_upper, elevation - top, bottom - elevation)
        weight = np.where(beyond < 0, 1.0, np.exp(-0.5 * (beyond / np.radians(13)) ** 2))
        inside = self.mesh.part[self.ids] == Part.LID
        weight = np.where(inside, np.where(p[:, 2] > 4, 1.0, 0.45), weight)
        weight = weight * smoothstep(24, 16, np.abs(p[:, 0]))
        angle = np.where(self.is_upper, -upper_closes, lower_closes) * opening * weight * share
        c, s = np.cos(angle), np.sin(angle)
        q = np.stack([p[:, 0], c * p[:, 1] + s * p[:, 2], c * p[:, 2] - s * p[:, 1]], axis=1)
        q *= 1 + (bulge * share * weight / np.linalg.norm(q, axis=1))[:, None]
        return (q + anatomy.EYE_CENTRE) * [self._sign, 1, 1]

    def displacement(self, upper_closes: float, lower_closes: float, bulge: float = 0.0, share: float = 1.0) -> Points:
        """The same as displacements of all mesh vertices."""
        out = np.zeros_like(self.mesh.vertices)
        out[self.ids] = self.turned(upper_closes, lower_closes, bulge, share) - self.mesh.vertices[self.ids]
        return out

    def arc_corrective(self, upper_closes: float, lower_closes: float, bulge: float = 0.0) -> Points:
        """What a linear shape misses half way: the arc's midpoint minus the chord's, weighted 4 a (1 - a)."""
        half = self.displacement(upper_closes, lower_closes, bulge, 0.5)
        return half - 0.5 * self.displacement(upper_closes, lower_closes, bulge)
