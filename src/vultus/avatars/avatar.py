"""What every avatar offers, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cameras import Camera
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams
from vultus.splats import Gaussians, RasterInfo


@dataclass(frozen=True)
class Rendering:
    """An image of an avatar.

    color: sRGB, the background blended in (black where none was given). alpha: coverage. depth: sum of blending weight
    times camera z, metres; None where it was not drawn or cannot be. coarse: the image before super-resolution, of
    avatars that have it. raster: what the rasteriser knows, of avatars made of Gaussians. memory: hand it to the next
    instant's `render`; None where avatars have no memory.
    """

    color: Float[Tensor, "*B H W 3"]
    alpha: Float[Tensor, "*B H W 1"]
    depth: Float[Tensor, "*B H W 1"] | None = None
    coarse: Float[Tensor, "*B h w 3"] | None = None
    raster: RasterInfo | None = None
    memory: object | None = None


@dataclass(frozen=True)
class Labels:
    """What an avatar says about itself: where it comes from, what the person agreed to, under which licence it is."""

    provenance: Mapping[str, object] = field(default_factory=dict)
    consent: str = "not stated"
    license: str = "not stated"


@runtime_checkable
class Avatar(Protocol):
    """What was learned of one person: renders head parameters through a camera. Every avatar is a `torch.nn.Module`.

    kind: its name in avatar.json. head: the head model its parameters belong to. rest: this person at rest. controls:
    the fields of HeadParams that change its image. view: the image size, focal length and distance it was made for.
    native_background: the fixed background its images have; None if it composites over any.
    """

    kind: str
    head: HeadModel
    rest: HeadParams
    view: Camera
    native_background: Float[Tensor, "3"] | None

    @property
    def controls(self) -> frozenset[str]: ...

    def vertices(self, params: HeadParams) -> Float[Tensor, "*B V 3"]:
        """The head model's posed mesh as this avatar wears it, metres."""
        ...

    def render(
        self,
        params: HeadParams,
        camera: Camera,
        *,
        background: Float[Tensor, "3"] | None = None,
        memory: object | None = None,
        generator: torch.Generator | None = None,
    ) -> Rendering:
        """The image of head parameters; batches of parameters and cameras broadcast pairwise. Differentiable."""
        ...

    def save(self, folder: Path) -> None:
        """Write the avatar's folder, which `vultus.avatars.load` reads. Replaces an existing one atomically."""
        ...


@runtime_checkable
class SplatAvatar(Avatar, Protocol):
    """An avatar that is a set of Gaussians at every instant.

    appearance "features": the Gaussians' colours mean nothing without this avatar's own renderer.
    """

    appearance: Literal["rgb", "features"]

    def gaussians(self, params: HeadParams, *, memory: object | None = None) -> Gaussians:
        """The Gaussians of head parameters, in the world."""
        ...
