"""Who turns the head: a tracked rotation is the skull's, and a neck can make it while the shoulders stay."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.heads import SkinnedHead
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle


def turn_neck(head: SkinnedHead, params: HeadParams, body: Float[Tensor, "*B 3"]) -> HeadParams:
    """The same poses of the skull, with the root turned to `body` (axis-angle, radians) and the rest done by the neck.

    A neck N on a root R moves the skull by `X ↦ R N (X − J_neck) + R (J_neck − J_root) + J_root + t`. On a root B it
    moves alike if it turns by `Bᵀ R N` and the translation is `t + (R − B)(J_neck − J_root)`. Only vertices that follow
    the root, and those between, end up elsewhere. Heads without a neck stay as they are.
    """
    if "neck" not in head.joint_names:
        return params
    before, after = axis_angle_to_matrix(params.joint("root")), axis_angle_to_matrix(body)
    bent = before @ axis_angle_to_matrix(params.joint("neck"))
    root, neck = head.joint_names.index("root"), head.joint_names.index("neck")
    rest = head.rest_vertices(replace(params, expression=torch.zeros_like(params.expression)[:1]))
    joints = head.joint_regressor @ rest
    bone = params.scale[..., None] * (joints[..., neck, :] - joints[..., root, :])
    shift = ((before - after) @ bone[..., None])[..., 0]
    joints_now = {
        **params.joints,
        "root": body.expand_as(params.joint("root")).clone(),
        "neck": matrix_to_axis_angle(after.transpose(-1, -2) @ bent),
    }
    return replace(params, joints=joints_now, translation=params.translation + shift)
