"""`OneShotAvatar`: the splats of one picture, driven by a head model and drawn by a shared neural renderer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.avatars.avatar import Labels, Rendering
from vultus.avatars.oneshot.compute import Compute
from vultus.avatars.oneshot.generators import Attributes
from vultus.avatars.oneshot.geometry import camera_to_transform, feature_plane, metres_to_native
from vultus.avatars.oneshot.head_space import head_vertices, network_vertices, require_skinned
from vultus.avatars.oneshot.model import SourceSplats, draw, drawn_opacities
from vultus.avatars.oneshot.options import FOCAL, UNITS, Architecture
from vultus.avatars.oneshot.window import camera_of_window, into_picture, window_of
from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams
from vultus.networks.style_unet import StyleUNet
from vultus.rotations import matrix_to_quaternion, multiply_quaternions
from vultus.splats import Gaussians

SPLATS = ("features", "opacities", "scales", "rotations", "lifted")


class OneShotAvatar(nn.Module):
    """What a one-shot network made of one picture or several. All but driven vertices and the camera is fixed.

    Args:
        head: a head model in FLAME's layout, with as many vertices as the network's.
        rest: this person at rest. view: the camera of the first picture (metres, the network's own lens).
        splats: of one picture, or of several merged, native units. renderer: the neural renderer.
        renderer_license: terms of the renderer's weights.
    """

    kind = "oneshot"
    appearance: Literal["rgb", "features"] = "features"

    features: nn.Parameter
    opacities: nn.Parameter
    scales: nn.Parameter
    rotations: nn.Parameter
    lifted: nn.Parameter
    native_background: Float[Tensor, "3"] | None

    def __init__(
        self,
        head: HeadModel,
        rest: HeadParams,
        view: Camera,
        splats: SourceSplats,
        renderer: StyleUNet,
        architecture: Architecture,
        *,
        renderer_license: str = "not stated",
        labels: Labels | None = None,
    ) -> None:
        super().__init__()
        self._skinned = require_skinned(head)
        self.head: HeadModel = self._skinned
        self.rest, self.view = rest, view
        self.architecture, self.renderer = architecture, renderer
        self.compute = Compute()
        self.renderer_license, self.labels = renderer_license, labels or Labels()
        count = network_vertices(head)
        if count != architecture.vertices:
            raise VultusError(
                f"the network was made for head models of {architecture.vertices} vertices; {head.name} has {count}. "
                "Published weights need FLAME: --head PATH on the command line, load_head(PATH) in Python"
            )
        parts = {**vars(splats.attributes), "lifted": splats.lifted}
        for name in SPLATS:
            setattr(self, name, nn.Parameter(parts[name].detach()[0].clone().contiguous()))
        self.register_buffer("native_background", torch.zeros(3), persistent=False)
        transform = camera_to_transform(view)[None]
        points, direction = feature_plane(transform, 2)
        self._anchor = points[0].mean(0) / UNITS
        self._extent = float((points[0].mean(0) - view.center * UNITS) @ direction[0]) / FOCAL / UNITS

    def use(self, compute: Compute) -> OneShotAvatar:
        """Let the neural renderer compute so from now on; saved avatars do not remember it.

        Raises:
            VultusError: the device that the avatar is on cannot do this.
        """
        compute.require(self.features.device)
        compute.prepare(self, self.renderer)
        self.compute = compute
        return self

    @property
    def controls(self) -> frozenset[str]:
        """The fields of HeadParams that change its image."""
        return frozenset({"identity", "expression", "joints", "translation", "scale", "offset"})

    @property
    def count(self) -> int:
        """Number of Gaussians."""
        return self.features.shape[0]

    @property
    def pictures(self) -> int:
        """Of how many pictures it was made."""
        return len(self.lifted) // (2 * self.architecture.plane_size**2)

    def vertices(self, params: HeadParams) -> Float[Tensor, "*B V 3"]:
        """The head model's posed mesh, metres."""
        return self.head.pose(params).vertices

    def splats(self) -> SourceSplats:
        """The splats in native units, as a batch of one."""
        attributes = Attributes(*(getattr(self, name)[None] for name in SPLATS[:-1]))
        return SourceSplats(attributes, self.lifted[None])

    def gaussians(self, params: HeadParams, *, memory: object | None = None) -> Gaussians:
        """The splats in the world, metres. Their features mean nothing without the neural renderer.

        Splats whose quaternions have no direction of their own (see `Quirks.vertex_rotations`) turn with the head.
        """
        skull = self.head.head_to_world(params)
        vertices = head_vertices(self._skinned, params)
        local = torch.cat([vertices, (self.lifted / UNITS).expand(*vertices.shape[:-2], -1, 3)], dim=-2)
        means = local @ skull[..., :3, :3].transpose(-1, -2) + skull[..., None, :3, 3]
        own = self.rotations
        if not self.architecture.quirks.raster.normalise_rotations:
            aligned = own.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(self.architecture.vertices, 4)
            own = torch.cat([aligned, own[self.architecture.vertices :]])
        turn = matrix_to_quaternion(skull[..., :3, :3])[..., None, :]
        return Gaussians(
            means=means,
            rotations=multiply_quaternions(turn.expand(*turn.shape[:-2], len(own), 4), own),
            scales=self.scales / UNITS,
            opacities=drawn_opacities(self.opacities[..., 0], self.architecture),
            features=self.features,
        )

    def render(
        self,
        params: HeadParams,
        camera: Camera,
        *,
        background: Float[Tensor, "3"] | None = None,
        memory: object | None = None,
        generator: torch.Generator | None = None,
    ) -> Rendering:
        """The image of head parameters through any camera; drawn at the network's size and resampled.

        A camera with the network's own lens is drawn as published; of any other, the part that the head is in is. With
        `generator` the renderer's noise is drawn anew for every image, as published; without, images do not flicker.
        """
        batch = torch.broadcast_shapes(params.batch_shape, camera.batch_shape)
        vertices = head_vertices(self._skinned, params)
        skull = self.head.head_to_world(params)
        vertices, skull = (t.expand(*batch, *t.shape[-2:]).reshape(-1, *t.shape[-2:]) for t in (vertices, skull))
        cameras = Camera(
            camera.world_to_camera.expand(*batch, 4, 4).reshape(-1, 4, 4),
            camera.K.expand(*batch, 3, 3).reshape(-1, 3, 3),
            camera.width,
            camera.height,
        )
        images = [self._one(vertices[i], skull[i], cameras[i], generator) for i in range(len(vertices))]
        pictures, coarse = (torch.stack(parts) for parts in zip(*images, strict=True))
        pictures = pictures.reshape(*batch, *pictures.shape[1:])
        color, alpha = pictures[..., :3], pictures[..., 3:]
        if background is not None:
            color = color + (1 - alpha) * background.to(color)  # the own background is black
        return Rendering(color=color, alpha=alpha, coarse=coarse.reshape(*batch, *coarse.shape[1:]))

    def _one(
        self, vertices: Tensor, skull: Tensor, camera: Camera, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "H W 4"], Float[Tensor, "S S 3"]]:
        size = self.architecture.image_size
        seen = Camera(camera.world_to_camera @ skull, camera.K, camera.width, camera.height)
        window = window_of(seen, self._anchor.to(vertices), self._extent)
        if window is None:
            return vertices.new_zeros(camera.height, camera.width, 4), vertices.new_zeros(size, size, 3)
        native = metres_to_native(camera_of_window(seen, window, size))
        drawn = draw(
            self.splats(),
            vertices[None] * UNITS,
            Camera.stack([native]),
            self.renderer,
            self.architecture,
            generator,
            self.compute,
        )
        image = torch.cat([drawn.fine, drawn.alpha], dim=1)[0].movedim(0, -1)
        return into_picture(image, window, camera.width, camera.height), drawn.coarse[0].movedim(0, -1)

    def save(self, folder: Path, *, standalone: bool = False) -> None:
        """Write the avatar folder. The neural renderer is put among the shared networks, or with `standalone` into the
        folder. Raises VultusError if it cannot be written."""
        from vultus.avatars.oneshot.folder import save_oneshot

        save_oneshot(self, folder, standalone=standalone)
