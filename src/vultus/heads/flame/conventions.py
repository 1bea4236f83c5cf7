"""Conversions between FLAME's ways of saying things and ours."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.heads.model import SkinnedHead
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix

_PIECE = 128


def centred_at_root(head: SkinnedHead, params: HeadParams) -> HeadParams:
    """The parameters that put the root joint, instead of the model's origin, at `params.translation`.

    Some FLAME pipelines subtract the root joint from all vertices before they translate; turning about the root joint
    does not move it, so that this is a shift by the rest joint.
    """
    rest_root = head.rest_joints(params, head.rest_vertices(params))[..., 0, :] * params.scale[..., None]
    return replace(params, translation=params.translation - rest_root)


def turned_about_origin(head: SkinnedHead, params: HeadParams) -> HeadParams:
    """The parameters whose root joint's rotation turns the posed head about the model's origin.

    Many trackers pose FLAME without a root rotation, then turn, scale and move all vertices: `x' = s R x + t`. FLAME
    turns about its root joint, so that only the translation differs. One batch dimension at most.
    """
    joint = rest_joints_over_time(head, params)[..., 0, :]
    turned = (axis_angle_to_matrix(params.joint(head.joint_names[0])) @ joint[..., None])[..., 0]
    return replace(params, translation=params.translation + params.scale[..., None] * (turned - joint))


def rest_joints_over_time(head: SkinnedHead, params: HeadParams) -> Float[Tensor, "*T J 3"]:
    """Rest joints (metres) of parameters with one batch dimension at most, without all vertices of a long take."""

    def joints(some: HeadParams) -> Tensor:
        return head.rest_joints(some, head.rest_vertices(some))

    if not params.batch_shape:
        return joints(params)
    (rows,) = params.batch_shape
    pieces = [joints(params[start : start + _PIECE]) for start in range(0, rows, _PIECE)]
    return torch.cat([piece.expand(-1, -1, 3) for piece in pieces])


def texture_grid(uvs: Float[Tensor, "T 2"], uv_faces: Int[Tensor, "F 3"]) -> Float[Tensor, "F 3 3"]:
    """Texture coordinates per face corner on a sampling grid: `(2u − 1, −(2v − 1), 1)`, (−1, −1) being the top left."""
    corners = uvs[uv_faces]
    return torch.stack([2 * corners[..., 0] - 1, 1 - 2 * corners[..., 1], torch.ones_like(corners[..., 0])], dim=-1)
