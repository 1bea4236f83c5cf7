"""Small operations on masks: `[*B, H, W, 1]` floats in [0, 1], 1 where the subject is."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def composite(
    color: Float[Tensor, "*B H W 3"], opacity: Float[Tensor, "*B H W 1"], background: Float[Tensor, "3"] | float
) -> Float[Tensor, "*B H W 3"]:
    """Straight (not premultiplied) colours over a background."""
    return color * opacity + background * (1 - opacity)


def dilate(mask: Float[Tensor, "*B H W 1"], radius: int) -> Float[Tensor, "*B H W 1"]:
    """The largest value within a square of `radius` pixels."""
    if radius <= 0:
        return mask
    planes = mask.reshape(-1, 1, *mask.shape[-3:-1])
    side = 2 * radius + 1
    # Rows, then columns: the same maximum with far fewer comparisons.
    planes = torch.nn.functional.max_pool2d(planes, (side, 1), stride=1, padding=(radius, 0))
    planes = torch.nn.functional.max_pool2d(planes, (1, side), stride=1, padding=(0, radius))
    return planes.reshape(mask.shape)


def erode(mask: Float[Tensor, "*B H W 1"], radius: int) -> Float[Tensor, "*B H W 1"]:
    """The smallest value within a square of `radius` pixels; the image's border does not eat into the mask."""
    return 1 - dilate(1 - mask, radius)


def soften(mask: Float[Tensor, "*B H W 1"], sigma: float) -> Float[Tensor, "*B H W 1"]:
    """Gaussian blur (standard deviation in pixels), the border continued outwards."""
    if sigma <= 0:
        return mask
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=mask.dtype, device=mask.device)
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    weights = weights / weights.sum()
    planes = mask.reshape(-1, 1, *mask.shape[-3:-1])
    planes = torch.nn.functional.pad(planes, (radius, radius, radius, radius), mode="replicate")
    planes = torch.nn.functional.conv2d(planes, weights.reshape(1, 1, -1, 1))
    return torch.nn.functional.conv2d(planes, weights.reshape(1, 1, 1, -1)).reshape(mask.shape)
