"""Opening captures: our own folders and exports in the layout of GaussianAvatars and VHAP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vultus.captures.capture import Capture, Landmarks, Source, View
from vultus.captures.flame_params import read_flame_params
from vultus.captures.motions import read_motion
from vultus.captures.transforms import MAX_INDEX, Frame, read_transforms
from vultus.errors import VultusError
from vultus.files import read_json, read_npz, safe_path
from vultus.heads import HeadModel
from vultus.motion import HeadParams, Motion

FORMAT, VERSION = "vultus-capture", 1
MAX_FPS = 1e5
_SPLITS = ("train", "val", "test")
_FOREIGN_FPS = 25.0


def open_capture(folder: str | Path, head: HeadModel | None = None) -> Capture:
    """Open a capture folder; pictures are read later, when they are asked for.

    A folder with `capture.json` is one of ours, a folder with `transforms_train.json` an export of GaussianAvatars or
    VHAP. With `head`, the parameters are checked against it and placed by name.

    Raises:
        VultusError: no such folder, not (or not completely) a capture, malformed or inconsistent files, missing
            pictures, or parameters of another head model.
    """
    try:
        return _open(Path(folder), head)
    except OSError as error:
        raise VultusError(f"{folder}: cannot be read: {error.strerror or error}") from error


def _open(root: Path, head: HeadModel | None) -> Capture:
    if not root.is_dir():
        raise VultusError(f"{root}: is not a folder")
    if (root / "capture.json").is_file():
        return _open_native(root, head)
    if (root / "transforms_train.json").is_file():
        return _open_export(root, head)
    if (root / "capture.partial.json").is_file():
        raise VultusError(f"{root}: is an unfinished capture; run the command that was making it again to complete it")
    raise VultusError(f"{root}: is not a capture (it has neither capture.json nor transforms_train.json)")


def _open_native(root: Path, head: HeadModel | None) -> Capture:
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
        raise VultusError(f"{path}: fps = {str(fps)[:40]} is not a frame rate")
    capture = _with_views(root, motion, {split: _frames(root, split) for split in _SPLITS}, is_union=False)
    return replace(
        capture,
        fps=float(fps),
        head_name=about_head["name"],
        head_fingerprint=about_head["fingerprint"],
        source=_source(path, about.get("source")),
        detections=_landmarks(root / "landmarks.npz") if (root / "landmarks.npz").is_file() else None,
    )


def _open_export(root: Path, head: HeadModel | None) -> Capture:
    frames = {split: _frames(root, split) for split in _SPLITS}
    is_union = any((root / name).is_file() for name in ("sequences_trainval.txt", "sequences_test.txt"))
    motion = _export_motion(root, frames, is_union, head)
    capture = _with_views(root, motion, frames, is_union)
    return replace(capture, head_name=head.name if head is not None else "flame", head_fingerprint=motion.params.model)


def _frames(root: Path, split: str) -> list[Frame]:
    path = root / f"transforms_{split}.json"
    return list(read_transforms(path)) if path.is_file() else []


def _with_views(root: Path, motion: Motion, frames: dict[str, list[Frame]], is_union: bool) -> Capture:
    views: dict[str, list[View]] = {split: [] for split in _SPLITS}
    cameras, missing = {}, []
    for split in _SPLITS:
        source = root / f"transforms_{split}.json"
        for frame in frames[split]:
            key = frame.timestep, frame.camera_index
            if key in cameras:
                raise VultusError(f"{source}: timestep {key[0]}, camera {key[1]} occurs twice")
            if frame.timestep >= len(motion):
                raise VultusError(
                    f"{source}: timestep {frame.timestep} has no head parameters ({len(motion)} instants)"
                )
            image = _referenced(root, frame.file_path, source, is_union)
            if not image.suffix:
                image = image.with_suffix(".png")
            mask = None if frame.fg_mask_path is None else _referenced(root, frame.fg_mask_path, source, is_union)
            missing += [file for file in (image, mask) if file is not None and not file.is_file()]
            cameras[key] = frame.camera
            views[split].append(View(*key, image, mask))
    if missing:
        raise VultusError(f"{missing[0]}: is missing, with {len(missing) - 1} other files; the capture is incomplete")
    if not cameras:
        raise VultusError(f"{root}: names no picture")
    return Capture(
        root=root,
        motion=motion,
        views=tuple(sorted(view for split in _SPLITS for view in views[split])),
        fps=_FOREIGN_FPS,
        head_name="",
        head_fingerprint="",
        source=None,
        cameras=cameras,
        val=frozenset(views["val"]),
        test=frozenset(views["test"]),
    )


def _referenced(root: Path, name: str, source: Path, is_union: bool) -> Path:
    """A file inside the capture or, for a union of sequences, inside one of the sequences beside it."""
    parts = name.replace("\\", "/").split("/")
    if is_union and parts[0] == ".." and len(parts) > 2:
        sibling = safe_path(root.resolve().parent, parts[1], source=source)
        if (sibling / "canonical_flame_param.npz").is_file():
            return safe_path(sibling, "/".join(parts[2:]), source=source)
    return safe_path(root, name, source=source)


def _export_motion(root: Path, frames: dict[str, list[Frame]], is_union: bool, head: HeadModel | None) -> Motion:
    files: dict[int, Path] = {}
    for split in _SPLITS:
        source = root / f"transforms_{split}.json"
        for frame in frames[split]:
            if frame.flame_param_path is None:
                raise VultusError(f"{source}: timestep {frame.timestep} names no flame_param_path")
            path = _referenced(root, frame.flame_param_path, source, is_union)
            if files.setdefault(frame.timestep, path) != path:
                raise VultusError(f"{source}: timestep {frame.timestep} has two parameter files")
    if not files:
        raise VultusError(f"{root}: names no picture")
    # The format numbers timesteps without gaps, and identity and offset are those of timestep 0.
    if 0 not in files:
        raise VultusError(f"{root}: has no timestep 0, whose parameters hold the person's shape")
    count = max(files) + 1
    if count > MAX_INDEX or count > 100 * len(files) + 1000:
        raise VultusError(f"{root}: timestep {count - 1} is out of proportion to its {len(files)} timesteps")
    model = head.fingerprint if head is not None else ""
    found = {timestep: read_flame_params(path, model, head) for timestep, path in sorted(files.items())}
    first = found[0]
    rows = [found.get(timestep, first) for timestep in range(count)]
    params = HeadParams(
        model=model,
        identity=first.identity,
        expression=torch.stack([row.expression for row in rows]),
        joints={name: torch.stack([row.joints[name] for row in rows]) for name in first.joints},
        translation=torch.stack([row.translation for row in rows]),
        scale=first.scale,
        offset=first.offset,
    )
    zero = first.map(torch.zeros_like)
    return Motion(
        params=params,
        times=torch.arange(count) / _FOREIGN_FPS,
        # The format has no neutral: FLAME's zero expression in this person's shape, where the head usually is.
        neutral=replace(
            zero,
            identity=first.identity,
            translation=params.translation.median(dim=0).values,
            scale=first.scale,
            offset=first.offset,
        ),
        valid=torch.tensor([timestep in found for timestep in range(count)]),
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
