"""Which surface points a picture is made of: the middle of each pixel, and four points where an outline crosses it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.meshes import MeshRaster, rasterize_mesh

_STEEP = 5.0
"""Depth steps within a pixel (in widths of the pixel) from which it is looked at more closely."""


@dataclass(frozen=True)
class Samples:
    """Surface points and the pixels they are for. `weight` is the share of its pixel that a point stands for."""

    pixel: Int[Tensor, "M"]
    face: Int[Tensor, "M"]
    barycentric: Float[Tensor, "M 3"]
    weight: Float[Tensor, "M"]
    center: MeshRaster
    """What the middle of every pixel shows."""

    def gather(self, values: Float[Tensor, "M C"]) -> Float[Tensor, "P C"]:
        """Sum of the values of every pixel, each times its weight."""
        height, width = self.center.face_ids.shape
        out = values.new_zeros(height * width, values.shape[-1])
        return out.index_add_(0, self.pixel, values * self.weight[:, None])


def take_samples(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], groups: Int[Tensor, "F"], camera: Camera
) -> Samples:
    """Points that a picture's colours are to be computed at.

    A pixel whose four quarters show one smooth surface of one group needs one point; one that holds an outline needs
    four, and is covered as far as those are.
    """
    height, width = camera.height, camera.width
    center = rasterize_mesh(vertices, faces, camera)
    fine = rasterize_mesh(vertices, faces, camera.resized(2 * width, 2 * height))

    def quarters(image: Tensor) -> Tensor:
        return image.reshape(height, 2, width, 2, *image.shape[2:]).transpose(1, 2).reshape(height * width, 4, -1)

    ids, depth = quarters(fine.face_ids)[..., 0], quarters(fine.depth)[..., 0]
    middle = center.face_ids.reshape(-1)
    smooth = _is_smooth(ids, depth, middle, groups, float(camera.K[0, 0]))
    whole = smooth.nonzero()[:, 0]
    split = ((ids >= 0).any(1) & ~smooth).nonzero()[:, 0]
    split_ids = ids[split].reshape(-1)
    shown = split_ids >= 0
    barycentric = quarters(fine.barycentric)[split].reshape(-1, 3)
    return Samples(
        pixel=torch.cat([whole, split.repeat_interleave(4)[shown]]),
        face=torch.cat([middle[whole], split_ids[shown]]),
        barycentric=torch.cat([center.barycentric.reshape(-1, 3)[whole], barycentric[shown]]),
        weight=torch.cat([torch.ones(len(whole)), torch.full((int(shown.sum()),), 0.25)]),
        center=center,
    )


def _is_smooth(
    ids: Int[Tensor, "P 4"], depth: Float[Tensor, "P 4"], middle: Int[Tensor, "P"], groups: Tensor, focal: float
) -> Bool[Tensor, "P"]:
    low, high = depth.amin(1), depth.amax(1)
    even = (ids >= 0).all(1) & (middle >= 0) & (high - low < _STEEP * low / focal)
    group = groups[ids.clamp_min(0)]
    return even & (group == group[:, :1]).all(1) & (groups[middle.clamp_min(0)] == group[:, 0])
