"""FLAME tracks of whole sequences that are turned about the model's origin: CAP4D and the NeRSemble benchmark.

CAP4D's `fit.npz` (what FlowFace, and CAP4D's conversion of Pixel3DMM, write): `shape (S,)`, `expr (T,E)`, `rot`, `tra`,
`eye_rot (T,3)`, optional `neck_rot`, `jaw_rot (T,3)`, cameras `extr (C,4,4)` with `fx fy cx cy (C,1)`. The head is in
axes with y up and z towards the viewer; `extr` leads from there, y and z flipped, to OpenCV's camera. One rotation is
for both eyes, the last expression coefficient closes both eyes, `neck_rot` turns the bust under the head.

The benchmark's `flame2023_tracking*.npz`: `shape (1,300)`, `expression (T,100)`, `rotation (T,3)` (intrinsic XYZ Euler
angles) and the same as `rotation_matrices (T,3,3)`, `translation`, `jaw`, `neck (T,3)`, `eyes (T,6)`, `scale (1,1)`,
`frames (T,)`, in the world of the benchmark's cameras.

Source: what the published programs (Taubner et al. 2025; Kirschstein et al. 2025) read; no published file was at hand.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.captures.fields import rigid_pose
from vultus.captures.flame_params import N_EXPRESSION, N_SHAPE, fitted_expression, is_flame
from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import HeadModel, SkinnedHead
from vultus.heads.arkit import is_numbered
from vultus.heads.flame import rest_joints_over_time, turned_about_origin
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle

_MAX_ROWS = 1_000_000
_MAX_VALUE = 1e4
_CAP4D = {"rot", "tra", "expr", "shape", "eye_rot"}
_BENCHMARK = {"expression", "rotation", "translation", "jaw", "neck", "eyes"}


def is_cap4d_fit(names: Collection[str]) -> bool:
    """Whether an .npz with these arrays is a track of CAP4D."""
    return set(names) >= _CAP4D


def is_benchmark_tracking(names: Collection[str]) -> bool:
    """Whether an .npz with these arrays is a FLAME track of the NeRSemble benchmark."""
    return set(names) >= _BENCHMARK


def benchmark_tracking_file(sequence: Path) -> Path | None:
    """The newest FLAME track in a sequence's folder of the NeRSemble benchmark (`_v2` replaces the first)."""
    return max((sequence / "tracking").glob("flame2023_tracking*.npz"), default=None)


def read_cap4d_fit(path: Path, head: HeadModel) -> HeadParams:
    """CAP4D's parameters (batch T), before its first camera, at the origin and looking along −z.

    CAP4D's model is FLAME 2023 without a jaw joint; `head` has to be that one. The head itself is placed exactly; the
    bust is off by what the distance of root and neck joint makes of `neck_rot`. The coefficient that closes the eyes
    needs a model with eyelid components.

    Raises:
        VultusError: malformed, or `head` is no FLAME.
    """
    flame = _flame(path, head)
    arrays = read_npz(path)
    count = _count(path, arrays, "expr")
    expression = _rows(path, arrays, "expr", count, 2, N_EXPRESSION)
    turns = {key: _rows(path, arrays, key, count, 3, 3) for key in ("rot", "tra", "eye_rot")}
    turns |= {
        key: _rows(path, arrays, key, count, 3, 3) if key in arrays else torch.zeros(count, 3)
        for key in ("neck_rot", "jaw_rot")
    }
    camera = _first_camera(path, arrays)
    flip = torch.diag(camera.new_tensor([1.0, -1.0, -1.0]))
    to_camera, moved = flip @ camera[:3, :3] @ flip, flip @ camera[:3, 3]
    head_turn = to_camera @ axis_angle_to_matrix(turns["rot"].double())
    bust_turn = axis_angle_to_matrix(turns["neck_rot"].double())
    params = replace(
        flame.neutral(),
        identity=_identity(path, arrays, flame),
        expression=fitted_expression(flame, expression[:, :-1], expression[:, -1:].expand(-1, 2)),
        joints={
            "root": matrix_to_axis_angle(head_turn).float(),
            "neck": torch.zeros(count, 3),
            "jaw": turns["jaw_rot"],
            "left_eye": turns["eye_rot"],
            "right_eye": turns["eye_rot"],
        },
        translation=(turns["tra"].double() @ to_camera.T + moved).float(),
    )
    placed = turned_about_origin(flame, params)
    if not bool(turns["neck_rot"].any()):
        return placed
    # The bust's turn is the root joint's here, and the neck joint takes it back, so that the head does not move.
    joints = rest_joints_over_time(flame, placed).double()
    reach = (joints[:, 1] - joints[:, 0])[..., None]
    turned = head_turn @ bust_turn
    return replace(
        placed,
        joints={
            **placed.joints,
            "root": matrix_to_axis_angle(turned).float(),
            "neck": matrix_to_axis_angle(bust_turn.transpose(-1, -2)).float(),
        },
        translation=placed.translation + (head_turn @ reach - turned @ reach)[..., 0].float(),
    )


def read_benchmark_tracking(path: Path, head: HeadModel) -> HeadParams:
    """The benchmark's parameters (batch T) of FLAME 2023 in the world of its cameras. Raises like `read_cap4d_fit`."""
    flame = _flame(path, head)
    arrays = read_npz(path)
    count = _count(path, arrays, "expression")
    eyes = _rows(path, arrays, "eyes", count, 6, 6)
    scale = _rows(path, arrays, "scale", 1, 1, 1)[0, 0] if "scale" in arrays else torch.ones(())
    if not 1e-3 < float(scale) < 1e3:
        raise VultusError(f"{path}: scale = {float(scale):g} is no size of a head")
    params = replace(
        flame.neutral(),
        identity=_identity(path, arrays, flame),
        expression=fitted_expression(flame, _rows(path, arrays, "expression", count, 1, N_EXPRESSION)),
        joints={
            "root": matrix_to_axis_angle(_world_turns(path, arrays, count)),
            "neck": _rows(path, arrays, "neck", count, 3, 3),
            "jaw": _rows(path, arrays, "jaw", count, 3, 3),
            "left_eye": eyes[:, :3],
            "right_eye": eyes[:, 3:],
        },
        translation=_rows(path, arrays, "translation", count, 3, 3),
        scale=scale,
    )
    return turned_about_origin(flame, params)


