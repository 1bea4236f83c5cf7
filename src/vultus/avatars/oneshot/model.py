"""`OneShotModel`: the network that turns one picture into splats, and splats into images.

Source: "Generalizable and Animatable Gaussian Head Avatar" (Chu and Harada, NeurIPS 2024). Names of modules are those
of the published state dict."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.avatars.oneshot.compute import Compute
from vultus.avatars.oneshot.encoder import ImageEncoder
from vultus.avatars.oneshot.generators import Attributes, ConvGSGenerator, LinearGSGenerator, harmonic_embedding
from vultus.avatars.oneshot.geometry import feature_plane, lift, metres_to_native, transform_to_camera
from vultus.avatars.oneshot.options import UNITS, Architecture
from vultus.avatars.oneshot.picture_driver import PictureDriver
from vultus.cameras import Camera
from vultus.images.resample import resize
from vultus.networks.style_unet import StyleUNet
from vultus.splats import Gaussians, rasterize

if TYPE_CHECKING:
    from vultus.avatars.avatar import Labels
    from vultus.avatars.oneshot.avatar import OneShotAvatar
    from vultus.heads.model import HeadModel
    from vultus.motion import HeadParams

_DARKEST = 0.01
_PLAIN = Compute()


@dataclass(frozen=True)
class SourceSplats:
    """Everything of an avatar that no driving frame changes, native units: one splat per vertex of the head model, then
    the sheets behind and before the plane; `lifted` has the positions of the two sheets."""

    attributes: Attributes
    lifted: Float[Tensor, "B P 3"]

    @staticmethod
    def cat(parts: Sequence[SourceSplats]) -> SourceSplats:
        """Several batches as one."""
        names = ("features", "opacities", "scales", "rotations")
        joined = {name: torch.cat([getattr(part.attributes, name) for part in parts]) for name in names}
        return SourceSplats(Attributes(**joined), torch.cat([part.lifted for part in parts]))


@dataclass(frozen=True)
class Drawn:
    """Images of splats: before and after the neural renderer, and coverage."""

    coarse: Float[Tensor, "B 3 H W"]
    fine: Float[Tensor, "B 3 H W"]
    alpha: Float[Tensor, "B 1 H W"]


class OneShotModel(nn.Module):
    """See the module. Its units are native ones (see `geometry`); `reconstruct` makes an avatar in metres."""

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture = architecture or Architecture()
        self.head_base = nn.Parameter(torch.randn(architecture.vertices, architecture.vertex_features))
        self.base_model = ImageEncoder(architecture)
        self.gs_generator_g = LinearGSGenerator(architecture)
        self.gs_generator_l0 = ConvGSGenerator(architecture)
        self.gs_generator_l1 = ConvGSGenerator(architecture)
        self.upsampler = neural_renderer(architecture)
        self.picture_driver = PictureDriver(architecture) if architecture.picture_code else None
        self.compute = Compute()
        """How the networks compute; `use` changes it."""

    def use(self, compute: Compute) -> OneShotModel:
        """Compute so from now on; avatars that are reconstructed do, too.

        Raises:
            VultusError: the device that the network is on cannot do this.
        """
        compute.require(self.head_base.device)
        compute.prepare(self, self.upsampler)
        self.compute = compute
        return self

    def splats(self, image: Float[Tensor, "B 3 S S"], transform: Float[Tensor, "B 3 4"]) -> SourceSplats:
        """Splats of source pictures (RGB in [0, 1], black behind the person) taken by native cameras."""
        points, direction = feature_plane(transform, 8 * (image.shape[-1] // self.architecture.vit.patch))
        embedded = harmonic_embedding(direction)
        with self.compute.running(image.device):
            plane, identity = self.base_model(image)
            vertices = self.vertex_splats(identity, embedded)
            start = _colors_of_cells(image, plane.shape[-1]) if self.architecture.shortcuts else None
            behind = self.gs_generator_l0(plane, embedded, start)
            before = self.gs_generator_l1(plane, embedded, start)
        assert behind.lifts is not None
        assert before.lifts is not None
        lifted = torch.cat([lift(points, direction, behind.lifts), lift(points, direction, -before.lifts)], dim=1)
        parts = (vertices, behind, before)
        return SourceSplats(
            Attributes(
                features=torch.cat([part.features for part in parts], dim=1),
                opacities=torch.cat([part.opacities for part in parts], dim=1),
                scales=torch.cat([part.scales for part in parts], dim=1),
                rotations=torch.cat([part.rotations for part in parts], dim=1),
            ),
            lifted,
        )

    def vertex_splats(self, identity: Float[Tensor, "B D"], direction: Float[Tensor, "B 27"]) -> Attributes:
        """The expression branch: splats of the head model's vertices."""
        own = self.head_base.expand(len(identity), -1, -1)
        shared = identity[:, None].to(own).expand(-1, own.shape[1], -1)
        return self.gs_generator_g(torch.cat([own, shared], dim=-1), direction)

    def draw(
        self,
        splats: SourceSplats,
        vertices: Float[Tensor, "B V 3"],
        transform: Float[Tensor, "B 3 4"],
        generator: torch.Generator | None = None,
    ) -> Drawn:
        """Images of splats with the head model's driven vertices (native units) in native cameras."""
        camera = metres_to_native(transform_to_camera(transform, self.architecture.image_size))
        return draw(splats, vertices, camera, self.upsampler, self.architecture, generator, self.compute)

    def driven(
        self, picture: Float[Tensor, "B 3 T T"], transform: Float[Tensor, "B 3 4"], rest: Float[Tensor, "B V 3"]
    ) -> Float[Tensor, "B V 3"]:
        """The head model's vertices where driving pictures (taken by native cameras) want them, from those at rest;
        native units."""
        assert self.picture_driver is not None
        with self.compute.running(picture.device):
            code = self.picture_driver(picture, rest, transform)
        return rest + self.picture_driver.displacements(code.float())

    def forward(
        self,
        source: Float[Tensor, "B 3 S S"],
        source_transform: Float[Tensor, "B 3 4"],
        vertices: Float[Tensor, "B V 3"],
        transform: Float[Tensor, "B 3 4"],
        generator: torch.Generator | None = None,
    ) -> tuple[Drawn, Float[Tensor, "B P 3"]]:
        """Source pictures driven to other vertices and cameras: images, and positions of the lifted splats."""
        splats = self.splats(source, source_transform)
        return self.draw(splats, vertices, transform, generator), splats.lifted

    def reconstruct(
        self,
        image: Float[Tensor, "*P H W 3"],
        transform: Float[Tensor, "*P 3 4"],
        rest: HeadParams,
        head: HeadModel,
        *,
        license: str = "not stated",
        labels: Labels | None = None,
    ) -> OneShotAvatar:
        """The avatar of one picture, or of several of the same person, which holds all that no frame changes.

        Args:
            image: square pictures framed as the network knows them (`framing.frame_head`), sRGB, black behind the
            person; without a batch, or several (see `merging`). transform: their native cameras. rest: the person at
            rest, without pose. head: the head model of all. license: terms of this network's weights.

        Raises:
            VultusError: the head model does not fit the network.
        """
        from vultus.avatars.oneshot.avatar import OneShotAvatar
        from vultus.avatars.oneshot.head_space import head_vertices, network_vertices, require_skinned
        from vultus.avatars.oneshot.merging import merged

        architecture, skinned = self.architecture, require_skinned(head)
        size = architecture.source_size
        transforms = transform.reshape(-1, 3, 4)
        pictures = image.reshape(-1, *image.shape[-3:])
        with torch.no_grad():
            # One by one: several at once would need several times the memory.
            each = [
                self.splats(resize(picture, size, size).movedim(-1, 0)[None], camera[None])
                for picture, camera in zip(pictures, transforms, strict=True)
            ]
            splats = each[0]
            if len(each) > 1 and network_vertices(skinned) == architecture.vertices:
                splats = merged(SourceSplats.cat(each), transforms, head_vertices(skinned, rest) * UNITS, skinned)
        view = transform_to_camera(transforms[0], architecture.image_size)
        renderer = copy.deepcopy(self.upsampler)
        avatar = OneShotAvatar(
            head, rest, view, splats, renderer, architecture, renderer_license=license, labels=labels
        )
        avatar.compute = self.compute
        self.compute.prepare(avatar, renderer)
        return avatar.eval()


