"""What the browser shows of an avatar: its splats, the head model's surface, or rendered frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.animation.paths import head_center
from vultus.avatars import Avatar, SplatAvatar
from vultus.cameras import Camera
from vultus.images import to_uint8
from vultus.motion import HeadParams
from vultus.rotations import quaternion_to_matrix
from vultus.splats import Gaussians, sh_to_rgb

if TYPE_CHECKING:
    import viser

SCALE = 20.0
"""Browser units per metre: the browser keeps covariances in half precision, which cannot tell square millimetres
from zero."""

Mode = Literal["splats", "mesh", "frames"]
_FRAME_HEIGHT = 480


def modes_of(avatar: Avatar) -> tuple[Mode, ...]:
    """How an avatar can be shown, the best first."""
    if isinstance(avatar, SplatAvatar) and avatar.appearance == "rgb":
        return ("splats", "frames", "mesh")
    return ("frames", "mesh")


def splat_arrays(
    gaussians: Gaussians, eye: Float[Tensor, "3"]
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3 3"], Float[np.ndarray, "N 3"], Float[np.ndarray, "N 1"]]:
    """Centres, covariances (both in browser units), colours as seen from `eye` (world) and opacities."""
    with torch.no_grad():
        turn = quaternion_to_matrix(gaussians.rotations) * (gaussians.scales * SCALE)[..., None, :]
        covariances = turn @ turn.transpose(-1, -2)
        if gaussians.sh is not None:
            degree = gaussians.active_degree or 0
            colors = sh_to_rgb(gaussians.means - eye, gaussians.sh, degree)
        else:
            assert gaussians.features is not None
            colors = gaussians.features
        count = gaussians.means.shape[0]
        return (
            (gaussians.means * SCALE).numpy(force=True),
            covariances.expand(count, 3, 3).numpy(force=True),
            colors.clamp(0, 1).expand(count, 3).numpy(force=True),
            gaussians.opacities.clamp(0, 1).expand(count)[:, None].numpy(force=True),
        )


def browser_camera(position: Any, wxyz: Any, fov: float, width: int, height: int) -> Camera:
    """The camera of a browser window: position in browser units, camera-to-world rotation, vertical view in radians."""
    rotation = quaternion_to_matrix(torch.as_tensor(np.asarray(wxyz), dtype=torch.float32))
    center = torch.as_tensor(np.asarray(position), dtype=torch.float32) / SCALE
    pose = torch.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ center
    return Camera.from_focal(height / 2 / math.tan(fov / 2), width, height, pose)


class Stage:
    """Draws head parameters in every connected browser."""

    def __init__(self, server: viser.ViserServer, avatar: Avatar) -> None:
        self._server, self.avatar = server, avatar
        self._splats: Any = None
        self._mesh: Any = None
        self._empty_shown: tuple[int, int, int] | None = None
        self.center = head_center(avatar.head, avatar.rest)
        self._set_home(avatar.view)

    def _set_home(self, view: Camera) -> None:
        """Browsers start where the avatar's camera stood, with the head, about which they turn, in the middle: that
        camera may have looked past it (a crop's principal point is not its middle)."""
        self._up = (-view.world_to_camera[1, :3]).numpy()
        self._server.scene.set_up_direction(self._up)
        home = self._server.initial_camera
        home.position = tuple((view.center * SCALE).tolist())
        home.look_at = tuple((self.center * SCALE).tolist())
        home.up = tuple(self._up.tolist())
        home.fov = 2 * math.atan(view.height / 2 / float(view.K[1, 1]))

    def go_home(self, client: viser.ClientHandle) -> None:
        """Move one browser's camera back to the start."""
        home = self._server.initial_camera
        camera = client.camera
        camera.position, camera.look_at, camera.up_direction = home.position, home.look_at, self._up
        camera.fov = home.fov

    def draw(self, params: HeadParams, mode: Mode, background: tuple[int, int, int]) -> None:
        """Show head parameters (no batch). background: sRGB, 0 to 255."""
        self._show_background(background, mode)
        with torch.no_grad():
            if mode == "splats":
                self._draw_splats(params)
            elif mode == "mesh":
                self._draw_mesh(params)
            else:
                self._draw_frames(params, background)
        for handle, shown in ((self._splats, "splats"), (self._mesh, "mesh")):
            if handle is not None and handle.visible != (mode == shown):
                handle.visible = mode == shown

    def picture(
        self, client: viser.ClientHandle, params: HeadParams, height: int, background: tuple[int, int, int]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """The avatar's own rendering of what one browser sees."""
        camera = client.camera
        width = max(16, min(4 * height, round(height * camera.aspect)))
        view = browser_camera(camera.position, camera.wxyz, camera.fov, width, height)
        return render(self.avatar, params, view, background)

    def _draw_splats(self, params: HeadParams) -> None:
        assert isinstance(self.avatar, SplatAvatar)
        arrays = splat_arrays(self.avatar.gaussians(params), self.avatar.view.center)
        if self._splats is None:
            self._splats = self._server.scene.add_gaussian_splats("/splats", *arrays)
        else:
            self._splats.set_gaussians(*arrays)

    def _draw_mesh(self, params: HeadParams) -> None:
        vertices = (self.avatar.vertices(params) * SCALE).numpy(force=True)
        if self._mesh is None:
            faces = self.avatar.head.faces.numpy(force=True)
            self._mesh = self._server.scene.add_mesh_simple(
                "/mesh", vertices, faces, color=(214, 216, 222), side="double"
            )
        else:
            self._mesh.vertices = vertices

    def _draw_frames(self, params: HeadParams, background: tuple[int, int, int]) -> None:
        for client in self._server.get_clients().values():
            picture = self.picture(client, params, _FRAME_HEIGHT, background)
            client.scene.set_background_image(picture, format="jpeg", jpeg_quality=85)

    def _show_background(self, color: tuple[int, int, int], mode: Mode) -> None:
        if mode == "frames":
            self._empty_shown = None
            return
        if self._empty_shown != color:
            plain = np.full((9, 16, 3), color, np.uint8)
            for client in self._server.get_clients().values():
                client.scene.set_background_image(plain, format="png")
            self._server.scene.set_background_image(plain, format="png")
            self._empty_shown = color


def render(
    avatar: Avatar, params: HeadParams, camera: Camera, background: tuple[int, int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """The avatar over a plain background (sRGB, 0 to 255)."""
    with torch.no_grad():
        color = torch.tensor(background, dtype=torch.float32) / 255
        return to_uint8(avatar.render(params, camera, background=color).color)
