"""Conversions between FLAME's ways of saying things and ours."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.heads.model import SkinnedHead
from vultus.motion import HeadParams


def centred_at_root(head: SkinnedHead, params: HeadParams) -> HeadParams:
    """The parameters that put the root joint, instead of the model's origin, at `params.translation`.

    Some FLAME pipelines subtract the root joint from all vertices before they translate; turning about the root joint
    does not move it, so that this is a shift by the rest joint.
    """
    rest_root = head.rest_joints(params, head.rest_vertices(params))[..., 0, :] * params.scale[..., None]
    return replace(params, translation=params.translation - rest_root)


def texture_grid(uvs: Float[Tensor, "T 2"], uv_faces: Int[Tensor, "F 3"]) -> Float[Tensor, "F 3 3"]:
    """Texture coordinates per face corner on a sampling grid: `(2u − 1, −(2v − 1), 1)`, (−1, −1) being the top left."""
    corners = uvs[uv_faces]
    return torch.stack([2 * corners[..., 0] - 1, 1 - 2 * corners[..., 1], torch.ones_like(corners[..., 0])], dim=-1)
