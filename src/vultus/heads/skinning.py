"""Linear blend skinning: the arithmetic that FLAME, the built-in head and their relatives share.

Source: FLAME (Li et al. 2017), after SMPL (Loper et al. 2015).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def rigid_chain(
    rotations: Float[Tensor, "*B J 3 3"], rest_joints: Float[Tensor, "*B J 3"], parents: Sequence[int]
) -> Float[Tensor, "*B J 4 4"]:
    """World transform of every joint: its frame has the joint's rotation and its posed position.

    `G_0 = [R_0 | J_0]`, `G_j = G_parent · [R_j | J_j − J_parent]`; `parents[0]` is −1 and parents come before children.
    """
    batch = torch.broadcast_shapes(rotations.shape[:-3], rest_joints.shape[:-2])
    rotations = rotations.expand(*batch, *rotations.shape[-3:])
    rest_joints = rest_joints.expand(*batch, *rest_joints.shape[-2:])
    world_rotations, world_positions = [rotations[..., 0, :, :]], [rest_joints[..., 0, :]]
    for joint, parent in enumerate(parents):
        if joint == 0:
            continue
        bone = rest_joints[..., joint, :] - rest_joints[..., parent, :]
        world_positions.append((world_rotations[parent] @ bone[..., None])[..., 0] + world_positions[parent])
        world_rotations.append(world_rotations[parent] @ rotations[..., joint, :, :])
    upper = torch.cat([torch.stack(world_rotations, -3), torch.stack(world_positions, -2)[..., None]], dim=-1)
    last = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, last], dim=-2)


def skin(
    vertices: Float[Tensor, "*B V 3"],
    joint_transforms: Float[Tensor, "*B J 4 4"],
    rest_joints: Float[Tensor, "*B J 3"],
    weights: Float[Tensor, "V J"],
) -> Float[Tensor, "*B V 3"]:
    """Carry rest-pose vertices along with the joints: `v = Σ_j w_vj (G_j.R (v − J_j) + G_j.t)`."""
    rotation, position = joint_transforms[..., :3, :3], joint_transforms[..., :3, 3]
    shift = position - (rotation @ rest_joints[..., None])[..., 0]
    affine = torch.cat([rotation, shift[..., None]], dim=-1)
    blended = (weights @ affine.flatten(-2)).unflatten(-1, (3, 4))
    return (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]
