"""What decides a one-shot network: its sizes, and the quirks that released weights depend on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vultus.errors import VultusError
from vultus.networks.vit import VitShape
from vultus.splats import INRIA, RasterSettings

UNITS = 5.0
"""The network's length unit is 1/5 m: the published one calls head models in metres times five."""
FOCAL = 12.0
"""Focal length of its pictures in units of half the image's side."""


@dataclass(frozen=True)
class Quirks:
    """Behaviour of the released network that looks accidental but that its weights were trained with.

    global_feature: what the expression branch knows of the picture: the token of the top-left patch, or the class
    token. vertex_rotations: quaternions of the expression branch are divided by the norm of each component over all
    vertices, or each by its own. lifted_colors: the sigmoid of the lifted splats' features is applied to all channels
    of the first three columns of the plane, or to red, green and blue of all. raster: how splats are drawn (native
    units); the released network draws those quaternions, of norm 0.03, as they are.
    """

    global_feature: Literal["corner_patch", "class_token"] = "corner_patch"
    vertex_rotations: Literal["over_vertices", "each"] = "over_vertices"
    lifted_colors: Literal["first_columns", "rgb"] = "first_columns"
    raster: RasterSettings = INRIA


RELEASED = Quirks()
"""What the released weights need."""
CLEAN = Quirks("class_token", "each", "rgb", RasterSettings(near=0.2))
"""What was meant; for networks trained from scratch."""


@dataclass(frozen=True)
class Parts:
    """Parts of the method that can be left out, to see what they are good for. A branch that is left out is not drawn;
    without the renderer the splats' own red, green and blue are the image."""

    expression: bool = True
    behind: bool = True
    before: bool = True
    renderer: bool = True


@dataclass(frozen=True)
class Architecture:
    """Sizes of a one-shot network; the defaults are the published network's.

    vertices: of its head model. source_size: side of the encoder's picture, a multiple of the patch. image_size: side
    of its images, a power of two. taps: blocks of the transformer that are used, first to last. levels: channels of
    the four levels before fusion. features: channels of the plane. vertex_features: learned numbers per vertex.
    channels: of a splat, the first three being red, green and blue. hidden, vertex_hidden: widths in the generators.
    style, style_layers, narrow: of the neural renderer (`StyleUNet`). largest: bound of every standard deviation,
    native units. shortcuts: not of the published method: lifted splats start with the picture's colours, and the neural
    renderer with the splats' own red, green and blue, so that both learn only what has to change. picture_code: not of
    the published method: length of the code by which a picture drives (`picture_driver`); 0: the head model's
    coefficients do."""

    vertices: int = 5023
    source_size: int = 518
    image_size: int = 512
    vit: VitShape = field(default_factory=VitShape)
    taps: tuple[int, int, int, int] = (8, 9, 10, 11)
    levels: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    features: int = 256
    vertex_features: int = 256
    channels: int = 32
    hidden: int = 128
    vertex_hidden: int = 256
    style: int = 512
    style_layers: int = 8
    narrow: float = 1.0
    largest: float = 0.05
    shortcuts: bool = False
    picture_code: int = 0
    quirks: Quirks = field(default_factory=Quirks)
    parts: Parts = field(default_factory=Parts)

    def __post_init__(self) -> None:
        if self.source_size % self.vit.patch or self.source_size <= 0:
            raise VultusError(f"source_size {self.source_size} is not a multiple of the patch, {self.vit.patch} pixels")
        if self.image_size & (self.image_size - 1) or not 8 <= self.image_size <= 1024:
            raise VultusError(f"image_size is {self.image_size}; it must be a power of two from 8 to 1024")
        if sorted(set(self.taps)) != list(self.taps) or not 0 <= self.taps[0] <= self.taps[-1] < self.vit.depth:
            raise VultusError(f"taps {self.taps} are not increasing block numbers below {self.vit.depth}")
        if not (self.parts.expression or self.parts.behind or self.parts.before):
            raise VultusError("a one-shot network without any branch has nothing to draw")
        sizes = (self.vertices, *self.levels, self.features, self.vertex_features, self.hidden, self.vertex_hidden)
        if min(*sizes, self.style, self.style_layers, self.channels - 2) < 1 or self.vit.width % self.vit.heads:
            raise VultusError("every size of a one-shot network must be positive, with at least 3 channels")
        if self.shortcuts and self.quirks.lifted_colors != "rgb":
            raise VultusError("shortcuts need lifted_colors rgb: the released quirk spoils the colours they start with")
        if self.picture_code < 0:
            raise VultusError(f"picture_code is {self.picture_code}; choose 0 (no picture driver) or a length")
        if not (0 < self.narrow <= 1 and self.largest > 0):
            raise VultusError(f"narrow {self.narrow} must lie in (0, 1] and largest {self.largest} be positive")

    @property
    def plane_size(self) -> int:
        """Side of the feature plane: eight cells per patch."""
        return 8 * (self.source_size // self.vit.patch)

    @property
    def count(self) -> int:
        """Number of splats: one per vertex, then two sheets of one per cell of the plane."""
        return self.vertices + 2 * self.plane_size**2
