"""Strands of hair as chains of points, and what they grow from. Millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from vultus.captures.studio import surface
from vultus.captures.studio.garments import Garment


@dataclass(frozen=True)
class Strands:
    """S strands of K + 1 points each, from the root outwards, in the rest pose (mm).

    faces, weights: where on the head the roots are. width: radius of a strand at its root. shade: how much light gets
    to each point past other hair, 0 to 1. tone: brightness of each strand about 1. on_skin: strands that move with
    the skin they grow from; the others move with the skull.
    """

    kind: str
    points: Float[ndarray, "S K+1 3"]
    faces: Int[ndarray, "S"]
    weights: Float[ndarray, "S 3"]
    width: float
    shade: Float[ndarray, "S K+1"]
    tone: Float[ndarray, "S"]
    on_skin: bool


@dataclass(frozen=True)
class Ground:
    """What hair grows from and lies on: the head's rest pose (mm), its normals, faces, anatomy, and the clothes."""

    vertices: Float[ndarray, "V 3"]
    normals: Float[ndarray, "V 3"]
    faces: Int[ndarray, "F 3"]
    anatomy: surface.Anatomy
    garments: list[Garment]

    def roots(
        self, rng: np.random.Generator, weight: Float[ndarray, "V"], count: int
    ) -> tuple[Int[ndarray, "S"], Float[ndarray, "S 3"]]:
        """Random places of the surface, as dense as `weight` says."""
        corners = self.vertices[self.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        chance = area * weight[self.faces].mean(1)
        if chance.sum() <= 0:
            return np.zeros(0, np.int64), np.zeros((0, 3))
        # Evenly spread over the faces, so that there are no holes.
        place = (np.arange(count) + rng.random(count)) / count * chance.sum()
        face = np.searchsorted(np.cumsum(chance), place).clip(0, len(chance) - 1)
        r1, r2 = np.sqrt(rng.random(count)), rng.random(count)
        bary = np.stack([1 - r1, r1 * (1 - r2), r1 * r2], axis=1)
        keep = rng.random(count) < (weight[self.faces[face]] * bary).sum(1) / weight[self.faces[face]].max(1)
        return face[keep], bary[keep]

    def at(self, values: Float[ndarray, "V C"], face: ndarray, bary: ndarray) -> Float[ndarray, "S C"]:
        return (values[self.faces[face]] * bary[..., None]).sum(1)


def unit(vectors: ndarray) -> ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def thinned(count: int, detail: float) -> tuple[int, float]:
    """Fewer strands for small pictures, and as much thicker."""
    detail = min(max(detail, 0.1), 1.5)
    return max(200, round(count * detail)), detail**-0.75
