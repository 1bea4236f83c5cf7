"""The encoder of DECA: from a crop of a face to codes of FLAME's shape, expression and pose.

Source: Feng, Feng, Black, Bolkart, "Learning an animatable detailed 3D face model from in-the-wild images", 2021; He,
Zhang, Ren, Sun, "Deep residual learning for image recognition", 2016 (50 layers, the stride in the 3×3 convolution).
Weights have the names of DECA's own file (`E_flame` in `deca_model.tar`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.networks.loading import load_weights

SIDE = 224
_BLOCKS = (3, 4, 6, 3)
_CODES = {"shape": 100, "texture": 50, "expression": 50, "pose": 6, "camera": 3, "light": 27}


class DecaEncoder(nn.Module):
    """Codes by name (`shape`, `texture`, `expression`, `pose`, `camera`, `light`) of faces of 224×224 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _ResNet50()
        self.layers = nn.Sequential(nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, sum(_CODES.values())))

    def forward(self, image: Float[Tensor, "B 3 224 224"]) -> dict[str, Float[Tensor, "B D"]]:
        """Of RGB in [0, 1]."""
        codes = self.layers(self.encoder(image)).split(list(_CODES.values()), dim=-1)
        return dict(zip(_CODES, codes, strict=True))


class _ResNet50(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for level, count in enumerate(_BLOCKS, start=1):
            width = 32 * 2**level
            blocks = [
                _Bottleneck(before if index == 0 else 4 * width, width, 2 if level > 1 and index == 0 else 1)
                for index in range(count)
            ]
            self.add_module(f"layer{level}", nn.Sequential(*blocks))
            before = 4 * width

    def forward(self, image: Tensor) -> Tensor:
        x = torch.nn.functional.max_pool2d(self.bn1(self.conv1(image)).relu(), 3, stride=2, padding=1)
        for level in range(1, len(_BLOCKS) + 1):
            x = self.get_submodule(f"layer{level}")(x)
        return x.mean((2, 3))


class _Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = (
            nn.Identity()
            if before == 4 * width
            else nn.Sequential(nn.Conv2d(before, 4 * width, 1, stride=stride, bias=False), nn.BatchNorm2d(4 * width))
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        return (self.bn3(self.conv3(inner)) + self.downsample(x)).relu()


def deca_of(weights: Mapping[str, Tensor], where: str) -> DecaEncoder:
    """The encoder with these weights, ready to use; `where` is for messages.

    Raises:
        VultusError: they are of another network, incomplete or not finite.
    """
    with torch.device("meta"):
        network = DecaEncoder()
    return load_weights(network, weights, where)
