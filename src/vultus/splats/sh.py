"""Real spherical harmonics of degrees 0 to 4, signs as in 3D Gaussian Splatting (Condon-Shortley phase).

Inside degree l the order is m = -l ... l. Constants are the usual normalisations of the real basis.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SH_C0 = 0.28209479177387814
"""The constant basis function, 1 / (2 sqrt(pi))."""


def sh_basis(directions: Float[Tensor, "*B 3"], degree: int) -> Float[Tensor, "*B K"]:
    """The (degree + 1)² basis functions at unit `directions`."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        c = 0.4886025119029199
        basis += [-c * y, c * z, -c * x]
    if degree >= 2:
        c = 1.0925484305920792
        basis += [
            c * x * y,
            -c * y * z,
            0.31539156525252005 * (2 * zz - xx - yy),
            -c * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if degree >= 3:
        basis += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    if degree >= 4:
        basis += [
            2.5033429417967046 * x * y * (xx - yy),
            -1.7701307697799304 * y * z * (3 * xx - yy),
            0.9461746957575601 * x * y * (7 * zz - 1),
            -0.6690465435572892 * y * z * (7 * zz - 3),
            0.10578554691520431 * (zz * (35 * zz - 30) + 3),
            -0.6690465435572892 * x * z * (7 * zz - 3),
            0.47308734787878004 * (xx - yy) * (7 * zz - 1),
            -1.7701307697799304 * x * z * (xx - 3 * yy),
            0.6258357354491761 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
        ]
    return torch.stack(basis, dim=-1)


def evaluate_sh(
    directions: Float[Tensor, "*#B 3"], coefficients: Float[Tensor, "*#B K C"], degree: int
) -> Float[Tensor, "*B C"]:
    """Sum of the first (degree + 1)² coefficients times the basis at `directions`, which are normalised here.

    Colours need `+ 0.5` and a clamp at zero on top (`sh_to_rgb`).
    """
    unit = torch.nn.functional.normalize(directions, dim=-1)
    basis = sh_basis(unit, degree)
    return (basis[..., None] * coefficients[..., : (degree + 1) ** 2, :]).sum(dim=-2)


def sh_to_rgb(
    directions: Float[Tensor, "*#B 3"], coefficients: Float[Tensor, "*#B K 3"], degree: int
) -> Float[Tensor, "*B 3"]:
    """Colour seen along `directions` (from the camera to the splat, world frame): max(SH + 0.5, 0)."""
    return (evaluate_sh(directions, coefficients, degree) + 0.5).clamp(min=0.0)


def turn_sh1(coefficients: Float[Tensor, "*#B 3 C"], rotation: Float[Tensor, "*#B 3 3"]) -> Float[Tensor, "*B 3 C"]:
    """The three coefficients of degree 1 after the thing they colour was turned by `rotation`.

    Their basis is (−y, z, −x) times a constant, so that they are a vector per channel with its axes in another order.
    """
    along_y, along_z, along_x = coefficients.unbind(-2)
    x, y, z = (rotation @ torch.stack([-along_x, -along_y, along_z], dim=-2)).unbind(-2)
    return torch.stack([-y, z, -x], dim=-2)


def rgb_to_sh0(rgb: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """The degree-0 coefficient that shows `rgb` from every side."""
    return (rgb - 0.5) / SH_C0
