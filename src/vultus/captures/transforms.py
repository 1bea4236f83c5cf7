"""Cameras in the transforms JSON of GaussianAvatars: OpenGL camera-to-world, principal point counted from the bottom.

Source: the data-set format of GaussianAvatars (Qian et al. 2024), itself an extension of Blender/NeRF transforms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from vultus.cameras import (
    Camera,
    opengl_camera_to_world_to_world_to_camera,
    world_to_camera_to_opengl_camera_to_world,
)
from vultus.captures.fields import MAX_INDEX, MAX_SIDE, real, rigid_pose, whole
from vultus.errors import VultusError
from vultus.files import read_json, write_json


@dataclass(frozen=True)
class Frame:
    """One entry of `frames`: indices, camera and the paths as they stand in the file; `camera_id` "" if it has none."""

    timestep: int
    camera_index: int
    camera: Camera
    file_path: str
    fg_mask_path: str | None
    flame_param_path: str | None
    camera_id: str = ""


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


def view_entry(
    timestep: int,
    camera: int,
    parameters: Camera,
    paths: Mapping[str, str],
    *,
    camera_id: str = "",
    original: int | None = None,
    flame_param_path: str | None = None,
) -> dict[str, Any]:
    """One entry of `frames`: a view with its `paths` (`file_path`, `fg_mask_path`); `original` is its number in the
    footage, where that is another one."""
    before = timestep if original is None else original
    entry = {
        "timestep_index": timestep,
        "timestep_index_original": before,
        "timestep_id": f"{before:05d}",
        "camera_index": camera,
        "camera_id": camera_id or str(camera),
        **frame_entry(parameters),
        **paths,
    }
    return entry if flame_param_path is None else {**entry, "flame_param_path": flame_param_path}


def write_transforms(folder: Path, splits: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """`transforms_{train,val,test}.json` of the entries of each split, and `transforms.json` of all."""
    for name, frames in splits.items():
        write_json(folder / f"transforms_{name}.json", _transforms(frames))
    every = sorted(
        (frame for frames in splits.values() for frame in frames),
        key=lambda frame: (frame["timestep_index"], frame["camera_index"]),
    )
    write_json(folder / "transforms.json", _transforms(every))


def _transforms(frames: Sequence[dict[str, Any]]) -> dict[str, Any]:
    shared = ("cx", "cy", "fl_x", "fl_y", "h", "w", "camera_angle_x", "camera_angle_y")
    return {
        **({key: frames[-1][key] for key in shared} if frames else {}),
        "timestep_indices": sorted({frame["timestep_index"] for frame in frames}),
        "camera_indices": sorted({frame["camera_index"] for frame in frames}),
        "frames": list(frames),
    }


def transforms_camera(entry: Mapping[str, Any], where: str) -> Camera:
    """The camera (float64) of one frame's entry. Missing focal lengths follow from the angles, a missing centre is the
    image's. Raises VultusError; `where` is for the message."""
    K, width, height = transforms_lens(entry, where)
    K[1, 2] = height - K[1, 2]
    pose = rigid_pose(entry.get("transform_matrix"), where, "transform_matrix", "camera-to-world")
    return Camera(opengl_camera_to_world_to_world_to_camera(pose), K, width, height)


def transforms_lens(entry: Mapping[str, Any], where: str) -> tuple[Float64[Tensor, "3 3"], int, int]:
    """Camera matrix, width and height as an entry has them: `cy` counts from the top, unless the layout says otherwise.

    Raises VultusError; `where` is for the message.
    """
    width, height = (whole(entry, key, where, 1, MAX_SIDE) for key in ("w", "h"))
    fx = _focal(entry, "fl_x", "camera_angle_x", width, where)
    # With square pixels, which the published readers assume, the vertical angle may be missing.
    fy = _focal(entry, "fl_y", "camera_angle_y", height, where) if {"fl_y", "camera_angle_y"} & entry.keys() else fx
    cx, cy = real(entry, "cx", where, default=width / 2), real(entry, "cy", where, default=height / 2)
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float64), width, height


def _frame(entry: dict[str, Any], where: str) -> Frame:
    paths = {key: entry.get(key) for key in ("file_path", "fg_mask_path", "flame_param_path")}
    for key, value in paths.items():
        if value is not None and not isinstance(value, str):
            raise VultusError(f"{where}: {key} is not a file name")
    if paths["file_path"] is None:
        raise VultusError(f"{where}: has no file_path")
    return Frame(
        timestep=whole(entry, "timestep_index", where, 0, MAX_INDEX),
        camera_index=whole(entry, "camera_index", where, 0, MAX_INDEX),
        camera=transforms_camera(entry, where).to(dtype=torch.float32),
        file_path=paths["file_path"],
        fg_mask_path=paths["fg_mask_path"],
        flame_param_path=paths["flame_param_path"],
        camera_id=str(entry.get("camera_id", ""))[:80],
    )


def _focal(entry: Mapping[str, Any], key: str, angle_key: str, side: int, where: str) -> float:
    if key in entry:
        focal = real(entry, key, where)
    else:
        angle = real(entry, angle_key, where)
        focal = side / (2 * math.tan(angle / 2)) if 0 < angle < math.pi else 0.0
    if not 1e-3 < focal < 1e7:
        raise VultusError(f"{where}: the focal length is {focal}")
    return focal
