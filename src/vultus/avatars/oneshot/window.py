"""Any camera's picture through a network that draws one size and one framing: a window of it, resampled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.oneshot.geometry import has_native_lens
from vultus.cameras import Camera
from vultus.images.resample import resize

_NEAREST = 0.05
"""A head whose middle is nearer than this (metres), or behind the camera, is not drawn."""


@dataclass(frozen=True)
class Window:
    """A rectangle of a camera's picture (pixels, not whole) that the network draws."""

    left: float
    top: float
    width: float
    height: float


def window_of(camera: Camera, anchor: Float[Tensor, "3"], extent: float) -> Window | None:
    """Where to draw: the whole picture of a camera with the network's own lens, else the square around `anchor` whose
    half side is `extent` (metres) there, so that the head has the size the network knows. None: nothing to see.

    Args:
        camera: one camera. anchor: the middle of the network's framing, in the camera's world.
    """
    if has_native_lens(camera):
        return Window(0.0, 0.0, float(camera.width), float(camera.height))
    with torch.no_grad():
        depth = float(camera.to_camera(anchor[None])[0, 2])
        if depth < _NEAREST:
            return None
        x, y = camera.project(anchor[None])[0].tolist()
        half_x, half_y = (float(camera.K[axis, axis]) * extent / depth for axis in (0, 1))
    outside = x + half_x <= 0 or y + half_y <= 0 or x - half_x >= camera.width or y - half_y >= camera.height
    return None if outside else Window(x - half_x, y - half_y, 2 * half_x, 2 * half_y)


def camera_of_window(camera: Camera, window: Window, size: int) -> Camera:
    """The camera that sees the window as a square image of `size` pixels."""
    K = camera.K.clone()
    K[0, 2] -= window.left
    K[1, 2] -= window.top
    factors = K.new_tensor([[size / window.width], [size / window.height], [1.0]])
    return replace(camera, K=K * factors, width=size, height=size)


def into_picture(
    image: Float[Tensor, "S S C"], window: Window, width: int, height: int
) -> Float[Tensor, "height width C"]:
    """The window's image at its place in the camera's picture; 0 around it."""
    if (window.left, window.top, window.width, window.height) == (0, 0, width, height):
        return resize(image, width, height)
    size = image.shape[0]
    # Where the window has fewer pixels than the image, bilinear sampling alone would skip some.
    across, down = (max(1, min(size, round(length))) for length in (window.width, window.height))
    planes = resize(image, across, down).movedim(-1, 0)[None]
    x = (torch.arange(width, device=image.device) + 0.5 - window.left) / window.width * 2 - 1
    y = (torch.arange(height, device=image.device) + 0.5 - window.top) / window.height * 2 - 1
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1).to(planes)[None]
    return torch.nn.functional.grid_sample(planes, grid, align_corners=False)[0].movedim(0, -1)
