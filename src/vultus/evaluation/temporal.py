"""How steady a rendered sequence is, compared with the sequence it should show.

A constant error (a wrong colour, a missing strand) is seen once; one that changes from frame to frame flickers.
`flicker` is the root mean square, over pixels and channels, of the change of the error from one instant to the next:
`(renderₜ₊₁ − targetₜ₊₁) − (renderₜ − targetₜ)`, in 8-bit levels. It contains the target's own noise. `change` and
`target_change` are the same of the render and of the target alone; their ratio is above 1 where the render moves more
than the footage, below 1 where it moves less.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.evaluation.faces import Faces

LEVELS = 255.0


@dataclass(frozen=True)
class Shown:
    """A render, its target, and which pixels count (None: all), at one instant.

    source: the picture that the avatar was made of, where it was made of one. faces: the faces in all of them. truth:
    whether the target shows the same person, so that colours can be compared.
    """

    prediction: Float[Tensor, "H W 3"]
    target: Float[Tensor, "H W 3"]
    weight: Float[Tensor, "H W 1"] | None = None
    source: Float[Tensor, "h w 3"] | None = None
    faces: Faces | None = None
    truth: bool = True


@dataclass(frozen=True)
class TemporalChange:
    """See the module; all in 8-bit levels."""

    flicker: float
    change: float
    target_change: float


def temporal_change(before: Shown, now: Shown) -> TemporalChange:
    """The change between two consecutive instants of one camera, over the pixels that count in either.

    Raises:
        ValueError: pictures of different sizes.
    """
    if before.target.shape != now.target.shape:
        raise ValueError("consecutive pictures of one camera differ in size")
    weight = torch.ones_like(now.target[..., :1])
    if before.weight is not None and now.weight is not None:
        weight = torch.maximum(before.weight, now.weight)

    def size(change: Tensor) -> float:
        mean = (change.square() * weight).sum() / (weight.sum() * change.shape[-1]).clamp_min(1)
        return LEVELS * float(mean.sqrt())

    moved = now.prediction.clamp(0, 1) - before.prediction.clamp(0, 1)
    should = now.target - before.target
    return TemporalChange(size(moved - should), size(moved), size(should))