def neural_renderer(architecture: Architecture) -> StyleUNet:
    """The network that turns features into colours."""
    return StyleUNet(
        architecture.image_size,
        architecture.image_size,
        architecture.channels,
        3,
        style=architecture.style,
        layers=architecture.style_layers,
        narrow=architecture.narrow,
    )


def native_gaussians(splats: SourceSplats, vertices: Float[Tensor, "B V 3"], architecture: Architecture) -> Gaussians:
    """The splats with the expression branch at driven vertices, native units."""
    attributes = splats.attributes
    batch = max(len(vertices), len(splats.lifted))
    means = torch.cat([vertices.expand(batch, -1, -1), splats.lifted.expand(batch, -1, -1)], dim=1)
    return Gaussians(
        means=means,
        rotations=attributes.rotations,
        scales=attributes.scales,
        opacities=drawn_opacities(attributes.opacities[..., 0], architecture),
        features=attributes.features,
    )


def drawn_opacities(opacities: Float[Tensor, "B N"], architecture: Architecture) -> Float[Tensor, "B N"]:
    """The opacities, 0 for the branches that are left out. There are two sheets per picture."""
    parts = architecture.parts
    drawn = (parts.expression, parts.behind, parts.before)
    if all(drawn):
        return opacities
    sheet = architecture.plane_size**2
    pictures = (opacities.shape[-1] - architecture.vertices) // (2 * sheet)
    groups = opacities.split([architecture.vertices, *([sheet, sheet] * pictures)], dim=-1)
    kept = (drawn[0], *(drawn[1:] * pictures))
    return torch.cat([group if keep else 0 * group for group, keep in zip(groups, kept, strict=True)], dim=-1)


