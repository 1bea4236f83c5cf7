"""LPIPS, a distance between images that follows human judgement, on features of AlexNet or VGG-16.

Source: Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a perceptual metric",
2018, version 0.1. The features' weights have the names of torchvision's classifiers (`features.0.weight` ...), the
linear layers those of the authors' files (`lin0.model.1.weight` ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.errors import VultusError
from vultus.networks.classifiers import ALEXNET, VGG16, Convolution, features_at

Backbone = Literal["alex", "vgg"]

_MEAN, _DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10


# The layers whose features count.
_LAYERS = {"alex": ALEXNET, "vgg": VGG16}
_TAPS = {"alex": (0, 3, 6, 8, 10), "vgg": (2, 7, 14, 21, 28)}
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
        layers = _LAYERS[backbone]
        self._weights = {
            layer: (
                _weight(features, f"features.{layer.index}.weight", layer.kernel_shape, where),
                _weight(features, f"features.{layer.index}.bias", (layer.channels[1],), where),
            )
            for layer in layers
        }
        widths = [layer.channels[1] for layer in layers if layer.index in _TAPS[backbone]]
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
        return features_at((planes - mean) / deviation, _LAYERS[self.backbone], _TAPS[self.backbone], self._convolve)

    def _convolve(self, layer: Convolution, planes: Tensor) -> Tensor:
        kernel, bias = self._weights[layer]
        return torch.nn.functional.conv2d(
            planes, kernel.to(planes), bias.to(planes), stride=layer.stride, padding=layer.padding
        )


def _normalised(features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
    return features / (features.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt() + _EPSILON)


def _weight(weights: Mapping[str, Tensor], name: str, shape: tuple[int, ...], where: str) -> Tensor:
    value = weights.get(name)
    if value is None or tuple(value.shape) != shape or not value.is_floating_point():
        found = "is missing" if value is None else f"has the shape {tuple(value.shape)}"
        raise VultusError(f"{where}: {name} {found}, it should have {shape}; these are not the weights that are needed")
    if not bool(torch.isfinite(value).all()):
        raise VultusError(f"{where}: {name} is not finite; the file is damaged")
    return value.detach().float()
