"""Pictures taken by any camera, framed as the network knows them: cropped around the head, black behind the person,
with the native camera that explains them best."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.avatars.oneshot.frames import Frame
from vultus.avatars.oneshot.geometry import camera_to_transform
from vultus.avatars.oneshot.head_space import head_vertices, network_vertices, without_pose
from vultus.avatars.oneshot.options import FOCAL, UNITS
from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.heads.model import SkinnedHead
from vultus.images.resample import Box, crop, resize
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix

CROP = 1.65
"""Side of the crop in units of the head box's size, as published."""
_POINTS = 600
"""Vertices that the pose is fitted to."""
_BELOW = ("neck", "boundary", "below_line")
_SMALLEST = 16
"""Heads of fewer pixels are refused."""


def frame_head(
    image: Float[Tensor, "H W 3"],
    mask: Float[Tensor, "H W 1"],
    params: HeadParams,
    camera: Camera,
    head: SkinnedHead,
    size: int,
) -> Frame:
    """A picture as the network knows it, `size` pixels square.

    Args:
        image: over any background. mask: how much of each pixel is the person. params, camera: of the picture, no
        batch.

    Raises:
        VultusError: the head is not in the picture, or too small in it.
    """
    with torch.no_grad():
        vertices = head_vertices(head, params)
        skull = head.head_to_world(params)
    seen = Camera(camera.world_to_camera @ skull, camera.K, camera.width, camera.height)
    if float(seen.to_camera(vertices)[:, 2].min()) <= 0:
        raise VultusError("the head is not in front of the camera; the picture cannot be used")
    pixels = seen.project(vertices)
    low, high = (bound(pixels[above_neck(head)], dim=0) for bound in (torch.amin, torch.amax))
    width, height = (high - low).tolist()
    middle = ((low + high) / 2).tolist()
    inside = 0 < middle[0] < camera.width and 0 < middle[1] < camera.height
    if not inside or min(width, height) < _SMALLEST:
        raise VultusError(
            f"the head is {width:.0f} x {height:.0f} pixels around ({middle[0]:.0f}, {middle[1]:.0f}) of a picture of "
            f"{camera.width} x {camera.height}; choose one that shows a larger part of it"
        )
    box = Box.square_around((middle[0], middle[1]), CROP * (width * height) ** 0.5)
    corner = pixels.new_tensor([box.left, box.top])
    fitted = above_neck(head)
    transform = native_pose(vertices[fitted], ((pixels - corner) / (box.width / 2) - 1)[fitted], seen, box.width / 2)
    picture = resize(crop(image * mask, box), size, size).clamp(0, 1)
    share = torch.cat([low - corner, high - corner]) / box.width
    return Frame((picture * 255).round().to(torch.uint8), without_pose(head, params), transform, share.clamp(0, 1))


def native_pose(
    vertices: Float[Tensor, "V 3"], places: Float[Tensor, "V 2"], camera: Camera, half: float
) -> Float[Tensor, "3 4"]:
    """The native camera that shows a head where another camera shows it: least squares of the places, at the network's
    focal length.

    Args:
        vertices: with the skull at rest, metres. places: where they are seen, in half sides of the image from its
        middle,
            x to the right and y down.
        camera: the other camera, relative to the skull at rest. half: pixels of half a side in it.
    """
    from scipy.optimize import least_squares

    chosen = slice(None, None, max(1, len(vertices) // _POINTS))
    points, targets = (tensor[chosen].double() for tensor in (vertices * UNITS, places))
    rotation = camera.world_to_camera[:3, :3].double()
    turned = points @ rotation.T
    depth = float(camera.to_camera(vertices)[:, 2].mean()) * UNITS * FOCAL * half / float(camera.K[0, 0])
    start = np.zeros(6)
    start[5] = depth - float(turned[:, 2].mean())
    start[3:5] = targets.mean(0).numpy() * depth / FOCAL - turned[:, :2].mean(0).numpy()

    def error(values: np.ndarray) -> np.ndarray:
        turn = axis_angle_to_matrix(torch.from_numpy(values[:3]))
        moved = turned @ turn.T + torch.from_numpy(values[3:])
        return (FOCAL * moved[:, :2] / moved[:, 2:] - targets).flatten().numpy()

    solution = torch.from_numpy(least_squares(error, start, method="lm").x)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = axis_angle_to_matrix(solution[:3]) @ rotation
    pose[:3, 3] = solution[3:] / UNITS
    return camera_to_transform(Camera(pose, camera.K.double(), camera.width, camera.height)).float()


def above_neck(head: SkinnedHead) -> Bool[Tensor, "V"]:
    """Which of the network's vertices belong to the head proper; all, where the head model does not say."""
    kept = torch.ones(len(head.template), dtype=torch.bool)
    for name in _BELOW:
        if name in head.regions:
            kept[head.regions[name]] = False
    return kept[: network_vertices(head)]
