"""Features to splats: one per vertex of the head model, and one per cell of the plane."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vultus.avatars.oneshot.options import Architecture
from vultus.networks.convolution import Conv3x3, convolved

HARMONICS = 4
"""Octaves of the direction embedding."""
DIRECTION = 3 * (2 * HARMONICS + 1)


@dataclass(frozen=True)
class Attributes:
    """Of N splats: features, opacities in [0, 1], standard deviations (native units), quaternions wxyz (not always of
    norm 1, see `Quirks`), and the share of the largest lifting distance, of lifted ones."""

    features: Float[Tensor, "B N C"]
    opacities: Float[Tensor, "B N 1"]
    scales: Float[Tensor, "B N 3"]
    rotations: Float[Tensor, "B N 4"]
    lifts: Float[Tensor, "B N 1"] | None = None


def harmonic_embedding(x: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 27"]:
    """Sines, then cosines of each number times 1, 2, 4 and 8, then the numbers themselves."""
    frequencies = 2.0 ** torch.arange(HARMONICS, dtype=x.dtype, device=x.device)
    angles = (x[..., None] * frequencies).flatten(-2)
    return torch.cat([angles.sin(), (angles + torch.pi / 2).sin(), x], dim=-1)


class LinearGSGenerator(nn.Module):
    """Splats of the head model's vertices, from their learned features and the picture's global one."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.vertex_hidden
        inputs = architecture.vertex_features + architecture.vit.width
        self.feature_layers = _perceptron(inputs, width, width, width, width)
        self.color_layers = _perceptron(width + DIRECTION, architecture.hidden, architecture.channels)
        self.opacity_layers = _perceptron(width + DIRECTION, architecture.hidden, 1)
        self.scale_layers = _perceptron(width + DIRECTION, architecture.hidden, 3)
        self.rotation_layers = _perceptron(width + DIRECTION, architecture.hidden, 4)

    def forward(self, features: Float[Tensor, "B N F"], direction: Float[Tensor, "B 27"]) -> Attributes:
        x = self.feature_layers(features)
        x = torch.cat([x, direction[:, None].to(x).expand(-1, x.shape[1], -1)], dim=-1)
        colors = self.color_layers(x).float()
        axis = 1 if self.architecture.quirks.vertex_rotations == "over_vertices" else -1
        return Attributes(
            features=torch.cat([colors[..., :3].sigmoid(), colors[..., 3:]], dim=-1),
            opacities=self.opacity_layers(x).float().sigmoid(),
            scales=self.architecture.largest * self.scale_layers(x).float().sigmoid(),
            rotations=nn.functional.normalize(self.rotation_layers(x).float(), dim=axis),
        )


class ConvGSGenerator(nn.Module):
    """Splats of the plane's cells (row-major), with the distance by which they are lifted off it."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width, out = architecture.hidden, architecture.channels + 9
        self.gaussian_conv = nn.Sequential(
            Conv3x3(architecture.features + DIRECTION, width),
            nn.ReLU(inplace=True),
            Conv3x3(width, width),
            nn.ReLU(inplace=True),
            Conv3x3(width, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, out, 1),
        )

    def forward(
        self,
        plane: Float[Tensor, "B C H W"],
        direction: Float[Tensor, "B 27"],
        start: Float[Tensor, "B 3 H W"] | None = None,
    ) -> Attributes:
        """start: added to red, green and blue before their sigmoid (see `Architecture.shortcuts`)."""
        x = self._first(plane, direction.to(plane))
        for layer in list(self.gaussian_conv)[1:]:
            x = layer(x)
        raw = x.float()
        colors, opacities, scales, rotations, lifts = raw.split([self.architecture.channels, 1, 3, 4, 1], dim=1)
        if self.architecture.quirks.lifted_colors == "first_columns":
            colors = torch.cat([colors[..., :3].sigmoid(), colors[..., 3:]], dim=-1)
        else:
            shown = colors[:, :3] if start is None else colors[:, :3] + start
            colors = torch.cat([shown.sigmoid(), colors[:, 3:]], dim=1)
        return Attributes(
            features=_rows(colors),
            opacities=_rows(opacities.sigmoid()),
            scales=_rows(self.architecture.largest * scales.sigmoid()),
            rotations=_rows(nn.functional.normalize(rotations, dim=1)),
            lifts=_rows(lifts.sigmoid()),
        )

    def _first(self, plane: Float[Tensor, "B C H W"], direction: Float[Tensor, "B 27"]) -> Float[Tensor, "B O H W"]:
        """The first layer. Of the direction, which is the same everywhere, it makes one number per channel, others
        along the plane's edges, where a part of it is beyond them: those of a plane of 3 x 3 cells."""
        layer = self.gaussian_conv[0]
        assert isinstance(layer, Conv3x3)
        features, directed = layer.weight.split([plane.shape[1], direction.shape[1]], dim=1)
        cells = direction[..., None, None].expand(-1, -1, 3, 3)
        spread = nn.functional.conv2d(cells, directed, layer.bias, padding=1)
        rows, columns = (1 + _side(length, plane.device) for length in plane.shape[-2:])
        return convolved(plane, features).add_(spread[:, :, rows[:, None], columns])


def _side(length: int, device: torch.device) -> Int[Tensor, "length"]:
    """-1 for the first of so many cells, 1 for the last, 0 for those between them."""
    place = torch.arange(length, device=device)
    return (place == length - 1).long() - (place == 0).long()


def _rows(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B H*W C"]:
    return x.flatten(2).transpose(1, 2)


def _perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with ReLUs between them."""
    layers: list[nn.Module] = []
    for index in range(len(widths) - 1):
        layers += [nn.Linear(widths[index], widths[index + 1]), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
