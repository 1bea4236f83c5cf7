"""Reading our own capture folders: `capture.json`, `motion.npz`, transforms and landmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vultus.captures.capture import Landmarks, Source
from vultus.captures.contents import Contents
from vultus.captures.gaussian_avatars import camera_names_of, read_frames, shots_of
from vultus.captures.motions import read_motion
from vultus.errors import VultusError
from vultus.files import read_json, read_npz
from vultus.heads import HeadModel

FORMAT, VERSION = "vultus-capture", 1
MAX_FPS = 1e5
LAYOUT = "vultus"


def is_native(root: Path) -> bool:
    """Whether a folder is a capture of ours, finished or not."""
    return (root / "capture.json").is_file() or (root / "capture.partial.json").is_file()


def read_native(root: Path, head: HeadModel | None = None) -> Contents:
    """What a capture folder of ours holds; its parameters are checked against `head` and placed by name.

    Raises:
        VultusError: unfinished, malformed, or with parameters of another head model.
    """
    if not (root / "capture.json").is_file():
        raise VultusError(f"{root}: is an unfinished capture; run the command that was making it again to complete it")
    path = root / "capture.json"
    about = read_json(path)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise VultusError(f"{path}: is not the description of a capture")
    if not isinstance(about.get("version"), int) or about["version"] > VERSION:
        raise VultusError(f"{path}: was written by a newer version of Vultus; update to read it")
    about_head = about.get("head")
    if not isinstance(about_head, dict) or not all(isinstance(about_head.get(k), str) for k in ("name", "fingerprint")):
        raise VultusError(f"{path}: does not say which head model its parameters belong to")
    motion = read_motion(root / "motion.npz", head)
    if motion.params.model != about_head["fingerprint"]:
        raise VultusError(
            f"{root}: capture.json and motion.npz name different head models; they are not of one capture"
        )
    fps = about.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < MAX_FPS:
        raise VultusError(f"{path}: fps = {repr(fps)[:40]} is not a frame rate")
    frames = read_frames(root)
    return Contents(
        root=root,
        layout=LAYOUT,
        shots=shots_of(root, frames, is_union=False),
        motion=motion,
        fps=float(fps),
        head_name=about_head["name"],
        head_fingerprint=about_head["fingerprint"],
        source=_source(path, about.get("source")),
        detections=_landmarks(root / "landmarks.npz") if (root / "landmarks.npz").is_file() else None,
        camera_names=camera_names_of(frames),
    )


def _source(path: Path, value: Any) -> Source | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("name", "sha256")):
        raise VultusError(f"{path}: its source has no name and sha256")
    return Source(value["name"], value["sha256"])


def _landmarks(path: Path) -> Landmarks:
    arrays = read_npz(path)
    missing = [key for key in ("set", "timestep", "camera", "points", "weights") if key not in arrays]
    if missing:
        raise VultusError(f"{path}: has no {missing[0]!r}")
    timestep, camera, points, weights = (arrays[key] for key in ("timestep", "camera", "points", "weights"))
    if timestep.dtype.kind not in "iu" or camera.dtype.kind not in "iu" or arrays["set"].shape != ():
        raise VultusError(f"{path}: is malformed")
    if points.ndim != 3 or points.shape[2] != 2 or weights.shape != points.shape[:2]:
        raise VultusError(f"{path}: points {points.shape} and weights {weights.shape} do not fit together")
    if timestep.shape != points.shape[:1] or camera.shape != points.shape[:1]:
        raise VultusError(f"{path}: the lists of timesteps and cameras do not fit its {points.shape[0]} rows")
    if points.dtype.kind not in "iuf" or weights.dtype.kind not in "iuf":
        raise VultusError(f"{path}: points or weights are not numbers")
    if not np.isfinite(points).all() or not np.isfinite(weights).all() or (weights < 0).any():
        raise VultusError(f"{path}: holds points or weights that are not finite or negative")
    rows = {(int(t), int(c)): row for row, (t, c) in enumerate(zip(timestep, camera, strict=True))}
    if len(rows) != len(timestep):
        raise VultusError(f"{path}: holds two rows for one view")
    return Landmarks(
        str(arrays["set"]),
        rows,
        torch.from_numpy(points.astype(np.float32)),
        torch.from_numpy(weights.astype(np.float32)),
    )
