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
_QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))


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
    touched, smooth = _kinds(center, fine, groups, float(camera.K[0, 0]))
    whole = smooth.reshape(-1).nonzero()[:, 0]
    row, column = (touched & ~smooth).nonzero(as_tuple=True)
    # Numbers of the four quarters of every split pixel in the finer picture.
    quarter = torch.stack([(2 * row + y) * (2 * width) + 2 * column + x for y, x in _QUARTERS], dim=1).reshape(-1)
    split_face = fine.face_ids.reshape(-1)[quarter]
    shown = (split_face >= 0).nonzero()[:, 0]
    pixel = (row * width + column).repeat_interleave(4)[shown]
    return Samples(
        pixel=torch.cat([whole, pixel]),
        face=torch.cat([center.face_ids.reshape(-1)[whole], split_face[shown]]),
        barycentric=torch.cat(
            [center.barycentric.reshape(-1, 3)[whole], fine.barycentric.reshape(-1, 3)[quarter[shown]]]
        ),
        weight=torch.cat([torch.ones(len(whole)), torch.full((len(shown),), 0.25)]),
        center=center,
    )


def _kinds(
    center: MeshRaster, fine: MeshRaster, groups: Int[Tensor, "F"], focal: float
) -> tuple[Bool[Tensor, "H W"], Bool[Tensor, "H W"]]:
    """Which pixels show anything, and which of them one smooth surface."""
    ids = [fine.face_ids[y::2, x::2] for y, x in _QUARTERS]
    depth = [fine.depth[y::2, x::2] for y, x in _QUARTERS]
    # Depth is 0 where nothing is.
    low, high = torch.minimum(depth[0], depth[1]), torch.maximum(depth[0], depth[1])
    for other in depth[2:]:
        low, high = torch.minimum(low, other), torch.maximum(high, other)
    touched = high > 0
    smooth = (low > 0) & (center.depth > 0) & (high - low < (_STEEP / focal) * low)
    row, column = smooth.nonzero(as_tuple=True)
    group = groups[center.face_ids[row, column]]
    for other in ids:
        smooth[row, column] &= groups[other[row, column]] == group
    return touched, smooth
