"""Triangle frames: the moving coordinate systems that rigged Gaussians live in.

Source: GaussianAvatars (Qian et al., CVPR 2024), section "3D Gaussian rigging".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.rotations import matrix_to_quaternion, multiply_quaternions, normalize_quaternion

_SMALLEST_SQUARE = 1e-20


@dataclass(frozen=True)
class TriangleFrames:
    """A coordinate system per triangle: x along the first edge, y along the normal, z in the plane away from corner 2.

    `center` is the centroid (metres), `rotation` has the axes as columns, `scale` (metres) is the mean of base length
    and height, `quaternion` is `rotation` as wxyz with arbitrary sign.
    """

    center: Float[Tensor, "*B F 3"]
    rotation: Float[Tensor, "*B F 3 3"]
    quaternion: Float[Tensor, "*B F 4"]
    scale: Float[Tensor, "*B F 1"]

    def detach(self) -> TriangleFrames:
        return TriangleFrames(
            self.center.detach(), self.rotation.detach(), self.quaternion.detach(), self.scale.detach()
        )


def triangle_frames(vertices: Float[Tensor, "*B V 3"], faces: Int[Tensor, "F 3"]) -> TriangleFrames:
    """Frames of all triangles of a posed mesh. Degenerate triangles give zero axes instead of NaN."""
    first, second, third = (vertices.index_select(-2, faces[:, corner]) for corner in range(3))
    base, side = second - first, third - first
    length = _length(base)
    edge = base / length
    normal = torch.linalg.cross(edge, side, dim=-1)
    normal = normal / _length(normal)
    across = torch.linalg.cross(edge, normal, dim=-1)
    across = across / _length(across)
    height = (across * side).sum(-1, keepdim=True).abs()
    rotation = torch.stack([edge, normal, across], dim=-1)
    return TriangleFrames(
        center=(first + second + third) / 3,
        rotation=rotation,
        quaternion=matrix_to_quaternion(rotation),
        scale=(length + height) / 2,
    )


def local_to_world(
    means: Float[Tensor, "N 3"],
    scales: Float[Tensor, "N 3"],
    rotations: Float[Tensor, "N 4"],
    binding: Int[Tensor, "N"],
    frames: TriangleFrames,
) -> tuple[Float[Tensor, "*B N 3"], Float[Tensor, "*B N 3"], Float[Tensor, "*B N 4"]]:
    """World means (metres), standard deviations (metres) and rotations wxyz of triangle-local Gaussians.

    `means` and `scales` are in units of the triangle's size, `rotations` (wxyz, any norm) are in the triangle's frame:
    `μ' = k R μ + T`, `s' = k s`, `q' = q(R) ⊗ q`.
    """
    size = frames.scale.index_select(-2, binding)
    turned = (frames.rotation.index_select(-3, binding) @ means[..., None])[..., 0]
    world_means = size * turned + frames.center.index_select(-2, binding)
    face_rotation = normalize_quaternion(frames.quaternion.index_select(-2, binding))
    world_rotations = multiply_quaternions(face_rotation, normalize_quaternion(rotations))
    return world_means, size * scales, world_rotations


def _length(vector: Tensor) -> Tensor:
    return (vector * vector).sum(-1, keepdim=True).clamp_min(_SMALLEST_SQUARE).sqrt()
