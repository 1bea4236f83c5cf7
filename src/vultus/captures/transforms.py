"""Cameras in the transforms JSON of GaussianAvatars: OpenGL camera-to-world, principal point counted from the bottom.

Source: the data-set format of GaussianAvatars (Qian et al. 2024), itself an extension of Blender/NeRF transforms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vultus.cameras import (
    Camera,
    opengl_camera_to_world_to_world_to_camera,
    world_to_camera_to_opengl_camera_to_world,
)
from vultus.errors import VultusError
from vultus.files import read_json

MAX_INDEX = 1_000_000
_MAX_SIDE = 32_768


@dataclass(frozen=True)
class Frame:
    """One entry of `frames`: indices, camera and the paths as they stand in the file."""

    timestep: int
    camera_index: int
    camera: Camera
    file_path: str
    fg_mask_path: str | None
    flame_param_path: str | None


def read_transforms(path: Path) -> Iterator[Frame]:
    """The frames of one transforms JSON. Values missing from a frame are taken from the top level.

    Raises:
        VultusError: malformed, or with numbers that make no camera; the message names the frame.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise VultusError(f"{path}: has no list of frames")
    defaults = {key: value for key, value in content.items() if key != "frames"}
    for number, entry in enumerate(content["frames"]):
        where = f"{path}: frame {number}"
        if not isinstance(entry, dict):
            raise VultusError(f"{where} is not an object")
        yield _frame({**defaults, **entry}, where)


def frame_entry(camera: Camera) -> dict[str, Any]:
    """What a transforms JSON says of one camera (unbatched)."""
    K = camera.K.double().cpu()
    pose = world_to_camera_to_opengl_camera_to_world(camera.world_to_camera.double().cpu())
    fx, fy = float(K[0, 0]), float(K[1, 1])
    return {
        "cx": float(K[0, 2]),
        "cy": camera.height - float(K[1, 2]),
        "fl_x": fx,
        "fl_y": fy,
        "h": camera.height,
        "w": camera.width,
        "camera_angle_x": 2 * math.atan(camera.width / (2 * fx)),
        "camera_angle_y": 2 * math.atan(camera.height / (2 * fy)),
        "transform_matrix": pose.tolist(),
    }


def transforms_camera(entry: dict[str, Any], where: str) -> Camera:
    """The camera (float64) of one frame's entry. Missing focal lengths follow from the angles, a missing centre is the
    image's. Raises VultusError; `where` is for the message."""
    width, height = (_whole(entry, key, where, 1, _MAX_SIDE) for key in ("w", "h"))
    fx = _focal(entry, "fl_x", "camera_angle_x", width, where)
    # With square pixels, which the published reader assumes, the vertical angle may be missing.
    fy = _focal(entry, "fl_y", "camera_angle_y", height, where) if {"fl_y", "camera_angle_y"} & entry.keys() else fx
    cx = _real(entry, "cx", where, default=width / 2)
    cy = height - _real(entry, "cy", where, default=height / 2)
    matrix = entry.get("transform_matrix")
    try:
        pose = torch.tensor(matrix, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise VultusError(f"{where}: transform_matrix is not a matrix of numbers") from error
    if pose.shape != (4, 4) or not bool(torch.isfinite(pose).all()):
        raise VultusError(f"{where}: transform_matrix is not a finite 4x4 matrix")
    rotation = pose[:3, :3]
    is_rigid = torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=pose.dtype), atol=1e-3)
    is_affine = torch.allclose(pose[3], pose.new_tensor([0, 0, 0, 1]), atol=1e-6)
    if not is_rigid or not is_affine or float(torch.linalg.det(rotation)) < 0:
        raise VultusError(f"{where}: transform_matrix is not a rigid camera-to-world pose")
    K = torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=pose.dtype)
    return Camera(opengl_camera_to_world_to_world_to_camera(pose), K, width, height)


def _frame(entry: dict[str, Any], where: str) -> Frame:
    paths = {key: entry.get(key) for key in ("file_path", "fg_mask_path", "flame_param_path")}
    for key, value in paths.items():
        if value is not None and not isinstance(value, str):
            raise VultusError(f"{where}: {key} is not a file name")
    if paths["file_path"] is None:
        raise VultusError(f"{where}: has no file_path")
    return Frame(
        timestep=_whole(entry, "timestep_index", where, 0, MAX_INDEX),
        camera_index=_whole(entry, "camera_index", where, 0, MAX_INDEX),
        camera=transforms_camera(entry, where).to(dtype=torch.float32),
        file_path=paths["file_path"],
        fg_mask_path=paths["fg_mask_path"],
        flame_param_path=paths["flame_param_path"],
    )


def _whole(entry: dict[str, Any], key: str, where: str, low: int, high: int) -> int:
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise VultusError(f"{where}: {key} = {str(value)[:40]} is not a whole number from {low} to {high}")
    return value


def _real(entry: dict[str, Any], key: str, where: str, default: float | None = None) -> float:
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e7:
        raise VultusError(f"{where}: {key} = {str(value)[:40]} is not a usable number")
    return float(value)


def _focal(entry: dict[str, Any], key: str, angle_key: str, side: int, where: str) -> float:
    if key in entry:
        focal = _real(entry, key, where)
    else:
        angle = _real(entry, angle_key, where)
        focal = side / (2 * math.tan(angle / 2)) if 0 < angle < math.pi else 0.0
    if not 1e-3 < focal < 1e7:
        raise VultusError(f"{where}: the focal length is {focal}")
    return focal
