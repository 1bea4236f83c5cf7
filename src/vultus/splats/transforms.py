"""Gaussians moved as a rigid body, and their spherical harmonics with them."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.rotations import matrix_to_quaternion, multiply_quaternions
from vultus.splats.gaussians import Gaussians
from vultus.splats.sh import sh_basis

_SAMPLES = 64


def transform_gaussians(
    gaussians: Gaussians,
    rotation: Float[Tensor, "3 3"],
    *,
    scale: float = 1.0,
    translation: Float[Tensor, "3"] | None = None,
) -> Gaussians:
    """The same splats after `x → scale · rotation · x + translation`, seen from a camera that moved along: no change.

    Args:
        rotation: a proper rotation. scale: factor of all lengths, positive. translation: metres.
    """
    turn = rotation.to(gaussians.means)
    means = (gaussians.means @ turn.T) * scale
    if translation is not None:
        means = means + translation.to(means)
    quaternion = matrix_to_quaternion(rotation.double()).to(gaussians.rotations)
    return replace(
        gaussians,
        means=means,
        rotations=multiply_quaternions(quaternion.expand_as(gaussians.rotations), gaussians.rotations),
        scales=gaussians.scales * scale,
        sh=None if gaussians.sh is None else rotate_sh(gaussians.sh, rotation),
    )


def rotate_sh(coefficients: Float[Tensor, "*B K 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "*B K 3"]:
    """Coefficients of the rotated function: its value along `rotation · d` is the old one along d.

    Each degree is mapped by the matrix that reproduces the rotated basis at more directions than it has functions,
    which is exact because rotations mix functions of one degree only.
    """
    count = coefficients.shape[-2]
    degree = int(count**0.5 + 0.5) - 1
    directions = _directions()
    before = sh_basis(directions @ rotation.double(), degree)
    after = sh_basis(directions, degree)
    matrix = torch.zeros(count, count, dtype=torch.float64)
    for level in range(degree + 1):
        block = slice(level**2, (level + 1) ** 2)
        matrix[block, block] = torch.linalg.lstsq(after[:, block], before[:, block]).solution
    # Turns by multiples of 90 degrees only swap and negate low degrees: keep them free of rounding noise.
    whole = matrix.round()
    matrix = torch.where((matrix - whole).abs() < 1e-12, whole, matrix)
    return torch.einsum("ij,...jc->...ic", matrix, coefficients.double()).to(coefficients)


def _directions() -> Float[Tensor, "M 3"]:
    """Unit vectors spread evenly over the sphere (a golden-angle spiral)."""
    index = torch.arange(_SAMPLES, dtype=torch.float64)
    z = 1 - (2 * index + 1) / _SAMPLES
    angle = index * (torch.pi * (3 - 5**0.5))
    ring = (1 - z**2).sqrt()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), z], dim=-1)
