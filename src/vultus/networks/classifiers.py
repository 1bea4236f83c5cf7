"""The convolutions of AlexNet and VGG-16, whose features perceptual distances are taken of.

Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014 (the one-column AlexNet);
Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015. Layers are numbered
as in torchvision's `features`, so that weights have the names of its classifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Convolution:
    """A convolution with a ReLU after it; a maximum over `pool` pixels (stride 2) before it, where that is not 0."""

    index: int
    channels: tuple[int, int]
    size: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        return (self.channels[1], self.channels[0], self.size, self.size)

    def module(self) -> nn.Conv2d:
        """A layer of this shape with random weights."""
        return nn.Conv2d(*self.channels, self.size, stride=self.stride, padding=self.padding)


ALEXNET = (
    Convolution(0, (3, 64), 11, 4, 2),
    Convolution(3, (64, 192), 5, 1, 2, pool=3),
    Convolution(6, (192, 384), pool=3),
    Convolution(8, (384, 256)),
    Convolution(10, (256, 256)),
)
VGG16 = (
    Convolution(0, (3, 64)),
    Convolution(2, (64, 64)),
    Convolution(5, (64, 128), pool=2),
    Convolution(7, (128, 128)),
    Convolution(10, (128, 256), pool=2),
    Convolution(12, (256, 256)),
    Convolution(14, (256, 256)),
    Convolution(17, (256, 512), pool=2),
    Convolution(19, (512, 512)),
    Convolution(21, (512, 512)),
    Convolution(24, (512, 512), pool=2),
    Convolution(26, (512, 512)),
    Convolution(28, (512, 512)),
)


def features_at(
    planes: Float[Tensor, "B 3 H W"],
    layers: Sequence[Convolution],
    taps: Collection[int],
    convolve: Callable[[Convolution, Tensor], Tensor],
) -> list[Float[Tensor, "B C h w"]]:
    """What the layers numbered `taps` answer, after their ReLU; `convolve` applies a layer's weights."""
    found: list[Tensor] = []
    for layer in layers:
        if len(found) == len(taps):
            break
        if layer.pool:
            planes = torch.nn.functional.max_pool2d(planes, layer.pool, stride=2)
        planes = convolve(layer, planes).relu()
        if layer.index in taps:
            found.append(planes)
    return found
