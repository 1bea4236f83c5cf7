"""The head model without its pose: one-shot networks see heads that never turn, in cameras that do."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.errors import VultusError
from vultus.heads.model import HeadModel, SkinnedHead
from vultus.motion import HeadParams


def require_skinned(head: HeadModel) -> SkinnedHead:
    """The head model, if it is one in FLAME's layout. Raises VultusError otherwise."""
    if not isinstance(head, SkinnedHead):
        raise VultusError(f"one-shot avatars need a head model in FLAME's layout; {head.name} is not one")
    return head


def without_pose(head: SkinnedHead, params: HeadParams) -> HeadParams:
    """The parameters with the skull at rest: no translation, no rotation of the joints that carry it."""
    carrying, joint = set(), head.joint_names.index(head.skull_joint)
    while joint >= 0:
        carrying.add(head.joint_names[joint])
        joint = head.parents[joint]
    joints = {name: value for name, value in params.joints.items() if name not in carrying}
    return replace(params, joints=joints, translation=torch.zeros_like(params.translation))


def at_rest(head: SkinnedHead, params: HeadParams) -> HeadParams:
    """The same person without expression and with every joint at rest."""
    return replace(without_pose(head, params), expression=torch.zeros_like(params.expression), joints={})


def head_vertices(head: SkinnedHead, params: HeadParams) -> Float[Tensor, "*B V 3"]:
    """The mesh with expression, jaw and eyes but the skull at rest, metres. `head.head_to_world` moves it."""
    return head.pose(without_pose(head, params)).vertices
