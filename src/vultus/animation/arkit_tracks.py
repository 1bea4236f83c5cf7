"""ARKit weights over time in the files of other programs: LAM's driving JSON, MediaPipe's scores."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import torch

from vultus.animation.arkit_motion import ArkitTake
from vultus.errors import VultusError
from vultus.files import read_json, read_npy
from vultus.heads.arkit import ARKIT_NAMES, arkit_name

MEDIAPIPE_NAMES: tuple[str, ...] = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""The order of MediaPipe's 52 scores: the first is no shape, and ARKit's tongueOut is missing."""
_MAX_FRAMES = 1_000_000


def read_arkit_json(path: str | Path) -> ArkitTake:
    """LAM's driving file: `names`, and `frames`, each with `weights` in that order and a `time` in seconds.

    Its `rotation` and `head_pose` are not used: what their numbers mean is not documented.

    Raises:
        VultusError: unreadable, other keys, names that are not ARKit's, or numbers that make no recording.
    """
    path = Path(path)
    content = read_json(path)
    names = content.get("names") if isinstance(content, dict) else None
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(names, list) or not isinstance(frames, list) or not 0 < len(frames) < _MAX_FRAMES:
        raise VultusError(f'{path}: is not a recording of ARKit weights (it has no lists "names" and "frames")')
    columns = [arkit_name(name) if isinstance(name, str) else None for name in names]
    known = [name for name in columns if name is not None]
    if len(known) < 10 or len(set(known)) != len(known):
        raise VultusError(f"{path}: {len(set(known))} of its {len(names)} names are ARKit's face shapes")
    table, times = np.zeros((len(frames), len(names)), np.float32), []
    for row, frame in enumerate(frames):
        weights = frame.get("weights") if isinstance(frame, dict) else None
        time = frame.get("time") if isinstance(frame, dict) else None
        if not isinstance(weights, list) or len(weights) != len(names) or not all(map(_is_number, weights)):
            raise VultusError(f"{path}: frame {row} has not one weight for each of the {len(names)} names")
        if not _is_number(time):
            raise VultusError(f"{path}: frame {row} has no time in seconds")
        table[row] = weights
        times.append(float(time))  # pyright: ignore[reportArgumentType]
    if any(after <= before for before, after in itertools.pairwise(times)):
        raise VultusError(f"{path}: its times do not increase")
    return _take(table, columns, torch.tensor(times, dtype=torch.float64))


def read_mediapipe_scores(path: str | Path, *, fps: float = 30.0) -> ArkitTake:
    """An .npy of MediaPipe's blendshape scores `[T, 52]` in its own order (`MEDIAPIPE_NAMES`), `fps` rows per second.

    Raises:
        VultusError: unreadable, another shape, or numbers that are not finite.
    """
    path = Path(path)
    scores = read_npy(path)
    if scores.ndim != 2 or scores.shape[1] != len(MEDIAPIPE_NAMES) or not 0 < len(scores) < _MAX_FRAMES:
        raise VultusError(f"{path}: has the shape {scores.shape}; MediaPipe's scores are [T, {len(MEDIAPIPE_NAMES)}]")
    if scores.dtype.kind not in "iuf" or not np.isfinite(scores).all():
        raise VultusError(f"{path}: holds values that are not finite numbers")
    times = torch.arange(len(scores), dtype=torch.float64) / fps
    return _take(scores.astype(np.float32), [arkit_name(name) for name in MEDIAPIPE_NAMES], times)


def _take(table: np.ndarray, columns: list[str | None], times: torch.Tensor) -> ArkitTake:
    weights = torch.zeros(len(table), len(ARKIT_NAMES))
    for column, name in enumerate(columns):
        if name is not None:
            weights[:, ARKIT_NAMES.index(name)] = torch.from_numpy(table[:, column])
    valid = torch.ones(len(table), dtype=torch.bool)
    return ArkitTake((times - times[0]).float(), weights.clamp(0, 1), torch.zeros(len(table), 3), valid)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e6
