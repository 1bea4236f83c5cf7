"""The network's own geometry: its units, its cameras and its feature plane.

A native camera is a matrix `[R | T]` (3x4) in PyTorch3D's convention: row vectors, `x_camera = x R + T`, +X left, +Y
up, +Z forward, lengths in 1/5 m, the focal length 12 half image sides, the principal point in the middle. The head
model's origin is the native world's, and the head never turns in it: its pose is the camera's."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.oneshot.options import FOCAL, UNITS
from vultus.cameras import Camera

_AXES = (-1.0, -1.0, 1.0)
"""Left and up to right and down."""


def transform_to_camera(transform: Float[Tensor, "*B 3 4"], size: int) -> Camera:
    """The camera (metres) of a native matrix, for a square image of `size` pixels."""
    axes = transform.new_tensor(_AXES)[:, None]
    rotation = transform[..., :3].transpose(-1, -2) * axes
    translation = transform[..., 3:] * axes / UNITS
    last = transform.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*transform.shape[:-2], 1, 4)
    pose = torch.cat([torch.cat([rotation, translation], dim=-1), last], dim=-2)
    return Camera.from_focal(FOCAL * size / 2, size, size, pose)


def camera_to_transform(camera: Camera) -> Float[Tensor, "*B 3 4"]:
    """The native matrix of a camera (metres); only its pose is used."""
    pose = camera.world_to_camera
    axes = pose.new_tensor(_AXES)
    rotation = pose[..., :3, :3].transpose(-1, -2) * axes
    return torch.cat([rotation, (pose[..., :3, 3] * axes * UNITS)[..., None]], dim=-1)


def metres_to_native(camera: Camera) -> Camera:
    """The same camera with lengths in native units."""
    pose = camera.world_to_camera
    upper = pose[..., :3, :] * pose.new_tensor([1.0, 1.0, 1.0, UNITS])
    return replace(camera, world_to_camera=torch.cat([upper, pose[..., 3:, :]], dim=-2))


def has_native_lens(camera: Camera) -> bool:
    """Whether a camera's image is square with the network's own focal length and a centred principal point."""
    if camera.width != camera.height:
        return False
    half = camera.width / 2
    wanted = camera.K.new_tensor([[FOCAL * half, 0.0, half], [0.0, FOCAL * half, half], [0.0, 0.0, 1.0]])
    return bool(torch.allclose(camera.K, wanted.expand_as(camera.K), rtol=1e-4, atol=1e-3 * half))


def feature_plane(
    transform: Float[Tensor, "B 3 4"], size: int
) -> tuple[Float[Tensor, "B size*size 3"], Float[Tensor, "B 3"]]:
    """Points of the feature plane (row-major, native units) and the viewing direction, away from the camera.

    The plane is perpendicular to the view, as far from the camera as the world's origin, and fills the image exactly.
    """
    rotation, translation = transform[..., :3], transform[..., 3]
    center = -(rotation @ translation[..., None])[..., 0]
    direction = rotation[..., 2]
    distance = (center * direction).sum(-1).abs()
    line = 1 - 2 * torch.arange(size, dtype=transform.dtype, device=transform.device) / (size - 1)
    y, x = torch.meshgrid(line, line, indexing="ij")
    rays = torch.stack([x / FOCAL, y / FOCAL, torch.ones_like(x)], dim=-1).flatten(0, 1)
    points = center[:, None] + distance[:, None, None] * (rays @ rotation.transpose(-1, -2))
    return points, direction


def lift(
    points: Float[Tensor, "B N 3"], direction: Float[Tensor, "B 3"], distance: Float[Tensor, "B N 1"]
) -> Float[Tensor, "B N 3"]:
    """Points moved along the viewing direction (away from the camera), native units."""
    return points + distance * direction[:, None]
