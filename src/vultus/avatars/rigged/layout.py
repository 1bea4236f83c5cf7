"""Where the Gaussians of a new avatar sit: on the surface, flat along its normal, covering every triangle evenly."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.avatars.rigged.frames import TriangleFrames, triangle_frames
from vultus.avatars.rigged.model import LocalSplats

_MOST_DIVISIONS = 5


def divisions_for(areas: Float[Tensor, "F"], importance: Float[Tensor, "F"], budget: int) -> Int[Tensor, "F"]:
    """Into how many parts to divide each edge so that about `budget` sub-triangles come out.

    Sub-triangles of equally important triangles get similar areas; every triangle has at least one.
    """
    weight = (areas * importance).double()
    low, high = 1e-12, float(weight.max()) + 1e-12

    def count(unit: float) -> Tensor:
        return (weight / unit).sqrt().round().clamp(1, _MOST_DIVISIONS).long()

    for _ in range(60):
        middle = math.sqrt(low * high)
        if int((count(middle) ** 2).sum()) > budget:
            low = middle
        else:
            high = middle
    return count(high)


def subdivision(divisions: int) -> Float[Tensor, "M 3"]:
    """Barycentric centres of the `divisions²` equal sub-triangles of a triangle."""
    centers = []
    for row in range(divisions):
        for column in range(divisions - row):
            rest = divisions - row - column
            centers.append((row + 1 / 3, column + 1 / 3, rest - 2 / 3))
            if rest > 1:
                centers.append((row + 2 / 3, column + 2 / 3, rest - 4 / 3))
    return torch.tensor(centers) / divisions


def surface_splats(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    divisions: Int[Tensor, "F"],
    *,
    shapes: Float[Tensor, "F 3 3"] | None = None,
    overlap: float = 2.0,
    thickness: float = 0.15,
    opacity: float = 0.95,
) -> tuple[LocalSplats, Float[Tensor, "N 3"]]:
    """Flat grey Gaussians that cover a mesh, and the barycentric place of each in its triangle.

    Each has the second moments of its sub-triangle times `overlap` (2: opaque also between centres) in the plane, and
    `thickness` times its smaller half-axis along the normal.

    shapes: corners of every triangle in the pose in which it is to be covered; `vertices` without.
    """
    binding, places, share = [], [], []
    for number in divisions.unique().tolist():
        chosen = (divisions == number).nonzero()[:, 0]
        inside = subdivision(number)
        binding.append(chosen.repeat_interleave(len(inside)))
        places.append(inside.repeat(len(chosen), 1))
        share.append(torch.full((len(chosen) * len(inside),), 1.0 / number))
    order = torch.cat(binding).argsort(stable=True)
    bound, place, part = torch.cat(binding)[order], torch.cat(places)[order].to(vertices), torch.cat(share)[order]

    if shapes is None:
        shapes = vertices[faces]
    apart = torch.arange(shapes.numel() // 3).view(-1, 3)
    corners = _local_corners(shapes.reshape(-1, 3), apart, triangle_frames(shapes.reshape(-1, 3), apart))
    means = (corners[bound] * place[..., None]).sum(-2)
    long, short, angle = _ellipse(corners)
    smallest = 1e-3
    flat = (short * thickness).clamp_min(smallest)
    scales = torch.stack([long, flat, short.clamp_min(smallest)], dim=-1)[bound] * part[:, None] * overlap
    # A turn about the local y axis (the normal) carries x onto the ellipse's long axis.
    half = angle[bound] / 2
    rotations = torch.stack([half.cos(), torch.zeros_like(half), half.sin(), torch.zeros_like(half)], dim=-1)
    count = bound.shape[0]
    splats = LocalSplats(
        means=means,
        log_scales=scales.clamp_min(1e-4).log(),
        rotations=rotations,
        opacities=torch.full((count,), math.log(opacity / (1 - opacity))),
        sh0=torch.zeros(count, 1, 3),
        sh_rest=torch.zeros(count, 0, 3),
        binding=bound,
    )
    return splats, place


def published_splats(face_count: int, degree: int, generator: torch.Generator) -> LocalSplats:
    """The initial values of the GaussianAvatars paper: a round, faint, grey Gaussian on every triangle."""
    return LocalSplats(
        means=torch.zeros(face_count, 3),
        log_scales=torch.zeros(face_count, 3),
        rotations=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(face_count, 1),
        opacities=torch.full((face_count,), math.log(0.1 / 0.9)),
        sh0=torch.rand(face_count, 1, 3, generator=generator) / 255,
        sh_rest=torch.zeros(face_count, (degree + 1) ** 2 - 1, 3),
        binding=torch.arange(face_count),
    )


def _local_corners(vertices: Tensor, faces: Tensor, frames: TriangleFrames) -> Float[Tensor, "F 3 3"]:
    """Corners of every triangle in its own frame, triangle sizes."""
    relative = vertices[faces] - frames.center[:, None]
    return relative @ frames.rotation / frames.scale[..., None].clamp_min(1e-9)


def _ellipse(corners: Float[Tensor, "F 3 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Half-axes (standard deviations of a uniform triangle) and the turn about y of the long one, in the x-z plane."""
    x, z = corners[..., 0], corners[..., 2]
    xx, zz, xz = (x * x).sum(-1) / 12, (z * z).sum(-1) / 12, (x * z).sum(-1) / 12
    middle, spread = (xx + zz) / 2, torch.sqrt(((xx - zz) / 2) ** 2 + xz**2)
    long, short = (middle + spread).clamp_min(0).sqrt(), (middle - spread).clamp_min(0).sqrt()
    # Turning by θ about +y carries +x to (cos θ, 0, −sin θ).
    angle = -0.5 * torch.atan2(2 * xz, xx - zz)
    return long, short, angle
