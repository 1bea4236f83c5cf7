"""What a garment is, and the body that garments are fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from vultus.captures.studio import surface
from vultus.captures.studio.painting import linear
from vultus.captures.studio.people import Triple
from vultus.captures.studio.solids import Radius

TEXELS = 256
"""Side of the texture of a garment."""
SKULL = np.array([0.0, 32.0, -14.0])
NECK_Z = -24.0
_EYES = 31.5


@dataclass(frozen=True)
class Garment:
    """A mesh beside the head model's: vertices in the person's rest pose (metres), texture coordinates in [0, 1] (row 0
    of the texture is v = 0), and a texture of linear red, green, blue and gloss."""

    label: str
    carrier: Literal["skull", "shoulders"]
    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    uvs: Float[Tensor, "V 2"]
    texture: Float[Tensor, "4 h w"]


@dataclass(frozen=True)
class Body:
    """A person's rest pose, millimetres. `place`: where each vertex is on the built-in template."""

    vertices: Float[ndarray, "V 3"]
    part: Int[ndarray, "V"]
    place: Float[ndarray, "V 3"]

    def neck(self) -> Radius:
        """Radius about the upright axis through the neck, by direction (cos, sin) x 60 and height."""
        own = (self.part == surface.SKIN) & (self.place[:, 1] < -105) & (self.place[:, 2] < 60)
        v = self.vertices[own]
        around = np.stack([v[:, 0], v[:, 2] - NECK_Z], axis=1)
        radius = np.linalg.norm(around, axis=1)
        return Radius(np.concatenate([around / radius[:, None] * 60, v[:, 1:2]], axis=1), radius)

    def skull(self) -> Radius:
        """Radius about the middle of the skull, by direction."""
        own = (self.part == surface.SKIN) & (self.place[:, 1] > -40)
        v = self.vertices[own] - SKULL
        radius = np.linalg.norm(v, axis=1)
        return Radius(v / radius[:, None], radius, neighbours=8)

    def eye(self, number: int) -> Float[ndarray, "3"]:
        ball = self.vertices[self.part == number]
        if not len(ball):
            return np.array([_EYES if number == surface.LEFT_EYE else -_EYES, 0.0, 71.0])
        return (ball.min(0) + ball.max(0)) / 2

    def ear(self, side: int) -> Float[ndarray, "E 3"]:
        own = (self.part == surface.EAR) & (np.sign(self.place[:, 0]) == side)
        if not own.any():  # a model that does not tell its ears apart
            near = (self.place - np.array([72.0 * side, -20, -12])) / np.array([14, 34, 24])
            own = (near**2).sum(1) < 1
        return self.vertices[own]


def garment(
    label: str,
    carrier: Literal["skull", "shoulders"],
    mesh: tuple[ndarray, ndarray],
    uvs: ndarray,
    texture: Tensor,
) -> Garment:
    return Garment(
        label,
        carrier,
        torch.from_numpy(mesh[0] / 1000).float(),
        torch.from_numpy(mesh[1]).long(),
        torch.from_numpy(uvs).float(),
        texture,
    )


def plain(color: Triple, gloss: float) -> Float[Tensor, "4 h w"]:
    value = torch.cat([linear(color), torch.tensor([gloss])])
    return value[:, None, None].expand(4, TEXELS, TEXELS)


def texels() -> tuple[Tensor, Tensor]:
    """u and v at the texels' middles."""
    middle = (torch.arange(TEXELS) + 0.5) / TEXELS
    v, u = torch.meshgrid(middle, middle, indexing="ij")
    return u, v
