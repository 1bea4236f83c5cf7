"""`Gaussians`: splats in world space, in the form the rasteriser draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.errors import VultusError


def broadcast(shapes: Sequence[torch.Size]) -> torch.Size:
    """The common shape; quick where all are the same already, which torch's own function is not."""
    first = shapes[0]
    return first if all(shape == first for shape in shapes) else torch.broadcast_shapes(*shapes)


@dataclass(frozen=True)
class Gaussians:
    """N activated splats; every field may have its own leading batch dimensions, which broadcast.

    means: world positions, metres. rotations: quaternions wxyz, any norm (see RasterSettings.normalise_rotations).
    scales: standard deviations along the rotated axes, metres. opacities: in [0, 1].
    Exactly one of sh (spherical-harmonics coefficients, K = (degree + 1)²; colour = max(SH + 0.5, 0)) and features
    (any number of channels, drawn as they are). sh_degree: highest degree used; None uses all that are stored.
    """

    means: Float[Tensor, "*#B N 3"]
    rotations: Float[Tensor, "*#B N 4"]
    scales: Float[Tensor, "*#B N 3"]
    opacities: Float[Tensor, "*#B N"]
    sh: Float[Tensor, "*#B N K 3"] | None = None
    features: Float[Tensor, "*#B N D"] | None = None
    sh_degree: int | None = None

    def __post_init__(self) -> None:
        if (self.sh is None) == (self.features is None):
            raise VultusError("Gaussians need exactly one of sh and features")
        n = self.means.shape[-2] if self.means.dim() >= 2 else -1
        wanted: list[tuple[str, Tensor, tuple[int | None, ...]]] = [
            ("means", self.means, (n, 3)),
            ("rotations", self.rotations, (n, 4)),
            ("scales", self.scales, (n, 3)),
            ("opacities", self.opacities, (n,)),
        ]
        if self.sh is not None:
            wanted.append(("sh", self.sh, (n, None, 3)))
        if self.features is not None:
            wanted.append(("features", self.features, (n, None)))
        for name, tensor, shape in wanted:
            found = tuple(tensor.shape[-len(shape) :])
            if len(found) != len(shape) or any(w is not None and w != f for w, f in zip(shape, found, strict=True)):
                text = ", ".join("any" if w is None else "N" if w < 0 else str(w) for w in shape)
                raise VultusError(f"Gaussians.{name} has shape {tuple(tensor.shape)}; it must end in ({text})")
        if self.sh is not None:
            k = self.sh.shape[-2]
            degree = int(k**0.5 + 0.5) - 1
            if (degree + 1) ** 2 != k or not 0 <= degree <= 4:
                raise VultusError(f"Gaussians.sh has {k} coefficients; degrees 0 to 4 have 1, 4, 9, 16 or 25")
            if self.sh_degree is not None and not 0 <= self.sh_degree <= degree:
                raise VultusError(f"sh_degree is {self.sh_degree}, but the stored coefficients allow 0 to {degree}")
        elif self.sh_degree is not None:
            raise VultusError("sh_degree is given, but these Gaussians have features, not spherical harmonics")
        if self.features is not None and self.features.shape[-1] == 0:
            raise VultusError("Gaussians.features has no channels")

    @property
    def count(self) -> int:
        """N, the number of splats."""
        return self.means.shape[-2]

    @property
    def channels(self) -> int:
        """D, the number of channels of the image they make (3 for spherical harmonics)."""
        return 3 if self.features is None else self.features.shape[-1]

    @property
    def active_degree(self) -> int | None:
        """The highest spherical-harmonics degree that is used; None for features."""
        if self.sh is None:
            return None
        return int(self.sh.shape[-2] ** 0.5 + 0.5) - 1 if self.sh_degree is None else self.sh_degree

    @property
    def batch_shape(self) -> torch.Size:
        shapes = [self.means.shape[:-2], self.rotations.shape[:-2], self.scales.shape[:-2], self.opacities.shape[:-1]]
        if self.sh is not None:
            shapes.append(self.sh.shape[:-3])
        if self.features is not None:
            shapes.append(self.features.shape[:-2])
        return broadcast(shapes)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Gaussians:
        """The same splats on another device or in another floating-point type."""
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            moved[field.name] = value.to(device=device, dtype=dtype) if isinstance(value, Tensor) else value
        return replace(self, **moved)
