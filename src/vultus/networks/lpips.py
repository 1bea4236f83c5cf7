"""LPIPS, a distance between images that follows human judgement, on features of AlexNet or VGG-16.

Source: Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a perceptual metric",
2018, version 0.1. The features' weights have the names of torchvision's classifiers (`features.0.weight` ...), the
linear layers those of the authors' files (`lin0.model.1.weight` ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.errors import VultusError

Backbone = Literal["alex", "vgg"]

_MEAN, _DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10


@dataclass(frozen=True)
class _Convolution:
    """A convolution with a ReLU after it; a maximum over `pool` pixels (stride 2) before it, where that is not 0."""

    index: int
    channels: tuple[int, int]
    size: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0
    is_feature: bool = False


_LAYERS: dict[str, tuple[_Convolution, ...]] = {
    "alex": (
        _Convolution(0, (3, 64), 11, 4, 2, is_feature=True),
        _Convolution(3, (64, 192), 5, 1, 2, pool=3, is_feature=True),
        _Convolution(6, (192, 384), pool=3, is_feature=True),
        _Convolution(8, (384, 256), is_feature=True),
        _Convolution(10, (256, 256), is_feature=True),
    ),
    "vgg": (
        _Convolution(0, (3, 64)),
        _Convolution(2, (64, 64), is_feature=True),
        _Convolution(5, (64, 128), pool=2),
        _Convolution(7, (128, 128), is_feature=True),
        _Convolution(10, (128, 256), pool=2),
        _Convolution(12, (256, 256)),
        _Convolution(14, (256, 256), is_feature=True),
        _Convolution(17, (256, 512), pool=2),
        _Convolution(19, (512, 512)),
        _Convolution(21, (512, 512), is_feature=True),
        _Convolution(24, (512, 512), pool=2),
        _Convolution(26, (512, 512)),
        _Convolution(28, (512, 512), is_feature=True),
    ),
}
LEAST_SIDE = {"alex": 31, "vgg": 16}
"""Smaller images have no last feature."""


class Lpips:
    """The LPIPS distance of version 0.1.

    Args:
        backbone: `alex` (the authors' choice for comparisons) or `vgg`.
        features: weights of the backbone. linear: weights of the five 1x1 convolutions.
        where: what to call the weights in messages.

    Raises:
        VultusError: a weight is missing or has another shape.
    """

    def __init__(
        self, backbone: Backbone, features: Mapping[str, Tensor], linear: Mapping[str, Tensor], where: str = "LPIPS"
    ) -> None:
        self.backbone = backbone
        self._convolutions = [
            (
                layer,
                _weight(features, f"features.{layer.index}.weight", _kernel_shape(layer), where),
                _weight(features, f"features.{layer.index}.bias", (layer.channels[1],), where),
            )
            for layer in _LAYERS[backbone]
        ]
        widths = [layer.channels[1] for layer in _LAYERS[backbone] if layer.is_feature]
        self._linear = [
            _weight(linear, f"lin{index}.model.1.weight", (1, width, 1, 1), where) for index, width in enumerate(widths)
        ]

    def __call__(
        self,
        image: Float[Tensor, "*B H W 3"],
        target: Float[Tensor, "*B H W 3"],
        *,
        weight: Float[Tensor, "*#B H W 1"] | None = None,
        rescale: bool = True,
    ) -> Float[Tensor, "*B"]:
        """Distance per pair of images (sRGB in [0, 1]); 0 for identical ones. Differentiable in the images.

        weight: how much each pixel counts; it is averaged over what each feature stands for. rescale: bring [0, 1] to
        [−1, 1] first, as the network was fitted for; some published figures were made without.

        Raises:
            ValueError: the images differ in shape or are too small for the backbone.
        """
        if image.shape != target.shape:
            raise ValueError(f"images of shapes {tuple(image.shape)} and {tuple(target.shape)} cannot be compared")
        if min(image.shape[-3:-1]) < LEAST_SIDE[self.backbone]:
            raise ValueError(f"LPIPS ({self.backbone}) needs at least {LEAST_SIDE[self.backbone]} pixels per side")
        batch = image.shape[:-3]
        planes = None
        if weight is not None:
            planes = weight.expand(*batch, *weight.shape[-3:]).reshape(-1, 1, *weight.shape[-3:-1]).to(image)
        total = image.new_zeros(batch.numel())
        for first, second, linear in zip(
            self._features(image, rescale), self._features(target, rescale), self._linear, strict=True
        ):
            difference = (_normalised(first) - _normalised(second)).square()
            distance = torch.nn.functional.conv2d(difference, linear.to(difference))
            if planes is None:
                total = total + distance.mean((1, 2, 3))
            else:
                share = torch.nn.functional.interpolate(planes, distance.shape[-2:], mode="area")
                total = total + (distance * share).sum((1, 2, 3)) / share.sum((1, 2, 3))
        return total.reshape(batch)

    def _features(self, image: Float[Tensor, "*B H W 3"], rescale: bool) -> list[Float[Tensor, "N C h w"]]:
        planes = image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2)
        planes = 2 * planes - 1 if rescale else planes
        mean, deviation = (planes.new_tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        planes, found = (planes - mean) / deviation, []
        for layer, kernel, bias in self._convolutions:
            if layer.pool:
                planes = torch.nn.functional.max_pool2d(planes, layer.pool, stride=2)
            planes = torch.nn.functional.conv2d(
                planes, kernel.to(planes), bias.to(planes), stride=layer.stride, padding=layer.padding
            ).relu()
            if layer.is_feature:
                found.append(planes)
        return found


def _normalised(features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
    return features / (features.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt() + _EPSILON)


def _kernel_shape(layer: _Convolution) -> tuple[int, ...]:
    return (layer.channels[1], layer.channels[0], layer.size, layer.size)


def _weight(weights: Mapping[str, Tensor], name: str, shape: tuple[int, ...], where: str) -> Tensor:
    value = weights.get(name)
    if value is None or tuple(value.shape) != shape or not value.is_floating_point():
        found = "is missing" if value is None else f"has the shape {tuple(value.shape)}"
        raise VultusError(f"{where}: {name} {found}, it should have {shape}; these are not the weights that are needed")
    if not bool(torch.isfinite(value).all()):
        raise VultusError(f"{where}: {name} is not finite; the file is damaged")
    return value.detach().float()
