"""How alike two images are: L1, PSNR, SSIM and MS-SSIM, differentiable functions of `[*B, H, W, C]` images in [0, 1].

A `weight` `[*B, H, W, 1]` says how much each pixel counts (a mask); without one, all count the same.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Padding = Literal["same", "valid", "reflect"]

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_SHIFT = 0.5
_SCALE_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_LEAST_SIDE = _WINDOW * 2 ** (len(_SCALE_EXPONENTS) - 1)
"""Images with a shorter side have no MS-SSIM: at the coarsest scale the window would not fit."""


def l1(image: Float[Tensor, "*B H W C"], target: Float[Tensor, "*B H W C"]) -> Float[Tensor, ""]:
    """Mean absolute difference."""
    return (image - target).abs().mean()


def psnr(
    image: Float[Tensor, "*B H W C"],
    target: Float[Tensor, "*B H W C"],
    *,
    weight: Float[Tensor, "*#B H W 1"] | None = None,
) -> Float[Tensor, "*B"]:
    """Peak signal-to-noise ratio in dB per image, `−10 log10(mean squared error)`; 100 dB for identical images."""
    return -10 * torch.log10(_mean((image - target).square(), weight).clamp_min(1e-10))


def ssim(
    image: Float[Tensor, "*B H W C"],
    target: Float[Tensor, "*B H W C"],
    *,
    padding: Padding = "same",
    weight: Float[Tensor, "*#B H W 1"] | None = None,
) -> Float[Tensor, "*B"]:
    """Mean structural similarity per image (see `ssim_map`).

    With `valid` it is the figure of scikit-image (Gaussian weights, sigma 1.5, population covariance), with `reflect`
    that of torchmetrics, with `same` that of splatting papers.
    """
    return _mean(ssim_map(image, target, padding=padding), _inside(weight, padding))


def ms_ssim(
    image: Float[Tensor, "*B H W C"],
    target: Float[Tensor, "*B H W C"],
    *,
    weight: Float[Tensor, "*#B H W 1"] | None = None,
) -> Float[Tensor, "*B"]:
    """Structural similarity at five scales, each half the size of the one before: contrast and structure at all of
    them, luminance at the coarsest, whose border is reflected. The figure of torchmetrics, which counts negative
    contrasts as 0 as well.

    Source: Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment", 2003, with the
    exponents given there.

    Raises:
        ValueError: the images differ in shape, or a side is shorter than `MS_SSIM_LEAST_SIDE`.
    """
    if min(image.shape[-3:-1]) < MS_SSIM_LEAST_SIDE:
        raise ValueError(
            f"MS-SSIM needs images of at least {MS_SSIM_LEAST_SIDE} pixels per side, not "
            f"{image.shape[-2]}x{image.shape[-3]}"
        )
    result = image.new_ones(())
    for scale, exponent in enumerate(_SCALE_EXPONENTS):
        last = scale == len(_SCALE_EXPONENTS) - 1
        padding = "reflect" if last else "valid"
        similarity = _similarity(image, target, padding, with_luminance=last)
        result = result * _mean(similarity, _inside(weight, padding)).clamp_min(0) ** exponent
        if not last:
            image, target = _halved(image), _halved(target)
            weight = None if weight is None else _halved(weight)
    return result


def ssim_map(
    image: Float[Tensor, "*B H W C"],
    target: Float[Tensor, "*B H W C"],
    *,
    padding: Padding = "same",
) -> Float[Tensor, "*B h w C"]:
    """Structural similarity of every pixel and channel: 11x11 Gaussian window with sigma 1.5, biased variances.

    `same` pads with zeros (what training losses of splatting papers use), `reflect` with the image's own pixels,
    `valid` leaves out a border of 5 pixels.
    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", 2004, equation 13.

    Raises:
        ValueError: the images differ in shape, or are smaller than the window with `valid`.
    """
    return _similarity(image, target, padding, with_luminance=True)


def _similarity(
    image: Float[Tensor, "*B H W C"],
    target: Float[Tensor, "*B H W C"],
    padding: Padding,
    *,
    with_luminance: bool,
) -> Float[Tensor, "*B h w C"]:
    """The map of the structural similarity, or of its contrast-and-structure part only."""
    if image.shape != target.shape:
        raise ValueError(f"images of shapes {tuple(image.shape)} and {tuple(target.shape)} cannot be compared")
    height, width, channels = image.shape[-3:]
    if padding != "same" and min(height, width) < _WINDOW:
        raise ValueError(f"an image of {width}x{height} pixels is smaller than the {_WINDOW}x{_WINDOW} window")
    batch = image.shape[:-3]
    a = image.reshape(-1, height, width, channels).permute(0, 3, 1, 2).flatten(0, 1)
    b = target.reshape(-1, height, width, channels).permute(0, 3, 1, 2).flatten(0, 1)
    if padding != "valid":
        mode = "constant" if padding == "same" else "reflect"
        a, b = (torch.nn.functional.pad(planes[None], [_WINDOW // 2] * 4, mode=mode)[0] for planes in (a, b))
    # Variances do not change when everything is shifted, but cancel far less around the middle of the range.
    a, b = a - _SHIFT, b - _SHIFT
    moments = _gaussian_blur(torch.cat([a, b, a * a, b * b, a * b]))
    mean_a, mean_b, square_a, square_b, product = moments.chunk(5)
    covariance = product - mean_a * mean_b
    variances = square_a - mean_a.square() + square_b - mean_b.square()
    mean_a, mean_b = mean_a + _SHIFT, mean_b + _SHIFT
    upper, lower = 2 * covariance + _C2, variances + _C2
    if with_luminance:
        upper = (2 * mean_a * mean_b + _C1) * upper
        lower = (mean_a.square() + mean_b.square() + _C1) * lower
    planes = (upper / lower).unflatten(0, (-1, channels)).permute(0, 2, 3, 1)
    return planes.reshape(*batch, *planes.shape[1:])


def _mean(values: Float[Tensor, "*B h w C"], weight: Float[Tensor, "*#B h w 1"] | None) -> Float[Tensor, "*B"]:
    """Mean over pixels and channels; NaN where the weights are all zero."""
    if weight is None:
        return values.flatten(-3).mean(-1)
    weight = weight.to(values)
    return (values * weight).flatten(-3).sum(-1) / (weight.flatten(-3).sum(-1) * values.shape[-1])


def _inside(weight: Float[Tensor, "*B H W 1"] | None, padding: Padding) -> Float[Tensor, "*B h w 1"] | None:
    """The weights of the pixels that a similarity map has."""
    if weight is None or padding != "valid":
        return weight
    border = _WINDOW // 2
    return weight[..., border:-border, border:-border, :]


def _halved(image: Float[Tensor, "*B H W C"]) -> Float[Tensor, "*B h w C"]:
    planes = image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2)
    planes = torch.nn.functional.avg_pool2d(planes, 2).permute(0, 2, 3, 1)
    return planes.reshape(*image.shape[:-3], *planes.shape[1:])


def _gaussian_blur(planes: Float[Tensor, "N H W"]) -> Float[Tensor, "N h w"]:
    """Separable blur. All planes are channels of one depthwise convolution: on a CPU far faster than a batch."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64, device=planes.device) - _WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    count = planes.shape[0]
    weights = (weights / weights.sum()).to(planes.dtype).expand(count, 1, _WINDOW)
    blurred = torch.nn.functional.conv2d(planes[None], weights[..., None], groups=count)
    return torch.nn.functional.conv2d(blurred, weights[:, :, None], groups=count)[0]
