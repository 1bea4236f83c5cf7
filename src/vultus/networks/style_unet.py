"""StyleUNet: a UNet whose encoder gives a style and whose decoder steers a style-modulated generator.

The "clean" StyleGAN2 with spatial feature transform of face restoration (GFPGAN, Wang et al., 2021), used at constant
resolution.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.networks.modulated import SLOPE, StyledConv, ToRgb, activate, scaled
from vultus.networks.style_unet_fast import FastStyleUNet

_WIDTHS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}
"""Channels of the generator by resolution; the UNet has half of them."""


class ResBlock(nn.Module):
    """Two 3x3 convolutions with a change of size by `factor` between them, plus a 1x1 convolution of the resized
    input."""

    def __init__(self, channels_in: int, channels_out: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv1 = nn.Conv2d(channels_in, channels_in, 3, padding=1)
        self.conv2 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        out = scaled(activate(self.conv1(x)), self.factor)
        return activate(self.conv2(out)) + self.skip(scaled(x, self.factor))


class StyleGenerator(nn.Module):
    """The style-modulated generator, steered at every resolution by a scale and a shift of its features."""

    def __init__(self, size: int, channels_out: int, style: int, layers: int, widths: dict[int, int]) -> None:
        super().__init__()
        levels = [2**k for k in range(3, int(math.log2(size)) + 1)]
        mlp: list[nn.Module] = [_UnitLength()]
        for _ in range(layers):
            mlp += [nn.Linear(style, style), nn.LeakyReLU(SLOPE)]
        self.style_mlp = nn.Sequential(*mlp)
        for layer in self.style_mlp:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE, mode="fan_in", nonlinearity="leaky_relu")
                nn.init.zeros_(layer.bias)
        self.constant_input = _Constant(widths[4])
        self.style_conv1 = StyledConv(widths[4], widths[4], style)
        self.to_rgb1 = ToRgb(widths[4], style, channels_out)
        self.style_convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for level in levels:
            self.style_convs.append(StyledConv(widths[level // 2], widths[level], style, upsample=True))
            self.style_convs.append(StyledConv(widths[level], widths[level], style))
            self.to_rgbs.append(ToRgb(widths[level], style, channels_out))
        self.noises = nn.Module()
        for index, level in enumerate([4, *(level for level in levels for _ in range(2))]):
            self.noises.register_buffer(f"noise{index}", torch.randn(1, 1, level, level))

    def forward(
        self,
        code: Float[Tensor, "B S"],
        conditions: list[tuple[Tensor, Tensor]],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B O H W"]:
        """The image before its sigmoid. Noise is the stored one, or drawn from `generator`."""
        latent = self.style_mlp(code)
        x = self.constant_input.weight.expand(len(code), -1, -1, -1)
        x = self.style_conv1(x, latent, self._noise(0, x, generator))
        image = self.to_rgb1(x, latent)
        for k, (scale, shift) in enumerate(conditions):
            noise = self._noise(2 * k + 1, x, generator)
            x = self.style_convs[2 * k](x, latent, noise) * scale + shift
            x = self.style_convs[2 * k + 1](x, latent, self._noise(2 * k + 2, x, generator))
            image = self.to_rgbs[k](x, latent, image)
        return image

    def _noise(self, index: int, x: Tensor, generator: torch.Generator | None) -> Tensor:
        stored = self.noises.get_buffer(f"noise{index}")
        if generator is None:
            return stored
        drawn = torch.randn(len(x), *stored.shape[1:], generator=generator, device=generator.device, dtype=stored.dtype)
        return drawn.to(x.device)


class StyleUNet(nn.Module):
    """Feature images to images in [0, 1].

    Args:
        in_size, out_size: sides of the (square) images, powers of two; `in_size` at least `out_size`. Inputs smaller
            than `out_size` are enlarged first.
        narrow: factor of all channel counts of the published network.
        style: length of the style vector. layers: of the network that maps it.
    """

    def __init__(
        self,
        in_size: int,
        out_size: int,
        in_dim: int = 32,
        out_dim: int = 3,
        *,
        style: int = 512,
        layers: int = 8,
        narrow: float = 1.0,
    ) -> None:
        super().__init__()
        self.out_size = out_size
        self._fast: FastStyleUNet | None = None
        generator = {size: max(8, round(width * narrow)) for size, width in _WIDTHS.items()}
        unet = {size: max(4, width // 2) for size, width in generator.items()}
        if in_size > out_size:
            self.conv_body_first = nn.ModuleList(
                [nn.Conv2d(in_dim, unet[in_size], 1), ResBlock(unet[in_size], unet[out_size], 0.5)]
            )
        else:
            self.conv_body_first = nn.Conv2d(in_dim, unet[out_size], 1)
        levels = [2**k for k in range(3, int(math.log2(out_size)) + 1)]
        self.conv_body_down = nn.ModuleList(ResBlock(unet[s], unet[s // 2], 0.5) for s in reversed(levels))
        self.final_conv = nn.Conv2d(unet[4], unet[4], 3, padding=1)
        self.conv_body_up = nn.ModuleList(ResBlock(unet[s // 2], unet[s], 2) for s in levels)
        self.toRGB = nn.ModuleList(nn.Conv2d(unet[s], 3, 1) for s in levels)
        """In the published file; not used."""
        self.final_linear = nn.Linear(unet[4] * 16, style)
        self.stylegan_decoder = StyleGenerator(out_size, out_dim, style, layers, generator)
        self.condition_scale = nn.ModuleList(_condition(unet[s], generator[s]) for s in levels)
        self.condition_shift = nn.ModuleList(_condition(unet[s], generator[s]) for s in levels)

    def encode(self, x: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B S"], list[tuple[Tensor, Tensor]]]:
        """The style code, and scale and shift for every resolution from 8 upwards."""
        if min(x.shape[-2:]) < self.out_size:
            x = nn.functional.interpolate(x, (self.out_size, self.out_size), mode="bilinear", align_corners=False)
        if isinstance(self.conv_body_first, nn.ModuleList):
            convolution, down = self.conv_body_first
            x = down(activate(convolution(x)))
        else:
            x = activate(self.conv_body_first(x))
        skips = []
        for down in self.conv_body_down:
            x = down(x)
            skips.append(x)
        x = activate(self.final_conv(x))
        code = self.final_linear(x.flatten(1))
        conditions = []
        for up, skip, scale, shift in zip(
            self.conv_body_up, reversed(skips), self.condition_scale, self.condition_shift, strict=True
        ):
            x = up(x + skip)
            conditions.append((scale(x), shift(x)))
        return code, conditions

    def logits(
        self, x: Float[Tensor, "B C H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B O out out"]:
        """The image before its sigmoid. Without `generator` the stored noise is used, so that the same input gives the
        same image. On the CPU in float32, and where no gradients are wanted, it is computed in a faster way."""
        precise = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if generator is None and precise and not torch.is_grad_enabled():
            return self.fast().logits(x)
        return self.plain_logits(x, generator)

    def plain_logits(
        self, x: Float[Tensor, "B C H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B O out out"]:
        """`logits`, layer by layer, on any device and with gradients."""
        code, conditions = self.encode(x)
        return self.stylegan_decoder(code, conditions, generator)

    def forward(
        self, x: Float[Tensor, "B C H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B O out out"]:
        """The image."""
        return self.logits(x, generator).sigmoid()

    def fast(self) -> FastStyleUNet:
        """This network made ready for images on the CPU without gradients; kept until a weight changes."""
        if self._fast is None or not self._fast.is_of(self):
            self._fast = FastStyleUNet(self)
        return self._fast

    def __getstate__(self) -> dict[str, object]:
        # A copy makes its own: what is kept refers to this network's weights.
        return {**super().__getstate__(), "_fast": None}


class _UnitLength(nn.Module):
    """Divide a style by the root of its mean square."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-8).rsqrt()


class _Constant(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, channels, 4, 4))


def _condition(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
    )