def draw(
    splats: SourceSplats,
    vertices: Float[Tensor, "B V 3"],
    camera: Camera,
    renderer: StyleUNet,
    architecture: Architecture,
    generator: torch.Generator | None = None,
    compute: Compute = _PLAIN,
) -> Drawn:
    """Splats through a camera in native units, of the network's image size, and its neural renderer."""
    gaussians = native_gaussians(splats, vertices, architecture)
    raster = rasterize(gaussians, camera, settings=architecture.quirks.raster, depth=False)
    features = raster.color.movedim(-1, -3)
    coarse = features[:, :3]
    with compute.running(features.device):
        if not architecture.parts.renderer:
            fine = coarse
        elif architecture.shortcuts:
            fine = (renderer.logits(features, generator).float() + _logits(coarse)).sigmoid()
        else:
            fine = renderer(features, generator).float()
            if compute.compiled:
                fine = fine.clone()  # the next replay of the CUDA graph overwrites its output
    return Drawn(coarse, fine, raster.alpha.movedim(-1, -3))


def _colors_of_cells(image: Float[Tensor, "B 3 S S"], size: int) -> Float[Tensor, "B 3 size size"]:
    """The picture where the plane's cells lie (the outermost on its edges), as logits."""
    grid = torch.nn.functional.affine_grid(
        torch.eye(2, 3, device=image.device).expand(len(image), -1, -1), [len(image), 3, size, size], align_corners=True
    )
    return _logits(torch.nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False))


def _logits(colors: Tensor) -> Tensor:
    """The inverse of the sigmoid, for colours that may be black or white."""
    return colors.clamp(_DARKEST, 1 - _DARKEST).logit()
