"""Frames of the metrical tracker and of Pixel3DMM: one `NUMBER.frame` per picture, written by `torch.save`.

Both are dictionaries of NumPy arrays. `flame` has `exp (1,100)`, `shape (1,300)`, `jaw (1,6)`, `eyes (1,12)` (left,
right), `eyelids (1,2)`; rotations are the first two rows of their matrices. The metrical tracker keeps the head still
and moves the camera: `opencv` has `R (1,3,3)`, `t (1,3)`, `K (1,3,3)`, world to camera. Pixel3DMM moves the head about
the model's origin, `flame` having `neck (1,6)`, `R_rotation_matrix (1,3,3)` and `t (1,3)`, before a camera that stays,
`camera` with `R_base_0 (1,3,3)` and `t_base_0 (1,3)`, world to camera with OpenGL's axes. `img_size` is height, width.

Source: what the published trackers (Zielonka et al. 2022; Giebenhain et al. 2025) write; none was at hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vultus.captures.fields import MAX_SIDE, intrinsics, rigid_pose
from vultus.captures.flame_params import FLAME_JOINTS, N_EXPRESSION, N_SHAPE, fitted_expression, is_flame
from vultus.errors import VultusError
from vultus.files import read_pickle
from vultus.heads import HeadModel, SkinnedHead
from vultus.heads.flame import turned_about_origin
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rows_6d_to_matrix

_SUFFIX = ".frame"
_MAX_BYTES = 64 << 20
_MAX_FRAMES = 1_000_000
_MAX_VALUE = 1e4
_FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
"""From OpenCV's axes (y down, z forward) to y up, z towards the viewer, and back."""


@dataclass(frozen=True)
class TrackedFrame:
    """One frame. model_to_camera: of the posed model's vertices, with y up and the camera looking along −z (metres).
    K: pixels, None where the file has none in OpenCV's sense; size: width and height."""

    path: Path
    number: int
    shape: Float[Tensor, "S"]
    expression: Float[Tensor, "E"]
    lids: Float[Tensor, "2"]
    joints: Mapping[str, Float[Tensor, "3"]]
    model_to_camera: Float64[Tensor, "4 4"]
    K: Float64[Tensor, "3 3"] | None
    size: tuple[int, int]


def tracked_frame_files(folder: Path) -> list[Path]:
    """The frames of a tracker's output folder, or of its `checkpoint` folder, by number."""
    for place in (folder, folder / "checkpoint"):
        files = [file for file in place.glob(f"*{_SUFFIX}") if file.stem.isdecimal() and len(file.stem) < 9]
        if files:
            return sorted(files, key=lambda file: (int(file.stem), file.name))
    return []


def read_tracked_frame(path: Path) -> TrackedFrame:
    """Raises VultusError: unreadable, not a frame of either tracker, or with values that make no pose."""
    content = read_pickle(path, max_bytes=_MAX_BYTES)
    flame, camera, opencv = (
        content.get(key) if isinstance(content, dict) else None for key in ("flame", "camera", "opencv")
    )
    if not isinstance(flame, dict) or not isinstance(camera, dict):
        raise VultusError(f"{path}: is no frame of the metrical tracker or of Pixel3DMM (it has no flame and camera)")
    K = None
    if isinstance(opencv, dict):
        pose = _FLIP @ _pose(path, opencv, "R", "t")
        K = intrinsics(_matrix(path, opencv, "K"), str(path))
    elif "R_rotation_matrix" in flame:
        pose = _pose(path, camera, "R_base_0", "t_base_0") @ _pose(path, flame, "R_rotation_matrix", "t")
    else:
        raise VultusError(f"{path}: does not say where the head is (neither opencv nor R_rotation_matrix)")
    eyes = _vector(path, flame, "eyes", 12)
    rows = {"jaw": _vector(path, flame, "jaw", 6), "left_eye": eyes[:6], "right_eye": eyes[6:]}
    if "neck" in flame:
        rows["neck"] = _vector(path, flame, "neck", 6)
    return TrackedFrame(
        path=path,
        number=int(path.stem),
        shape=_vector(path, flame, "shape", N_SHAPE, fewer=True),
        expression=_vector(path, flame, "exp", N_EXPRESSION, fewer=True),
        lids=_vector(path, flame, "eyelids", 2) if "eyelids" in flame else torch.zeros(2),
        joints={name: _turn(path, name, value) for name, value in rows.items()},
        model_to_camera=pose,
        K=K,
        size=_size(path, content.get("img_size")),
    )


