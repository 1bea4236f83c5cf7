"""Convolutions modulated by a style, after StyleGAN2 (Karras et al., 2020) in its "clean" form.

No blur kernels, no equalised learning rate, no gain after the leaky ReLU; resampling is bilinear between half-pixel
centres.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

SLOPE = 0.2
"""Of every leaky ReLU."""


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU."""
    return nn.functional.leaky_relu(x, SLOPE)


def scaled(x: Float[Tensor, "B C H W"], factor: float) -> Float[Tensor, "B C h w"]:
    """Bilinear resampling by a factor."""
    return nn.functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ModulatedConv(nn.Module):
    """A convolution without bias whose input channels are scaled by a linear map of the style.

    Demodulation divides every output channel by the norm of its scaled weights. Scaling inputs and outputs instead of
    weights is the same function and needs no convolution per sample.

    Args:
        upsample: doubles the input's size first.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        style: int,
        *,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.demodulate, self.upsample = demodulate, upsample
        self.modulation = nn.Linear(style, channels_in)
        nn.init.kaiming_normal_(self.modulation.weight, a=0, mode="fan_in", nonlinearity="linear")
        nn.init.ones_(self.modulation.bias)
        scale = 1 / math.sqrt(channels_in * kernel**2)
        self.weight = nn.Parameter(torch.randn(1, channels_out, channels_in, kernel, kernel) * scale)

    def forward(self, x: Float[Tensor, "B I H W"], style: Float[Tensor, "B S"]) -> Float[Tensor, "B O h w"]:
        weight, scale = self.weight[0], self.modulation(style)
        x = x * scale[..., None, None]
        if self.upsample:
            x = scaled(x, 2)
        x = nn.functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
        if not self.demodulate:
            return x
        energy = scale.square() @ weight.square().sum((2, 3)).T
        return x * (energy + 1e-8).rsqrt()[..., None, None]


class StyledConv(nn.Module):
    """Modulated convolution times √2, plus noise of a learned strength (`weight`) and bias, then a leaky ReLU."""

    def __init__(self, channels_in: int, channels_out: int, style: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.modulated_conv = ModulatedConv(channels_in, channels_out, 3, style, upsample=upsample)
        self.weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, channels_out, 1, 1))

    def forward(
        self, x: Float[Tensor, "B I H W"], style: Float[Tensor, "B S"], noise: Float[Tensor, "#B 1 h w"]
    ) -> Float[Tensor, "B O h w"]:
        return activate(self.modulated_conv(x, style) * math.sqrt(2) + self.weight * noise + self.bias)


class ToRgb(nn.Module):
    """Modulated 1x1 convolution without demodulation, plus bias and the enlarged image of the level before."""

    def __init__(self, channels_in: int, style: int, channels_out: int = 3) -> None:
        super().__init__()
        self.modulated_conv = ModulatedConv(channels_in, channels_out, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, channels_out, 1, 1))

    def forward(
        self, x: Float[Tensor, "B I H W"], style: Float[Tensor, "B S"], image: Float[Tensor, "B O h w"] | None = None
    ) -> Float[Tensor, "B O H W"]:
        out = self.modulated_conv(x, style) + self.bias
        return out if image is None else out + scaled(image, 2)
