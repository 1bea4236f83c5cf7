"""The jaw line that slides with the view: which of FLAME's 79 contour rows a head turn selects.

Row 0…39 belongs to a yaw of 0…+39 degrees, row 40…78 to −1…−39 degrees. Yaw is the angle by which the face points to
the subject's left as seen from the camera; trackers whose rotation contains a camera's half turn use the opposite sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS = 79
_MAX_DEGREES = 39


@dataclass(frozen=True)
class ContourTable:
    """Triangles and barycentric weights of the 17 jaw landmarks for every row."""

    faces: Int[Tensor, "79 17"]
    barycentric: Float[Tensor, "79 17 3"]

    def landmarks(
        self, vertices: Float[Tensor, "*B V 3"], faces: Int[Tensor, "F 3"], rows: Int[Tensor, "*B"]
    ) -> Float[Tensor, "*B 17 3"]:
        """The 17 jaw landmarks (iBUG 0–16) of posed vertices for the selected rows."""
        corners = faces[self.faces[rows]].flatten(-2)
        points = vertices.gather(-2, corners[..., None].expand(*corners.shape, 3)).unflatten(-2, (17, 3))
        return (points * self.barycentric[rows].to(points.dtype)[..., None]).sum(-2)


def pose_yaw_degrees(root: Float[Tensor, "*B 3"], neck: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B"]:
    """Yaw of a head with these root and neck rotations (axis-angle, radians), exactly as FLAME's own code finds it.

    FLAME divides by `‖r + 1e-8‖` instead of `‖r‖`. The difference of 1e-7 degrees decides about yaws half-way between
    two rows, which is why this is not left to `vultus.rotations`; give float64.
    """
    return yaw_degrees(_flame_matrix(root) @ _flame_matrix(neck))


def yaw_degrees(rotation: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B"]:
    """Yaw of a rotation matrix, −90…90 degrees: `atan2(−R20, √(R00² + R10²))`.

    For a contour as seen by a camera give the rotation from the head to an upright frame facing the camera, i.e.
    `diag(1, −1, −1) · R_world_to_camera · R_head`.
    """
    return torch.rad2deg(torch.atan2(-rotation[..., 2, 0], rotation[..., 0, 0].hypot(rotation[..., 1, 0])))


def _flame_matrix(axis_angle: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    angle = (axis_angle + 1e-8).norm(dim=-1)[..., None]
    x, y, z = (axis_angle / angle).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    angle = angle[..., None]
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)


def contour_rows(yaw: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """Rows of the table for yaws in degrees, rounded half to even and clamped to the table."""
    whole = yaw.clamp_max(_MAX_DEGREES).round().long()
    negative = torch.where(whole >= -_MAX_DEGREES, _MAX_DEGREES - whole, ROWS - 1)
    return torch.where(whole >= 0, whole, negative)
