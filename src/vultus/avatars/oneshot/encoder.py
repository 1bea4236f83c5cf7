"""The image encoder: a vision transformer and a fusion of four of its levels to a plane of features (after DPT)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.avatars.oneshot.options import Architecture
from vultus.networks.convolution import Conv3x3
from vultus.networks.feature_distance import imagenet_normalized
from vultus.networks.vit import VisionTransformer


class ImageEncoder(nn.Module):
    """A picture to a plane of local features, eight cells per patch and side, and one global feature."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width, levels, features = architecture.vit.width, architecture.levels, architecture.features
        self.dino_model = VisionTransformer(architecture.vit)
        self.projects = nn.ModuleList(nn.Conv2d(width, level, 1) for level in levels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(levels[0], levels[0], 4, stride=4),
                nn.ConvTranspose2d(levels[1], levels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(levels[3], levels[3], 3, stride=2, padding=1),
            ]
        )
        self.layer_rn = nn.ModuleList(Conv3x3(level + 3, features, bias=False) for level in levels)
        self.refinenet = nn.ModuleList(_FusionBlock(features) for _ in levels)
        self.output_conv = Conv3x3(features, features)

    def forward(
        self, image: Float[Tensor, "B 3 S T"], size: int | None = None
    ) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B D"]]:
        """Local plane and global feature of RGB pictures in [0, 1]."""
        normalized = imagenet_normalized(image)
        tokens = self.dino_model(normalized, self.architecture.taps)
        kind = self.architecture.quirks.global_feature
        plane = self.fuse(normalized, [level[:, 1:] for level in tokens], size)
        return plane, tokens[-1][:, 0 if kind == "class_token" else 1]

    def fuse(
        self, normalized: Float[Tensor, "B 3 S T"], tokens: Sequence[Float[Tensor, "B P D"]], size: int | None = None
    ) -> Float[Tensor, "B C h w"]:
        """The plane of a normalised picture and its patch tokens of four levels, from the earliest to the last.

        size: side of the plane; None: eight cells per patch.
        """
        rows, columns = (length // self.architecture.vit.patch for length in normalized.shape[-2:])
        levels = []
        for level, project, resize, reduce in zip(
            tokens, self.projects, self.resize_layers, self.layer_rn, strict=True
        ):
            plane = resize(project(level.transpose(1, 2).unflatten(2, (rows, columns))))
            picture = nn.functional.interpolate(
                normalized, plane.shape[-2:], mode="bilinear", align_corners=False, antialias=True
            )
            levels.append(reduce(torch.cat([picture, plane], dim=1)))
        first, second, third, last = self.refinenet
        plane = first(levels[3], None, levels[2].shape[-2:])
        plane = second(plane, levels[2], levels[1].shape[-2:])
        plane = third(plane, levels[1], levels[0].shape[-2:])
        plane = last(plane, levels[0], [2 * length for length in plane.shape[-2:]])
        plane = self.output_conv(plane)
        return plane if size is None else _resized(plane, (size, size))


class _FusionBlock(nn.Module):
    """Adds a level to what came before and enlarges it. The first block's `resConfUnit1` has nothing to add."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        self.resConfUnit1 = _ResidualUnit(features)
        self.resConfUnit2 = _ResidualUnit(features)

    def forward(self, x: Tensor, lateral: Tensor | None, size: Sequence[int]) -> Tensor:
        if lateral is not None:
            x = x + self.resConfUnit1(lateral)
        # Enlarging last is the same, because both are linear, and has fewer pixels to convolve.
        return _resized(self.out_conv(self.resConfUnit2(x)), size)


class _ResidualUnit(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(features, features)
        self.conv2 = Conv3x3(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x.relu()).relu_()).add_(x)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, the corner samples staying at the corners."""
    if tuple(size) == tuple(x.shape[-2:]):
        return x
    return nn.functional.interpolate(x, tuple(size), mode="bilinear", align_corners=True)