def tracked_params(frames: Sequence[TrackedFrame], head: HeadModel) -> HeadParams:
    """The frames' head parameters (batch T) for a FLAME model, before a camera at the origin that looks along −z.

    Identity is the mean over the frames: trackers refine it on the way. Eyelids are kept by models that have them.

    Raises:
        VultusError: no frames, too many, two of one number, or `head` is no FLAME.
    """
    if not isinstance(head, SkinnedHead) or not is_flame(head):
        where = frames[0].path if frames else "tracked frames"
        raise VultusError(f"{where}: was tracked with FLAME; it does not fit the head model {head.name}")
    if not 0 < len(frames) < _MAX_FRAMES:
        raise VultusError(f"{len(frames)} tracked frames make no motion")
    for frame, following in itertools.pairwise(frames):
        if frame.number == following.number:
            raise VultusError(f"{following.path}: is frame {frame.number} a second time")
        if len(frame.shape) != len(following.shape) or len(frame.expression) != len(following.expression):
            raise VultusError(f"{following.path}: has other numbers of coefficients than {frame.path.name}")
    poses = torch.stack([frame.model_to_camera for frame in frames])
    expression, lids = (torch.stack([getattr(frame, key) for frame in frames]) for key in ("expression", "lids"))
    shape = torch.stack([frame.shape for frame in frames]).mean(0)
    identity = shape.new_zeros(len(head.identity_names))
    identity[: len(shape)] = shape[: len(identity)]
    zero = torch.zeros(3)
    joints = {name: torch.stack([frame.joints.get(name, zero) for frame in frames]) for name in FLAME_JOINTS[1:]}
    params = HeadParams(
        model=head.fingerprint,
        identity=identity,
        expression=fitted_expression(head, expression, lids),
        joints={"root": matrix_to_axis_angle(poses[:, :3, :3]).float(), **joints},
        translation=poses[:, :3, 3].float(),
        scale=torch.ones(()),
    )
    return turned_about_origin(head, params)


def _vector(path: Path, group: Mapping[str, Any], key: str, size: int, *, fewer: bool = False) -> Tensor:
    value = group.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or not 0 < value.size <= size:
        raise VultusError(f"{path}: {key} does not hold {size} numbers")
    if not fewer and value.size != size:
        raise VultusError(f"{path}: {key} holds {value.size} numbers instead of {size}")
    if not np.isfinite(value).all() or np.abs(value).max() > _MAX_VALUE:
        raise VultusError(f"{path}: {key} holds values that are not finite or absurdly large")
    return torch.from_numpy(np.ascontiguousarray(value.reshape(-1), dtype=np.float32))


def _matrix(path: Path, group: Mapping[str, Any], key: str) -> np.ndarray:
    value = group.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or value.size != 9:
        raise VultusError(f"{path}: {key} is not a 3x3 matrix")
    return value.reshape(3, 3).astype(np.float64)


def _pose(path: Path, group: Mapping[str, Any], rotation: str, translation: str) -> Float64[Tensor, "4 4"]:
    moved = _vector(path, group, translation, 3).double().numpy()
    pose = rigid_pose(
        np.concatenate([_matrix(path, group, rotation), moved[:, None]], axis=1), str(path), rotation, "rigid"
    )
    # Optimised matrices are rotations to a few digits; what is left over would scale the head.
    u, _, v = torch.linalg.svd(pose[:3, :3])
    pose[:3, :3] = u @ v
    return pose


def _turn(path: Path, name: str, rows: Float[Tensor, "6"]) -> Float[Tensor, "3"]:
    matrix = rows_6d_to_matrix(rows.double())
    turn = matrix_to_axis_angle(matrix)
    if not bool(torch.isfinite(turn).all()) or not torch.allclose(axis_angle_to_matrix(turn), matrix, atol=1e-4):
        raise VultusError(f"{path}: the rotation of {name} is none")
    return turn.float()


def _size(path: Path, value: Any) -> tuple[int, int]:
    array = np.asarray(value) if isinstance(value, np.ndarray | list | tuple) else np.zeros(0)
    if array.dtype.kind not in "iuf" or array.size != 2 or not ((array >= 1) & (array <= MAX_SIDE)).all():
        raise VultusError(f"{path}: img_size is not a height and a width")
    height, width = (int(side) for side in array.reshape(-1))
    return width, height
