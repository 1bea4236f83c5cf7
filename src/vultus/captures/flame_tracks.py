"""What other trackers find of a FLAME head over time: one door for all, and VHAP, GaussianAvatars, DECA, EMOCA."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.captures.flame_fits import (
    benchmark_tracking_file,
    is_benchmark_tracking,
    is_cap4d_fit,
    read_benchmark_tracking,
    read_cap4d_fit,
)
from vultus.captures.flame_params import (
    N_EXPRESSION,
    N_SHAPE,
    fitted_expression,
    is_flame,
    read_flame_params,
    read_flame_sequence,
)
from vultus.captures.tracker_frames import read_tracked_frame, tracked_frame_files, tracked_params
from vultus.errors import VultusError
from vultus.files import npz_names, read_npy, read_npz, read_pickle
from vultus.heads import HeadModel
from vultus.motion import HeadParams

_VHAP_EYE = (0.0, 0.0, 1.0)
"""Where VHAP puts the camera of footage whose focal length it estimates; the head moves before it."""
_CODES = {"shape": ("shape", "shapecode"), "exp": ("exp", "expcode"), "pose": ("pose", "posecode")}
_MOST = {"shape": N_SHAPE, "exp": N_EXPRESSION, "pose": 6}
_MAX_ROWS = 1_000_000
_MAX_VALUE = 1e4


@dataclass(frozen=True)
class FlameTrack:
    """params: batch T. numbers: of the frames in the footage, None where they are 0, 1, 2 ... eye: where the camera
    stood (metres) that looks along −z; None where that is not known or means nothing."""

    params: HeadParams
    numbers: Int[Tensor, "T"] | None = None
    eye: Float[Tensor, "3"] | None = None


def is_flame_sequence(names: Collection[str]) -> bool:
    """Whether an .npz with these arrays is a sequence of VHAP or of a trained GaussianAvatars avatar."""
    return {"expr", "jaw_pose", "rotation", "translation"} <= set(names)


def is_flame_codes(names: Collection[str]) -> bool:
    """Whether these are the codes of DECA or EMOCA."""
    return all(any(name in names for name in spellings) for spellings in _CODES.values())


def is_flame_track(names: Collection[str]) -> bool:
    """Whether an .npz with these arrays is a track that `read_flame_track` knows."""
    return any(is_one(names) for is_one in (is_flame_sequence, is_flame_codes, is_cap4d_fit, is_benchmark_tracking))


def is_track_folder(folder: Path) -> bool:
    """Whether a folder holds EMOCA's folders of codes, FLAME parameters of one timestep per file, the frames of the
    metrical tracker or of Pixel3DMM, or the tracking of the NeRSemble benchmark."""
    kinds = (_code_folders, _timestep_files, tracked_frame_files, benchmark_tracking_file)
    return any(bool(kind(folder)) for kind in kinds)


def read_track_folder(folder: Path, head: HeadModel) -> FlameTrack:
    """EMOCA's codes, one folder of .npy files per face in the order of their names; `00000.npz`, `00001.npz` ... of
    FLAME parameters; or `00000.frame` ... of the metrical tracker or of Pixel3DMM, in the folder or in its
    `checkpoint`; or `tracking/flame2023_tracking*.npz` of the NeRSemble benchmark. Raises VultusError like
    `read_flame_codes`."""
    if frames := tracked_frame_files(folder):
        return _from_frames(frames, head)
    if (tracking := benchmark_tracking_file(folder)) is not None:
        return FlameTrack(read_benchmark_tracking(tracking, head))
    folders = _code_folders(folder)
    if folders:
        rows = [{key: read_npy(place / f"{key}.npy") for key in _CODES} for place in folders]
        stacked: dict[str, Any] = {}
        for key in _CODES:
            sizes = {row[key].size for row in rows}
            if len(sizes) != 1 or any(row[key].dtype.kind not in "iuf" for row in rows):
                raise VultusError(f"{folder}: its files {key}.npy differ in size or are not numbers")
            stacked[key] = np.stack([row[key].reshape(-1) for row in rows])
        return _from_codes(folder, stacked, head)
    files = _timestep_files(folder)
    if not files:
        raise VultusError(f"{folder}: holds neither codes nor FLAME parameters")
    frames = [read_flame_params(file, head.fingerprint, head) for file in files]
    first = frames[0]
    params = HeadParams(
        model=first.model,
        identity=first.identity,
        expression=torch.stack([frame.expression for frame in frames]),
        joints={name: torch.stack([frame.joints[name] for frame in frames]) for name in first.joints},
        translation=torch.stack([frame.translation for frame in frames]),
        scale=first.scale,
        offset=first.offset,
    )
    return FlameTrack(params, torch.tensor([int(file.stem) for file in files]))


def read_flame_track(path: Path, head: HeadModel) -> FlameTrack:
    """A file of what another program tracked, for a FLAME model: `tracked_flame_params*.npz` of VHAP, `flame_param.npz`
    of a trained GaussianAvatars avatar, codes of DECA or EMOCA (.npz or a pickled dictionary), `fit.npz` of CAP4D,
    `flame2023_tracking*.npz` of the NeRSemble benchmark, one `.frame` of the metrical tracker or of Pixel3DMM.

    Raises:
        VultusError: none of these, malformed, or `head` is no FLAME.
    """
    if path.suffix.lower() == ".frame":
        return _from_frames([path], head)
    if path.suffix.lower() != ".npz":
        return read_flame_codes(path, head)
    names = npz_names(path)
    if is_flame_sequence(names):
        params, numbers = read_flame_sequence(path, head.fingerprint, head)
        return FlameTrack(params, numbers, torch.tensor(_VHAP_EYE) if "focal_length" in names else None)
    if is_cap4d_fit(names):
        return FlameTrack(read_cap4d_fit(path, head), eye=torch.zeros(3))
    if is_benchmark_tracking(names):
        return FlameTrack(read_benchmark_tracking(path, head))
    return read_flame_codes(path, head)


def _from_frames(files: list[Path], head: HeadModel) -> FlameTrack:
    frames = [read_tracked_frame(file) for file in files]
    return FlameTrack(
        tracked_params(frames, head), torch.tensor([frame.number for frame in frames]), eye=torch.zeros(3)
    )


def read_flame_codes(path: Path, head: HeadModel) -> FlameTrack:
    """Codes of DECA or EMOCA as an .npz, or as a pickled dictionary of arrays: `shape`, `exp`, `pose` (or `shapecode`,
    `expcode`, `posecode`), one row per frame.

    They are FLAME 2020's; `head` has to be that model, which the file does not say. `pose` is root and jaw; neck and
    eyes stay straight. Identity is the mean over the frames. The camera belongs to a crop that follows the face, so
    that it says nothing about where the head is: it stays in place.

    Raises:
        VultusError: no such codes, of other sizes, or with values that are not finite; or `head` is no FLAME.
    """
    arrays: Any = read_npz(path) if path.suffix.lower() == ".npz" else read_pickle(path)
    if not isinstance(arrays, Mapping) or not is_flame_codes([str(name) for name in arrays]):
        raise VultusError(f"{path}: holds no codes shape, exp and pose of DECA or EMOCA")
    found = {key: next(arrays[name] for name in names if name in arrays) for key, names in _CODES.items()}
    return _from_codes(path, found, head)


def _from_codes(path: Path, codes: Mapping[str, Any], head: HeadModel) -> FlameTrack:
    if not is_flame(head):
        raise VultusError(f"{path}: codes of DECA or EMOCA are FLAME's; they do not fit the head model {head.name}")
    rows = {key: _rows(path, key, codes[key]) for key in _CODES}
    count = len(rows["exp"])
    if not 0 < count < _MAX_ROWS or len(rows["pose"]) != count or len(rows["shape"]) not in (1, count):
        sizes = ", ".join(f"{key} {len(values)}" for key, values in rows.items())
        raise VultusError(f"{path}: its rows do not belong together ({sizes})")
    pose = rows["pose"]
    zero = torch.zeros(count, 3)
    params = HeadParams(
        model=head.fingerprint,
        identity=_padded(rows["shape"].mean(0), len(head.identity_names)),
        expression=fitted_expression(head, rows["exp"]),
        joints={"root": pose[:, :3], "neck": zero, "jaw": pose[:, 3:], "left_eye": zero, "right_eye": zero},
        translation=zero,
        scale=torch.ones(()),
    )
    return FlameTrack(params)


def _rows(path: Path, key: str, value: Any) -> Float[Tensor, "T D"]:
    array = np.asarray(value) if isinstance(value, np.ndarray | list | tuple) else None
    if array is None or array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        raise VultusError(f"{path}: {key} is not an array of numbers")
    array = array[None] if array.ndim == 1 else array
    most = _MOST[key]
    if not 0 < array.shape[1] <= most or (key == "pose" and array.shape[1] != most):
        raise VultusError(f"{path}: {key} has {array.shape[1]} numbers per frame; {most} were expected")
    if not np.isfinite(array).all() or np.abs(array).max(initial=0) > _MAX_VALUE:
        raise VultusError(f"{path}: {key} holds values that are not finite or absurdly large")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _padded(values: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(values[..., :size], (0, max(0, size - values.shape[-1])))


def _code_folders(folder: Path) -> list[Path]:
    places = [folder, *sorted(place for place in folder.iterdir() if place.is_dir())]
    return [place for place in places if all((place / f"{key}.npy").is_file() for key in _CODES)]


def _timestep_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.npz") if file.stem.isdecimal() and len(file.stem) < 9)
