"""`StyleUNet` for looking at: the same images faster, on the CPU and without gradients.

The function is that of `StyleUNet.plain_logits`, up to rounding. What differs is how it is computed:

- channels last, the layout in which oneDNN's convolutions run at the processor's peak;
- scales of the style, demodulation and the gain √2 go into a layer's weights where those are fewer than its pixels, and
  otherwise into the smaller of the activations; the norms of the weights are found once;
- a 1x1 convolution comes before the enlargement it used to follow (both are linear and commute);
- what follows a convolution happens in place, and the largest level of the generator in bands of rows, whose
  intermediate results stay in the cache and need no fresh memory from the system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.networks.convolution import convolved
from vultus.networks.modulated import SLOPE, ModulatedConv, StyledConv, ToRgb, scaled

if TYPE_CHECKING:
    from vultus.networks.style_unet import ResBlock, StyleUNet

_BAND = 1 << 21
"""Numbers in the widest activation of a band."""
_LEAST_ROWS = 16
_GAIN = math.sqrt(2)


@dataclass(frozen=True)
class _Modulated:
    """A modulated convolution: its weights and the squares of their norms by output and input channel."""

    layer: ModulatedConv
    weight: Float[Tensor, "O I k k"]
    energy: Float[Tensor, "O I"] | None

    def styled(self, latent: Float[Tensor, "1 S"], gain: float) -> tuple[Tensor, Tensor]:
        """Scales of the input channels and of the output channels, the latter with the gain."""
        scale = self.layer.modulation(latent)[0]
        if self.energy is None:
            return scale, scale.new_full((len(self.weight),), gain)
        return scale, gain * (self.energy @ scale.square() + 1e-8).rsqrt()


class FastStyleUNet:
    """A network's weights made ready. Valid as long as they do not change (`is_of`)."""

    def __init__(self, network: StyleUNet) -> None:
        self.network = network
        self._state = _state(network)
        self._weights: dict[nn.Conv2d, Tensor] = {}
        self._modulated: dict[ModulatedConv, _Modulated] = {}
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                self._weights[module] = module.weight.detach().contiguous(memory_format=torch.channels_last)
            elif isinstance(module, ModulatedConv):
                weight = module.weight.detach()[0].contiguous(memory_format=torch.channels_last)
                energy = weight.square().sum((2, 3)) if module.demodulate else None
                self._modulated[module] = _Modulated(module, weight, energy)

    def is_of(self, network: StyleUNet) -> bool:
        """Whether these are this network's weights, unchanged."""
        return self.network is network and self._state == _state(network)

    def logits(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O out out"]:
        """What `StyleUNet.plain_logits` gives with the stored noise."""
        return torch.cat([self._one(image[None]) for image in x])

    def _one(self, x: Float[Tensor, "1 C H W"]) -> Float[Tensor, "1 O out out"]:
        network: Any = self.network  # lists of modules do not say of which
        x = x.contiguous(memory_format=torch.channels_last)
        if min(x.shape[-2:]) < network.out_size:
            x = nn.functional.interpolate(x, (network.out_size,) * 2, mode="bilinear", align_corners=False)
        if isinstance(network.conv_body_first, nn.ModuleList):
            convolution, down = tuple[Any, Any](network.conv_body_first)
            x = self._block(_activated(self._conv(convolution, x)), down)
        else:
            x = _activated(self._conv(network.conv_body_first, x))
        skips = []
        for down in network.conv_body_down:
            x = self._block(x, down)
            skips.append(x)
        x = _activated(self._conv(network.final_conv, x))
        latent = network.stylegan_decoder.style_mlp(network.final_linear(x.flatten(1)))
        generator = network.stylegan_decoder
        out = generator.constant_input.weight.expand(1, -1, -1, -1)
        out = out.contiguous(memory_format=torch.channels_last)
        out = self._styled(generator.style_conv1, out, latent, generator.noises.get_buffer("noise0"))
        image = self._rgb(generator.to_rgb1, out, latent)
        for k, (up, skip) in enumerate(zip(network.conv_body_up, reversed(skips), strict=True)):
            x = self._block(x + skip, up)
            last = k + 1 == len(skips)
            out, image = self._level(k, x, out, image, latent, last)
        return image

    def _level(
        self, k: int, features: Tensor, out: Tensor, image: Tensor, latent: Tensor, last: bool
    ) -> tuple[Tensor, Tensor]:
        """One resolution of the generator, steered by the UNet's features of that resolution."""
        network: Any = self.network
        generator: Any = network.stylegan_decoder
        first, second, rgb = generator.style_convs[2 * k], generator.style_convs[2 * k + 1], generator.to_rgbs[k]
        noises = [generator.noises.get_buffer(f"noise{2 * k + n}") for n in (1, 2)]
        steering = [network.condition_scale[k], network.condition_shift[k]]
        size = features.shape[-1]
        rows = max(_LEAST_ROWS, _BAND // (size * len(second.bias[0])))
        image = scaled(image, 2)
        if not last or rows >= size:
            scale, shift = (self._condition(layers, features) for layers in steering)
            out = self._styled(first, scaled(out, 2), latent, noises[0]).mul_(scale).add_(shift)
            out = self._styled(second, out, latent, noises[1])
            return out, image.add_(self._rgb(rgb, out, latent))
        # The last level's activations are needed nowhere else, so that every band may forget its own.
        for top in range(0, size, rows):
            band = _Rows(top, min(top + rows, size), size)
            around = band.grown(1)
            scale, shift = (self._condition(layers, features, around) for layers in steering)
            enlarged = around.grown(1).enlarged(out)
            inner = self._styled(first, enlarged, latent, noises[0], around).mul_(scale).add_(shift)
            inner = self._styled(second, inner, latent, noises[1], band)
            image[:, :, band.first : band.end].add_(self._rgb(rgb, inner, latent))
        return out, image

    def _block(self, x: Tensor, block: ResBlock) -> Tensor:
        """A residual block of the UNet."""
        out = scaled(_activated(self._conv(block.conv1, x)), block.factor)
        out = _activated(self._conv(block.conv2, out))
        if block.factor > 1:
            return out.add_(scaled(self._conv(block.skip, x), block.factor))
        return out.add_(self._conv(block.skip, scaled(x, block.factor)))

    def _condition(self, layers: Any, features: Tensor, rows: _Rows | None = None) -> Tensor:
        """Scale or shift of a level, of all rows or of some."""
        first, _, second = layers
        if rows is None:
            return self._conv(second, _activated(self._conv(first, features)))
        around = rows.grown(1)
        inner = _activated(self._conv_rows(first, around.grown(1).of(features), around))
        return self._conv_rows(second, inner, rows)

    def _styled(self, layer: StyledConv, x: Tensor, latent: Tensor, noise: Tensor, rows: _Rows | None = None) -> Tensor:
        """A styled convolution of an input that is enlarged already; of all rows or of some."""
        modulated = self._modulated[layer.modulated_conv]
        weight, bias = modulated.weight, layer.bias.flatten()
        scale, gain = modulated.styled(latent, _GAIN)
        if weight.numel() < x.numel():
            weight, gain = weight * scale[:, None, None] * gain[:, None, None, None], None
        else:
            x = x * scale[:, None, None]
        if rows is None:
            out = _convolved(x, weight, None if gain is not None else bias)
        else:
            noise = rows.of(noise)
            out = _rows_convolved(x, weight, None if gain is not None else bias, rows)
        if gain is not None:
            out = out.mul_(gain[:, None, None]).add_(layer.bias)
        return _activated(out.add_(layer.weight * noise))

    def _rgb(self, layer: ToRgb, x: Tensor, latent: Tensor) -> Tensor:
        modulated = self._modulated[layer.modulated_conv]
        scale, _ = modulated.styled(latent, 1.0)
        return nn.functional.conv2d(x, modulated.weight * scale[:, None, None], layer.bias.flatten())

    def _conv(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        return _convolved(x, self._weights[layer], layer.bias, layer.padding)  # pyright: ignore

    def _conv_rows(self, layer: nn.Conv2d, x: Tensor, rows: _Rows) -> Tensor:
        return _rows_convolved(x, self._weights[layer], layer.bias, rows)


@dataclass(frozen=True)
class _Rows:
    """Rows `first` to `end` of an image of `size` rows."""

    first: int
    end: int
    size: int

    def grown(self, by: int) -> _Rows:
        return _Rows(max(0, self.first - by), min(self.size, self.end + by), self.size)

    def of(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h W"]:
        return x[:, :, self.first : self.end]

    def enlarged(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
        """These rows of the image of twice the size."""
        half = self.size // 2
        low, high = max(0, self.first // 2 - 1), min(half, (self.end + 1) // 2 + 1)
        return scaled(x[:, :, low:high], 2)[:, :, self.first - 2 * low : self.end - 2 * low]


def _rows_convolved(x: Tensor, weight: Tensor, bias: Tensor | None, rows: _Rows) -> Tensor:
    """These rows of a 3x3 convolution, from the input's rows around them; beyond the image's edge there is nothing."""
    above, below = int(rows.first == 0), int(rows.end == rows.size)
    if above or below:
        x = nn.functional.pad(x, (0, 0, above, below))
    return _convolved(x, weight, bias, (0, 1))


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int] = (1, 1)) -> Tensor:
    """A convolution; on one thread with fewer multiplications. On several that gains nothing here: it has threads of
    its own, and after each of so many short convolutions both kinds spin while they wait for more."""
    if torch.get_num_threads() == 1:
        return convolved(x, weight, bias, padding)
    return nn.functional.conv2d(x, weight, bias, padding=padding)


def _activated(x: Tensor) -> Tensor:
    return nn.functional.leaky_relu_(x, SLOPE)


def _state(network: StyleUNet) -> list[tuple[int, int]]:
    return [(value.data_ptr(), value._version) for value in (*network.parameters(), *network.buffers())]