def write_benchmark_tracking(path: Path, params: HeadParams, head: SkinnedHead) -> None:
    """Parameters (batch T) of a FLAME model as the benchmark has them. Eyelids and offsets have no place there.

    Raises:
        VultusError: the file cannot be written.
    """
    (count,) = params.batch_shape
    whole = replace(params, offset=None).expand(count)
    turns = axis_angle_to_matrix(whole.joint("root").double())
    # Their translation is ours without what turning about the root joint, not the origin, adds to it.
    shift = turned_about_origin(head, replace(whole, translation=torch.zeros(count, 3))).translation
    y = torch.asin(turns[:, 0, 2].clamp(-1, 1))
    x, z = (
        torch.atan2(-turns[:, one, two], turns[:, same, same]) for one, two, same in ((1, 2, 2), (0, 1, 0))
    )  # of R = X(x) Y(y) Z(z)
    arrays = {
        "shape": _cut(whole.identity[:1], N_SHAPE),
        "expression": _cut(whole.expression[:, : sum(map(is_numbered, head.expression_names))], N_EXPRESSION),
        "rotation": torch.stack([x, y, z], dim=-1),
        "rotation_matrices": turns,
        "translation": whole.translation - shift,
        "jaw": whole.joint("jaw"),
        "neck": whole.joint("neck"),
        "eyes": torch.cat([whole.joint("left_eye"), whole.joint("right_eye")], dim=-1),
        "scale": whole.scale[:1, None],
        "frames": torch.arange(count),
    }
    write_npz(path, **{key: value.detach().cpu().numpy() for key, value in arrays.items()})


def _cut(values: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(values[..., :size], (0, max(0, size - values.shape[-1])))


def _world_turns(path: Path, arrays: Mapping[str, np.ndarray], count: int) -> Float[Tensor, "T 3 3"]:
    if "rotation_matrices" not in arrays:
        x, y, z = _rows(path, arrays, "rotation", count, 3, 3).unbind(-1)
        zero = torch.zeros_like(x)
        axes = [(x, zero, zero), (zero, y, zero), (zero, zero, z)]
        one, two, three = (axis_angle_to_matrix(torch.stack(axis, dim=-1)) for axis in axes)
        return one @ two @ three
    value = arrays["rotation_matrices"]
    if value.shape != (count, 3, 3):
        raise VultusError(f"{path}: rotation_matrices has the shape {value.shape} instead of {(count, 3, 3)}")
    flat = _rows(path, {"rotation_matrices": value.reshape(count, 9)}, "rotation_matrices", count, 9, 9)
    turns = flat.reshape(count, 3, 3)
    if not torch.allclose(turns @ turns.transpose(-1, -2), torch.eye(3), atol=1e-3) or not bool(
        (torch.linalg.det(turns) > 0).all()
    ):
        raise VultusError(f"{path}: rotation_matrices are not rotations")
    return turns


def _flame(path: Path, head: HeadModel) -> SkinnedHead:
    if not isinstance(head, SkinnedHead) or not is_flame(head):
        raise VultusError(f"{path}: was tracked with FLAME; it does not fit the head model {head.name}")
    return head


def _count(path: Path, arrays: Mapping[str, np.ndarray], key: str) -> int:
    value = arrays.get(key)
    if value is None or value.ndim != 2 or not 0 < len(value) < _MAX_ROWS:
        raise VultusError(f"{path}: {key} does not hold one row per frame")
    return len(value)


def _identity(path: Path, arrays: Mapping[str, np.ndarray], head: SkinnedHead) -> Float[Tensor, "S"]:
    shape = _rows(path, {"shape": arrays.get("shape", np.zeros(0)).reshape(1, -1)}, "shape", 1, 1, N_SHAPE)[0]
    identity = shape.new_zeros(len(head.identity_names))
    identity[: len(shape)] = shape[: len(identity)]
    return identity


def _rows(
    path: Path, arrays: Mapping[str, np.ndarray], key: str, count: int, fewest: int, most: int
) -> Float[Tensor, "T D"]:
    value = arrays.get(key)
    if value is None or value.dtype.kind not in "iuf" or value.ndim != 2 or len(value) != count:
        shape = "nothing" if value is None else f"{value.dtype} {value.shape}"
        raise VultusError(f"{path}: {key} holds {shape} instead of {count} rows of numbers")
    if not fewest <= value.shape[1] <= most:
        raise VultusError(f"{path}: {key} has {value.shape[1]} numbers per frame; {most} were expected")
    if not np.isfinite(value).all() or np.abs(value).max(initial=0) > _MAX_VALUE:
        raise VultusError(f"{path}: {key} holds values that are not finite or absurdly large")
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))


def _first_camera(path: Path, arrays: Mapping[str, np.ndarray]) -> Tensor:
    value = arrays.get("extr")
    if value is None:
        return torch.eye(4, dtype=torch.float64)
    if value.dtype.kind not in "iuf" or value.ndim != 3 or len(value) == 0:
        raise VultusError(f"{path}: extr holds no poses of cameras")
    return rigid_pose(value[0].astype(np.float64), str(path), "extr", "world-to-camera")
