"""Cameras around a head."""

from __future__ import annotations

import math

import torch

from vultus.cameras import Camera, look_at
from vultus.errors import VultusError

MAX_CAMERAS = 32
_DISTANCE = 1.5
_TARGET = (0.0, -0.035, 0.01)
_FIELD_RADIANS = math.radians(14.5)
_REACH_DEGREES = 84.0
_UPPER_DEGREES, _LOWER_DEGREES = 18.0, -8.0


def studio_rig(count: int, size: int, *, around: bool = False) -> list[Camera]:
    """1 to 32 cameras, 1.5 m away, that look at the head of someone at the origin; pictures `size` pixels square.

    One camera is in front. More stand alternately above and below eye height on an arc of 84 degrees to either side,
    ordered from the subject's right to the left, the middle one in front; around=True spreads them over the whole
    circle instead.

    Raises:
        VultusError: a number of cameras or a size that is not possible.
    """
    if not 1 <= count <= MAX_CAMERAS:
        raise VultusError(f"{count} cameras: the studio has 1 to {MAX_CAMERAS}")
    if not 16 <= size <= 4096:
        raise VultusError(f"pictures of {size} pixels: choose 16 to 4096")
    target = torch.tensor(_TARGET)
    focal = size / 2 / math.tan(_FIELD_RADIANS / 2)
    cameras = []
    for number in range(count):
        if count == 1:
            yaw, pitch = 0.0, 0.0
        else:
            share = number / count if around else number / (count - 1)
            reach = 180.0 if around else min(_REACH_DEGREES, 21.0 * (count - 1))
            yaw = math.radians(reach * (2 * share - 1))
            pitch = math.radians(_UPPER_DEGREES if number % 2 else _LOWER_DEGREES)
        place = torch.tensor([math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
        pose = look_at(target + _DISTANCE * place, target)
        cameras.append(Camera.from_focal(focal, size, size, pose))
    return cameras
