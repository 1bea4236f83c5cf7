"""Loss terms of rigged Gaussians.

Source: GaussianAvatars (Qian et al., CVPR 2024), section "Optimization and regularization"; the flatness, opacity and
colour terms are what one view additionally needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.images.metrics import ssim_map


def image_loss(
    image: Float[Tensor, "*B H W 3"],
    target: Float[Tensor, "*B H W 3"],
    dssim: float = 0.2,
    weight: Float[Tensor, "*B H W 1"] | None = None,
    *,
    gray: bool = False,
) -> Float[Tensor, "*B"]:
    """`(1 − dssim) · L1 + dssim · (1 − SSIM)` per image, a weighted mean of pixels (3D Gaussian Splatting).

    gray: SSIM of the channels' mean only, a third of the work with nearly the same gradients.
    """
    difference = (1 - dssim) * (image - target).abs().mean(-1, keepdim=True)
    if dssim:
        if gray:
            similarity = ssim_map(image.mean(-1, keepdim=True), target.mean(-1, keepdim=True))
        else:
            similarity = ssim_map(image, target).mean(-1, keepdim=True)
        difference = difference + dssim * (1 - similarity)
    if weight is None:
        return difference.flatten(-3).mean(-1)
    return (difference * weight).flatten(-3).sum(-1) / weight.flatten(-3).sum(-1).clamp_min(1e-6)


def position_loss(
    means: Float[Tensor, "N 3"], visible: Bool[Tensor, "N"] | None = None, threshold: float = 1.0
) -> Float[Tensor, ""]:
    """Mean over visible Gaussians of their distance (triangle sizes) from the triangle's centre beyond `threshold`."""
    return _mean(_norm(means) - threshold if threshold else _norm(means), visible)


def scale_loss(
    scales: Float[Tensor, "N 3"], visible: Bool[Tensor, "N"] | None = None, threshold: float = 0.6
) -> Float[Tensor, ""]:
    """Mean over visible Gaussians of the norm of what their scales (triangle sizes) exceed `threshold` by."""
    return _mean(_norm((scales - threshold).clamp_min(0)), visible)


def metric_position_loss(
    means: Float[Tensor, "N 3"],
    face_size: Float[Tensor, "N 1"],
    visible: Bool[Tensor, "N"] | None = None,
    threshold: float = 0.004,
) -> Float[Tensor, ""]:
    """The published metric variant: norm of the components of `k μ` (metres) that exceed `threshold`, signed."""
    return _mean(_norm((face_size * means - threshold).clamp_min(0)), visible)


def metric_scale_loss(
    scales: Float[Tensor, "N 3"],
    face_size: Float[Tensor, "N 1"],
    visible: Bool[Tensor, "N"] | None = None,
    threshold: float = 0.003,
) -> Float[Tensor, ""]:
    """Norm of what world scales (metres) exceed `threshold` by, mean over visible Gaussians."""
    return _mean(_norm((face_size * scales - threshold).clamp_min(0)), visible)


def offset_loss(offset: Float[Tensor, "V 3"]) -> Float[Tensor, ""]:
    """Mean length of one instant's per-vertex offset, metres."""
    return _norm(offset).mean()


def offset_variation_loss(offsets: Float[Tensor, "T V 3"]) -> Float[Tensor, ""]:
    """Standard deviation (unbiased) of per-vertex offsets over time, mean over vertices and axes; metres."""
    return offsets.std(dim=0).mean()


def stretch_loss(scales: Float[Tensor, "N 3"], limit: float = 4.0) -> Float[Tensor, ""]:
    """Mean excess of the ratio of the largest to the middle scale over `limit`: needles cost, discs do not."""
    ordered = scales.sort(dim=-1).values
    return (ordered[:, 2] / ordered[:, 1].clamp_min(1e-8) - limit).clamp_min(0).mean()


def drift_loss(
    now: Sequence[Float[Tensor, "N _"]], first: Sequence[Float[Tensor, "N _"]], weight: Float[Tensor, "N"]
) -> Float[Tensor, ""]:
    """Weighted mean of how far Gaussians are from how they began: squared changes of raw values, summed.

    now, first: means (triangle sizes), log scales, and unit quaternions, whose difference is half the angle turned by.
    """
    means, scales, turns = (((a - b) ** 2).sum(-1) for a, b in zip(now, first, strict=True))
    return (weight * (means + scales + 0.5 * turns)).mean()


def huber(difference: Tensor, width: float = 0.1) -> Tensor:
    """Element-wise Huber penalty: quadratic within `width`, linear beyond."""
    size = difference.abs()
    return torch.where(size < width, difference.square() / (2 * width), size - width / 2)


def _norm(vectors: Tensor) -> Tensor:
    """Euclidean norm with subgradient 0 at 0."""
    square = (vectors * vectors).sum(-1)
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, torch.ones_like(square)).sqrt(), square)


def _mean(values: Tensor, visible: Tensor | None) -> Tensor:
    values = values.clamp_min(0)
    if visible is None:
        return values.mean()
    weight = visible.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp_min(1)
