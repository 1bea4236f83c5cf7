"""Camera paths around an avatar."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cameras import Camera
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix


def still(view: Camera, count: int) -> Camera:
    """The same camera at every instant."""
    pose = view.world_to_camera.expand(count, 4, 4)
    return Camera(pose, view.K.expand(count, 3, 3), view.width, view.height)


def orbit(
    view: Camera,
    center: Float[Tensor, "3"],
    yaw: Float[Tensor, "*B"],
    pitch: Float[Tensor, "*B"] | float = 0.0,
) -> Camera:
    """The camera carried around `center`: by `yaw` radians about its own upward axis, then up by `pitch` radians.

    Positive yaw moves it to its right, which shows more of the left side of a face that looks at it.
    """
    yaw = torch.as_tensor(yaw, dtype=view.world_to_camera.dtype)
    up = -view.world_to_camera[1, :3]
    right = view.world_to_camera[0, :3]
    pitch = torch.as_tensor(pitch, dtype=yaw.dtype).expand(yaw.shape)
    turn = axis_angle_to_matrix(up * yaw[..., None]) @ axis_angle_to_matrix(-right * pitch[..., None])
    shift = center - (turn @ center[:, None])[..., 0]
    upper = torch.cat([turn, shift[..., None]], dim=-1)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=upper.dtype).expand(*upper.shape[:-2], 1, 4)
    moved = view.moved(torch.cat([upper, last], dim=-2))
    batch = yaw.shape
    return Camera(moved.world_to_camera, view.K.expand(*batch, 3, 3), view.width, view.height)


def swing(view: Camera, center: Float[Tensor, "3"], count: int, *, degrees: float = 20.0, turns: float = 1.0) -> Camera:
    """A camera that swings to one side, to the other and back, `turns` times in `count` instants."""
    phase = torch.linspace(0, 2 * math.pi * turns, count + 1)[:-1]
    return orbit(view, center, math.radians(degrees) * torch.sin(phase))


def yaw_to_front(view: Camera, head: HeadModel, params: HeadParams) -> float:
    """The yaw (radians) by which `orbit` brings a camera in front of the face; 0 for one that is there already."""
    with torch.no_grad():
        out_of_face = head.head_to_world(params)[:3, 2]
    axes = view.world_to_camera[:3, :3]
    return math.atan2(float(out_of_face @ axes[0]), float(-(out_of_face @ axes[2])))


def head_center(head: HeadModel, params: HeadParams) -> Float[Tensor, "3"]:
    """The middle of a posed head, halfway between its extremes: what cameras turn around."""
    with torch.no_grad():
        vertices = head.pose(params).vertices
    return (vertices.amin(-2) + vertices.amax(-2)) / 2
