"""Exports in the layout of GaussianAvatars and VHAP: transforms JSON, pictures, masks, FLAME parameters.

Source: the data-set format of GaussianAvatars (Qian et al. 2024) and the exporter of VHAP.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from vultus.captures.capture import Capture, SplitName
from vultus.captures.contents import FOREIGN_FPS, Contents, Shot
from vultus.captures.fields import MAX_INDEX
from vultus.captures.flame_params import FLAME_JOINTS, canonical_params, read_flame_params, write_flame_params
from vultus.captures.pictures import ImageFile
from vultus.captures.saving import WriteOptions, save_pictures, view_name
from vultus.captures.transforms import Frame, read_transforms, view_entry, write_transforms
from vultus.errors import VultusError
from vultus.files import safe_path
from vultus.heads import HeadModel
from vultus.motion import HeadParams, Motion
from vultus.progress import Progress

LAYOUT = "gaussian-avatars"
_SPLITS = ("train", "val", "test")


def is_gaussian_avatars(root: Path) -> bool:
    """Whether a folder is an export of GaussianAvatars or VHAP."""
    return (root / "transforms_train.json").is_file()


def read_gaussian_avatars(root: Path, head: HeadModel | None = None) -> Contents:
    """What an export holds. With `head`, a FLAME model, the parameters are fitted to its components and vertices.

    Raises:
        VultusError: malformed files, parameters without timestep 0, or a `head` that is no FLAME.
    """
    frames = read_frames(root)
    is_union = any((root / name).is_file() for name in ("sequences_trainval.txt", "sequences_test.txt"))
    motion, why = _motion(root, frames, is_union, head)
    return Contents(
        root=root,
        layout=LAYOUT,
        shots=shots_of(root, frames, is_union),
        motion=motion,
        head_name="" if motion is None else head.name if head is not None else "flame",
        head_fingerprint="" if motion is None else motion.params.model,
        camera_names=camera_names_of(frames),
        without_motion=why,
    )


def read_frames(root: Path) -> dict[str, list[Frame]]:
    """The frames of each split; a missing file is an empty split."""
    paths = {split: root / f"transforms_{split}.json" for split in _SPLITS}
    return {split: list(read_transforms(path)) if path.is_file() else [] for split, path in paths.items()}


def shots_of(root: Path, frames: dict[str, list[Frame]], is_union: bool) -> list[Shot]:
    """The pictures that frames name. Raises VultusError for paths that lead out of the capture."""
    shots = []
    for split, entries in frames.items():
        source = root / f"transforms_{split}.json"
        for frame in entries:
            image = _referenced(root, frame.file_path, source, is_union)
            if not image.suffix:
                image = image.with_suffix(".png")
            mask = None if frame.fg_mask_path is None else _referenced(root, frame.fg_mask_path, source, is_union)
            shots.append(
                Shot(
                    timestep=frame.timestep,
                    camera=frame.camera_index,
                    parameters=frame.camera,
                    picture=ImageFile(image),
                    mask=None if mask is None else ImageFile(mask),
                    named_by=source,
                    split=cast(SplitName, split),
                )
            )
    return shots


def camera_names_of(frames: dict[str, list[Frame]]) -> dict[int, str]:
    """Names of the cameras that have others than their numbers."""
    every = (frame for entries in frames.values() for frame in entries)
    return {
        frame.camera_index: frame.camera_id for frame in every if frame.camera_id not in ("", str(frame.camera_index))
    }


def _referenced(root: Path, name: str, source: Path, is_union: bool) -> Path:
    """A file inside the capture or, for a union of sequences, inside one of the sequences beside it."""
    parts = name.replace("\\", "/").split("/")
    if is_union and parts[0] == ".." and len(parts) > 2:
        sibling = safe_path(root.resolve().parent, parts[1], source=source)
        if (sibling / "canonical_flame_param.npz").is_file():
            return safe_path(sibling, "/".join(parts[2:]), source=source)
    return safe_path(root, name, source=source)


def _motion(
    root: Path, frames: dict[str, list[Frame]], is_union: bool, head: HeadModel | None
) -> tuple[Motion | None, str]:
    """The head parameters, or None and why there are none."""
    files: dict[int, Path] = {}
    for split in _SPLITS:
        source = root / f"transforms_{split}.json"
        for frame in frames[split]:
            if frame.flame_param_path is None:
                return None, f"timestep {frame.timestep} in {source.name} names no flame_param_path"
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
    motion = Motion(
        params=params,
        times=torch.arange(count) / FOREIGN_FPS,
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
    return motion, ""


def write_gaussian_avatars(capture: Capture, folder: Path, options: WriteOptions, progress: Progress) -> None:
    """Pictures over white, masks, FLAME parameters and transforms as VHAP exports them, into an empty folder.

    Timesteps with pictures are numbered without gaps. Head and cameras are moved together so that the head is at the
    origin on average, as the published exporter does.

    Raises:
        VultusError: the capture's parameters are not FLAME's, or scaled; a picture cannot be read.
    """
    params = capture.motion.params
    is_ours = capture.head_name.startswith("flame") and set(params.joints) <= set(FLAME_JOINTS)
    if not capture.has_motion or not is_ours:
        what = f"those of {capture.head_name}" if capture.has_motion else "none"
        raise VultusError(
            f"{capture.root}: this layout holds FLAME parameters, but the capture has {what}; "
            "track the footage with a FLAME model (--head), or choose another layout"
        )
    if not torch.allclose(params.scale, torch.ones(())):
        raise VultusError(f"{capture.root}: its head is scaled, for which this layout has no place")
    used = sorted({view.timestep for view in capture.views})
    numbers = {timestep: number for number, timestep in enumerate(used)}
    # Without the batch of shared tensors, each instant stands for itself.
    rows = {timestep: params[timestep] for timestep in used}
    center = torch.stack([row.translation for row in rows.values()]).double().mean(0)
    back = torch.eye(4, dtype=torch.float64)
    back[:3, 3] = -center
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in _SPLITS}
    for view in save_pictures(capture, folder, progress, masks="fg_masks/{}.png", numbers=numbers):
        number = numbers[view.timestep]
        name = view_name(view, number)
        splits["test" if view in capture.test else "val" if view in capture.val else "train"].append(
            view_entry(
                number,
                view.camera,
                capture.camera(view).to(dtype=torch.float64).moved(back),
                {"file_path": f"images/{name}.png", "fg_mask_path": f"fg_masks/{name}.png"},
                camera_id=capture.camera_name(view.camera),
                original=view.timestep,
                flame_param_path=f"flame_param/{number:05d}.npz",
            )
        )
    for timestep, row in rows.items():
        moved = replace(row, translation=(row.translation.double() - center).float())
        write_flame_params(folder / "flame_param" / f"{numbers[timestep]:05d}.npz", moved)
    write_flame_params(folder / "canonical_flame_param.npz", canonical_params(rows[used[0]]))
    write_transforms(folder, splits)
