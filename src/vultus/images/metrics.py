"""How alike two images are: L1, PSNR and SSIM, as differentiable functions of `[*B, H, W, C]` images in [0, 1]."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_SHIFT = 0.5


def l1(image: Float[Tensor, "*B H W C"], target: Float[Tensor, "*B H W C"]) -> Float[Tensor, ""]:
    """Mean absolute difference."""
    return (image - target).abs().mean()


def psnr(image: Float[Tensor, "*B H W C"], target: Float[Tensor, "*B H W C"]) -> Float[Tensor, "*B"]:
    """Peak signal-to-noise ratio in dB per image, `−10 log10(mean squared error)`; 100 dB for identical images."""
    error = (image - target).square().flatten(-3).mean(-1)
    return -10 * torch.log10(error.clamp_min(1e-10))


def ssim(
    image: Float[Tensor, "*B H W C"],
    target: Float[Tensor, "*B H W C"],
    *,
    padding: Literal["same", "valid"] = "same",
) -> Float[Tensor, "*B"]:
    """Mean structural similarity per image (see `ssim_map`)."""
    return ssim_map(image, target, padding=padding).flatten(-3).mean(-1)


def ssim_map(
    image: Float[Tensor, "*B H W C"],
    target: Float[Tensor, "*B H W C"],
    *,
    padding: Literal["same", "valid"] = "same",
) -> Float[Tensor, "*B h w C"]:
    """Structural similarity of every pixel and channel: 11x11 Gaussian window with sigma 1.5, biased variances.

    `same` pads with zeros (what training losses of splatting papers use), `valid` leaves out a border of 5 pixels.
    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", 2004, equation 13.

    Raises:
        ValueError: the images differ in shape, or are smaller than the window with `valid`.
    """
    if image.shape != target.shape:
        raise ValueError(f"images of shapes {tuple(image.shape)} and {tuple(target.shape)} cannot be compared")
    height, width, channels = image.shape[-3:]
    if padding == "valid" and min(height, width) < _WINDOW:
        raise ValueError(f"an image of {width}x{height} pixels is smaller than the {_WINDOW}x{_WINDOW} window")
    batch = image.shape[:-3]
    a = image.reshape(-1, height, width, channels).permute(0, 3, 1, 2).flatten(0, 1)
    b = target.reshape(-1, height, width, channels).permute(0, 3, 1, 2).flatten(0, 1)
    if padding == "same":
        border = _WINDOW // 2
        a, b = (torch.nn.functional.pad(planes, (border, border, border, border)) for planes in (a, b))
    # Variances do not change when everything is shifted, but cancel far less around the middle of the range.
    a, b = a - _SHIFT, b - _SHIFT
    moments = _gaussian_blur(torch.cat([a, b, a * a, b * b, a * b]))
    mean_a, mean_b, square_a, square_b, product = moments.chunk(5)
    covariance = product - mean_a * mean_b
    variances = square_a - mean_a.square() + square_b - mean_b.square()
    mean_a, mean_b = mean_a + _SHIFT, mean_b + _SHIFT
    similarity = ((2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)) / (
        (mean_a.square() + mean_b.square() + _C1) * (variances + _C2)
    )
    planes = similarity.unflatten(0, (-1, channels)).permute(0, 2, 3, 1)
    return planes.reshape(*batch, *planes.shape[1:])


def _gaussian_blur(planes: Float[Tensor, "N H W"]) -> Float[Tensor, "N h w"]:
    """Separable blur. All planes are channels of one depthwise convolution: on a CPU far faster than a batch."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64, device=planes.device) - _WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    count = planes.shape[0]
    weights = (weights / weights.sum()).to(planes.dtype).expand(count, 1, _WINDOW)
    blurred = torch.nn.functional.conv2d(planes[None], weights[..., None], groups=count)
    return torch.nn.functional.conv2d(blurred, weights[:, :, None], groups=count)[0]
