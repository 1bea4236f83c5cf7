"""The vision transformer of DINOv2 (Oquab et al., 2023; ViT-B/14 without registers by default), with its names.

Its state dict has the keys of the official `dinov2_vitb14` file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

_OFFSET = 0.1
"""Added to the wanted grid size when positions are resampled, as the published model was trained with."""


@dataclass(frozen=True)
class VitShape:
    """Size of a vision transformer: token width, blocks, attention heads, patch side (pixels), and the side (patches)
    of the square grid that its position embedding is stored for."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 14
    grid: int = 37


class VisionTransformer(nn.Module):
    """Images to tokens: pre-norm blocks with layer scale, exact GELU, no dropout.

    `mask_token` belongs to the published file and is not used.
    """

    def __init__(self, shape: VitShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or VitShape()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.grid**2 + 1, shape.width))
        self.mask_token = nn.Parameter(torch.zeros(1, shape.width))
        self.patch_embed = _PatchEmbed(shape)
        self.blocks = nn.ModuleList(_Block(shape.width, shape.heads) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)

    def prepare(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1+P D"]:
        """Class token and patches (row-major) with their positions. The image is normalised by ImageNet's
        statistics."""
        height, width = image.shape[-2:]
        patches = self.patch_embed.proj(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], dim=1)
        rows, columns = height // self.shape.patch, width // self.shape.patch
        return tokens + resample_positions(self.pos_embed, rows, columns)

    def forward(self, image: Float[Tensor, "B 3 H W"], taps: Sequence[int]) -> list[Float[Tensor, "B 1+P D"]]:
        """The outputs of the blocks `taps` (in increasing order), each through the final normalisation."""
        tokens, wanted = self.prepare(image), set(taps)
        tapped = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in wanted:
                tapped.append(self.norm(tokens))
        return tapped


def resample_positions(
    positions: Float[Tensor, "1 1+N D"], rows: int, columns: int
) -> Float[Tensor, "1 1+rows*columns D"]:
    """A position embedding of a square grid for another grid: bicubic; the class token's stays.

    The published way: the scale is (size + 0.1) / side rather than size / side, and nothing is done for the own size.
    """
    side = round((positions.shape[1] - 1) ** 0.5)
    if (rows, columns) == (side, side):
        return positions
    grid = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    scale = ((rows + _OFFSET) / side, (columns + _OFFSET) / side)
    grid = nn.functional.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class _PatchEmbed(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, shape.width, shape.patch, stride=shape.patch)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads)
        self.ls1 = _LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _Mlp(width)
        self.ls2 = _LayerScale(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(tokens)))


class _LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma
