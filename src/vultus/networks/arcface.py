"""The face-recognition network that ArcFace's published weights are of: an "improved" residual network.

Source: Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive angular margin loss for deep face recognition", 2019; the order of
layers is that of Han, Kim, Kim, "Deep pyramidal residual networks", 2017 (normalise, convolve, normalise, activate,
convolve, normalise). Weights have the names of InsightFace's PyTorch files (`layer1.0.bn1.weight` ...).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.errors import VultusError
from vultus.networks.loading import load_weights

SIDE = 112
_WIDTHS = (64, 128, 256, 512)
_MAX_BLOCKS = 100


class ArcFace(nn.Module):
    """Embeds aligned faces of 112×112 pixels; blocks: how many residual blocks each of the four levels has."""

    def __init__(self, blocks: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.prelu = nn.PReLU(_WIDTHS[0])
        before = _WIDTHS[0]
        for level, (width, count) in enumerate(zip(_WIDTHS, blocks, strict=True), start=1):
            parts = [_Block(before if index == 0 else width, width, is_first=index == 0) for index in range(count)]
            self.add_module(f"layer{level}", nn.Sequential(*parts))
            before = width
        self.bn2 = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before * (SIDE // 16) ** 2, 512)
        self.features = nn.BatchNorm1d(512)

    def forward(self, image: Float[Tensor, "B 3 112 112"]) -> Float[Tensor, "B 512"]:
        """Embeddings (not normalised) of RGB in [0, 1]."""
        x = self.prelu(self.bn1(self.conv1(2 * image - 1)))
        for level in range(1, len(_WIDTHS) + 1):
            x = self.get_submodule(f"layer{level}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


class _Block(nn.Module):
    """Two convolutions beside a shortcut; the first block of a level halves the picture."""

    def __init__(self, before: int, width: int, *, is_first: bool) -> None:
        super().__init__()
        stride = 2 if is_first else 1
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))
            if is_first
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(inner)) + self.downsample(x)


def arcface_of(weights: Mapping[str, Tensor], where: str) -> ArcFace:
    """The network that these weights are of, ready to use; `where` is for messages.

    Raises:
        VultusError: they are of another network, incomplete or not finite.
    """
    counts = [0] * len(_WIDTHS)
    for name in weights:
        if match := re.fullmatch(r"layer([1-4])\.(\d{1,3})\.conv1\.weight", name):
            level = int(match[1]) - 1
            counts[level] = max(counts[level], int(match[2]) + 1)
    if not all(0 < count <= _MAX_BLOCKS for count in counts):
        raise VultusError(f"{where}: holds no weights of ArcFace's residual network")
    with torch.device("meta"):
        network = ArcFace(counts)
    return load_weights(network, weights, where)
