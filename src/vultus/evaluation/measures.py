"""The figures of one picture against another, over the whole image and inside a mask.

Inside a mask means: outside it both pictures are made to show the target, and the figure is averaged over the mask's
pixels. So no window or filter that reaches across the border sees anything but the target there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.images.masks import dilate
from vultus.images.metrics import MS_SSIM_LEAST_SIDE, ms_ssim, psnr, ssim
from vultus.networks.lpips import LEAST_SIDE, Lpips


@dataclass(frozen=True)
class Figure:
    """A figure: its title and unit, whether more is better, and what it is."""

    title: str
    unit: str
    more_is_better: bool
    meaning: str


FIGURES: Mapping[str, Figure] = {
    "psnr": Figure("PSNR", "dB", True, "of the mean squared error over all pixels and channels"),
    "psnr_channels": Figure("PSNR of channels", "dB", True, "mean of the three channels' own PSNR"),
    "ssim": Figure("SSIM", "", True, "11x11 Gaussian window, sigma 1.5, no border: as scikit-image"),
    "ssim_reflected": Figure("SSIM, reflected", "", True, "the same with a reflected border: as torchmetrics"),
    "ssim_padded": Figure("SSIM, padded", "", True, "the same with a border of zeros: as splatting papers"),
    "ms_ssim": Figure("MS-SSIM", "", True, "five scales, as torchmetrics; at least 176 pixels per side"),
    "lpips": Figure("LPIPS", "", False, "version 0.1"),
    "l1": Figure("L1", "", False, "mean absolute difference, colours in 0..1"),
}
"""By name, what `measure` can give."""


@dataclass(frozen=True)
class PerceptualSettings:
    """LPIPS and whether its input is brought from [0, 1] to [−1, 1] first (its own way) or not (as some papers do)."""

    network: Lpips
    rescale: bool = True

    @property
    def description(self) -> str:
        """Network, version and range, without which an LPIPS means nothing."""
        return f"LPIPS 0.1, {self.network.backbone}, input in {'[-1, 1]' if self.rescale else '[0, 1]'}"


def measure(
    prediction: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    weight: Float[Tensor, "H W 1"] | None = None,
    *,
    perceptual: PerceptualSettings | None = None,
) -> dict[str, float]:
    """Figures by the names of `FIGURES`; those that these images cannot have (too small) are left out.

    prediction, target: sRGB in [0, 1]. weight: how much each pixel counts; zero outside a mask.

    Raises:
        ValueError: the pictures differ in size.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"pictures of {tuple(prediction.shape)} and {tuple(target.shape)} cannot be compared")
    prediction = prediction.clamp(0, 1)
    if weight is not None:
        prediction = torch.where(weight > 0, prediction, target)
    side = min(target.shape[:2])
    channels = [psnr(prediction[..., c : c + 1], target[..., c : c + 1], weight=weight) for c in range(3)]
    error = (prediction - target).abs().mean(-1, keepdim=True)
    found = {
        "psnr": psnr(prediction, target, weight=weight),
        "psnr_channels": torch.stack(channels).mean(),
        "ssim_padded": ssim(prediction, target, weight=weight),
        "l1": error.mean() if weight is None else (error * weight).sum() / weight.sum(),
    }
    if side >= 11:
        found["ssim"] = ssim(prediction, target, padding="valid", weight=weight)
        found["ssim_reflected"] = ssim(prediction, target, padding="reflect", weight=weight)
    if side >= MS_SSIM_LEAST_SIDE:
        found["ms_ssim"] = ms_ssim(prediction, target, weight=weight)
    if perceptual is not None and side >= LEAST_SIDE[perceptual.network.backbone]:
        found["lpips"] = perceptual.network(prediction, target, weight=weight, rescale=perceptual.rescale)
    values = {name: float(found[name]) for name in FIGURES if name in found}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def counted_pixels(mask: Float[Tensor, "H W 1"], dilation: int) -> Float[Tensor, "H W 1"]:
    """1 where the mask is above one half or within a square of `dilation` pixels around such a pixel."""
    return dilate((mask > 0.5).float(), dilation)
