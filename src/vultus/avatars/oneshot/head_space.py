"""The head model without its pose: one-shot networks see heads that never turn, in cameras that do."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.captures.flame_params import is_flame
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


def network_vertices(head: HeadModel) -> int:
    """How many of the head model's vertices, the first ones, one-shot networks have splats for: all, but of FLAME none
    of the teeth that Vultus appends, since published networks know FLAME without."""
    if is_flame(head) and "teeth" in head.regions:
        return int(head.regions["teeth"].min())
    return len(head.template)


def head_vertices(head: SkinnedHead, params: HeadParams) -> Float[Tensor, "*B V 3"]:
    """The vertices that networks know, with expression, jaw and eyes but the skull at rest, metres.
    `head.head_to_world` moves them."""
    return head.pose(without_pose(head, params)).vertices[..., : network_vertices(head), :]


def network_faces(head: SkinnedHead) -> Int[Tensor, "F 3"]:
    """The triangles among the vertices that networks know."""
    return head.faces[(head.faces < network_vertices(head)).all(-1)]


def network_offset(head: SkinnedHead, moved: Float[Tensor, "*B V 3"]) -> Float[Tensor, "*B W 3"]:
    """Displacements of the vertices that networks know, as an offset of the whole head model."""
    rest = len(head.template) - moved.shape[-2]
    return torch.nn.functional.pad(moved, (0, 0, 0, rest))
