"""Rotations: axis-angle `[*B 3]`, matrices `[*B 3 3]` and unit quaternions wxyz `[*B 4]`.

The only module that imports roma (whose quaternions are xyzw). All functions broadcast over leading dimensions and are
differentiable, also at zero rotation.
"""

from __future__ import annotations

import roma
import torch
from jaxtyping import Float
from torch import Tensor


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Rotation matrices of rotation vectors (radians)."""
    return roma.rotvec_to_rotmat(axis_angle)


def matrix_to_axis_angle(matrix: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3"]:
    """Rotation vectors (radians, norm at most pi) of rotation matrices."""
    return roma.rotmat_to_rotvec(matrix)


def matrix_to_quaternion(matrix: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 4"]:
    """Unit quaternions wxyz of rotation matrices; the sign is arbitrary."""
    return roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(matrix))


def rows_6d_to_matrix(rows: Float[Tensor, "*B 6"]) -> Float[Tensor, "*B 3 3"]:
    """Rotation matrices of their first two rows one after the other, orthonormalised (Gram-Schmidt; Zhou et al. 2019).

    PyTorch3D's form of the 6-D representation. Rows that are parallel or zero make no rotation: the result is not one.
    """
    first = torch.nn.functional.normalize(rows[..., :3], dim=-1)
    second = rows[..., 3:] - (first * rows[..., 3:]).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-2)


def quaternion_to_matrix(quaternion: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 3 3"]:
    """Rotation matrices of quaternions wxyz, which are normalised first."""
    return roma.unitquat_to_rotmat(roma.quat_wxyz_to_xyzw(normalize_quaternion(quaternion)))


def normalize_quaternion(quaternion: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 4"]:
    """The quaternion divided by its norm; a zero quaternion stays zero instead of becoming NaN."""
    return torch.nn.functional.normalize(quaternion, dim=-1, eps=1e-12)


def multiply_quaternions(left: Float[Tensor, "*B 4"], right: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 4"]:
    """Hamilton product of quaternions wxyz: rotate by `right`, then by `left`."""
    lw, lx, ly, lz = left.unbind(-1)
    rw, rx, ry, rz = right.unbind(-1)
    return torch.stack(
        [
            lw * rw - lx * rx - ly * ry - lz * rz,
            lw * rx + lx * rw + ly * rz - lz * ry,
            lw * ry - lx * rz + ly * rw + lz * rx,
            lw * rz + lx * ry - ly * rx + lz * rw,
        ],
        dim=-1,
    )


def rotation_between(start: Float[Tensor, "*B 3 3"], end: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """The rotation that has to follow `start`, in its own frame, to reach `end`: `startᵀ · end`."""
    return start.transpose(-1, -2) @ end
