"""`RiggedAvatar`: Gaussians that ride on the triangles of a head model.

Source: GaussianAvatars (Qian et al., CVPR 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vultus.avatars.avatar import Labels, Rendering
from vultus.avatars.rigged.frames import TriangleFrames, local_to_world, triangle_frames
from vultus.avatars.rigged.posture import Posture
from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams, Motion
from vultus.splats import VULTUS, Gaussians, RasterSettings, rasterize, turn_sh1
from vultus.tracking.torso import bust_share

ShFrame = Literal["world", "triangle"]

PARAMETERS = ("means", "log_scales", "rotations", "opacities", "sh0", "sh_rest")


@dataclass(frozen=True)
class LocalSplats:
    """Raw values of N Gaussians: in triangle-local coordinates if bound, else in the world.

    means: in triangle sizes (metres if unbound). log_scales: natural logarithms. rotations: wxyz, any norm. opacities:
    logits. sh0, sh_rest: spherical-harmonics coefficients. binding: the triangle of each.
    """

    means: Float[Tensor, "N 3"]
    log_scales: Float[Tensor, "N 3"]
    rotations: Float[Tensor, "N 4"]
    opacities: Float[Tensor, "N"]
    sh0: Float[Tensor, "N 1 3"]
    sh_rest: Float[Tensor, "N K 3"]
    binding: Int[Tensor, "N"] | None


class RiggedAvatar(nn.Module):
    """Gaussians bound to a head's triangles; without a binding, plain 3D Gaussians that do not move.

    Args:
        head: the head model. rest: this person at rest. view: the camera it was made for (no batch).
        splats: raw values. raster: how it is drawn, as it was trained.
        motion: the head parameters over the training frames, fine-tuned.
        largest: upper bound of every standard deviation in metres; None: unbounded.
        posture: how the bust moves with the head; None: as the head model has it.
        sh_frame: what the directions of spherical harmonics refer to: the world, as published, or the Gaussian's own
            triangle, which turns with the head (degree 1 at most).

    Raises:
        VultusError: harmonics above degree 1 in the frames of triangles.
    """

    kind = "rigged"
    appearance: Literal["rgb", "features"] = "rgb"
    native_background: Float[Tensor, "3"] | None = None

    means: nn.Parameter
    log_scales: nn.Parameter
    rotations: nn.Parameter
    opacities: nn.Parameter
    sh0: nn.Parameter
    sh_rest: nn.Parameter
    binding: Tensor | None

    def __init__(
        self,
        head: HeadModel,
        rest: HeadParams,
        view: Camera,
        splats: LocalSplats,
        *,
        raster: RasterSettings = VULTUS,
        motion: Motion | None = None,
        largest: float | None = None,
        labels: Labels | None = None,
        posture: Posture | None = None,
        sh_frame: ShFrame = "world",
    ) -> None:
        super().__init__()
        if sh_frame == "triangle" and (splats.binding is None or splats.sh_rest.shape[-2] not in (0, 3)):
            raise VultusError(
                "colours that turn with the triangles need bound Gaussians and spherical harmonics of degree 0 or 1; "
                f"these have {1 + splats.sh_rest.shape[-2]} coefficients"
            )
        self.head, self.rest, self.view = head, rest, view
        self.raster, self.motion, self.largest, self.labels = raster, motion, largest, labels or Labels()
        self.posture = posture
        self.sh_frame: ShFrame = sh_frame
        for name in PARAMETERS:
            setattr(self, name, nn.Parameter(getattr(splats, name).detach().clone().contiguous()))
        self.register_buffer("binding", splats.binding)
        self.active_degree: int | None = None
        """Spherical-harmonics degree in use while training raises it; None: all there is."""

    @property
    def controls(self) -> frozenset[str]:
        """The fields of HeadParams that change its image."""
        if self.binding is None:
            return frozenset()
        return frozenset({"identity", "expression", "joints", "translation", "scale", "offset"})

    @property
    def count(self) -> int:
        """Number of Gaussians."""
        return self.means.shape[0]

    def splats(self) -> LocalSplats:
        """The raw values, detached."""
        values = {name: getattr(self, name).detach() for name in PARAMETERS}
        return LocalSplats(**values, binding=self.binding)

    def frames(self, params: HeadParams) -> TriangleFrames:
        """Triangle frames of the posed head."""
        return triangle_frames(self.vertices(params), self.head.faces)

    def vertices(self, params: HeadParams) -> Float[Tensor, "*B V 3"]:
        """The posed mesh that the Gaussians ride on, metres."""
        vertices = self.head.pose(params).vertices
        if self.posture is None:
            return vertices
        return self.posture.carry(bust_share(self.head), params, vertices)

    def gaussians(self, params: HeadParams, *, memory: object | None = None) -> Gaussians:
        """The Gaussians of head parameters, in the world."""
        return self.gaussians_on(None if self.binding is None else self.frames(params))

    def gaussians_on(self, frames: TriangleFrames | None) -> Gaussians:
        """The Gaussians on given triangle frames, which a training loop may keep while the pose does not change."""
        means, scales, rotations = self.means, self.log_scales.exp(), self.rotations
        if self.binding is not None:
            assert frames is not None, "bound Gaussians need triangle frames"
            means, scales, rotations = local_to_world(means, scales, rotations, self.binding, frames)
        if self.largest is not None:
            scales = scales.clamp(max=self.largest)
        sh_rest = self.sh_rest
        if self.sh_frame == "triangle" and sh_rest.shape[-2]:
            assert frames is not None
            assert self.binding is not None
            sh_rest = turn_sh1(sh_rest, frames.rotation.index_select(-3, self.binding))
        return Gaussians(
            means=means,
            rotations=rotations,
            scales=scales,
            opacities=self.opacities.sigmoid(),
            sh=_with_rest(self.sh0, sh_rest) if sh_rest.shape[-2] else self.sh0,
            sh_degree=self.active_degree,
        )

    def render(
        self,
        params: HeadParams,
        camera: Camera,
        *,
        background: Float[Tensor, "3"] | None = None,
        memory: object | None = None,
        generator: torch.Generator | None = None,
        depth: bool = True,
    ) -> Rendering:
        """The image of head parameters through a camera; differentiable in parameters, camera and weights."""
        return self.draw(self.gaussians(params), camera, background=background, depth=depth)

    def draw(
        self, gaussians: Gaussians, camera: Camera, *, background: Float[Tensor, "3"] | None = None, depth: bool = True
    ) -> Rendering:
        """Draw Gaussians of this avatar the way it was trained."""
        raster = rasterize(gaussians, camera, background, self.raster, depth=depth)
        return Rendering(color=raster.color, alpha=raster.alpha, depth=raster.depth, raster=raster.info)

    def save(self, folder: Path) -> None:
        """Write the avatar folder. Raises VultusError if it cannot be written."""
        from vultus.avatars.rigged.folder import save_rigged

        save_rigged(self, folder)


def _with_rest(sh0: Float[Tensor, "N 1 3"], rest: Float[Tensor, "*B N K 3"]) -> Float[Tensor, "*B N L 3"]:
    return torch.cat([sh0.expand(*rest.shape[:-2], 1, 3), rest], dim=-2)
