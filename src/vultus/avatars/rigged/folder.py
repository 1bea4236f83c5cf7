"""The folder of a rigged avatar: avatar.json, gaussians.ply (raw local values), avatar.safetensors, motion.npz."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from vultus import __version__
from vultus.avatars.folders import (
    check_replaceable,
    finite_tensor,
    head_entry,
    labels_entry,
    person_tensors,
    read_head,
    read_labels,
    read_raster,
    read_rest,
    read_view,
)
from vultus.avatars.rigged.model import LocalSplats, RiggedAvatar, ShFrame
from vultus.avatars.rigged.posture import Posture
from vultus.captures import read_motion, write_motion
from vultus.errors import VultusError
from vultus.files import atomic_folder, read_tensors, write_json, write_tensors
from vultus.heads.model import HeadModel
from vultus.splats import read_ply, write_ply
from vultus.splats.formats.ply import StoredSplats

_FORMAT = 1


def save_rigged(avatar: RiggedAvatar, folder: str | Path) -> None:
    """Write an avatar folder, replacing an existing one atomically.

    Raises:
        VultusError: the folder cannot be written, or is there and neither empty nor an avatar.
    """
    with atomic_folder(folder, check_replaceable) as partial:
        write_ply(partial / "gaussians.ply", stored_splats(avatar.splats()))
        tensors = person_tensors(avatar.rest, avatar.view)
        if avatar.posture is not None:
            tensors |= {f"posture.{name}": value for name, value in vars(avatar.posture).items()}
        write_tensors(partial / "avatar.safetensors", tensors)
        if avatar.motion is not None:
            write_motion(partial / "motion.npz", avatar.motion, avatar.head)
        description = {
            "kind": avatar.kind,
            "format": _FORMAT,
            "vultus": __version__,
            "head": head_entry(avatar.head),
            "bound": avatar.binding is not None,
            "largest": avatar.largest,
            "sh_frame": avatar.sh_frame,
            "raster": dataclasses.asdict(avatar.raster),
            "view": {"width": avatar.view.width, "height": avatar.view.height},
            **labels_entry(avatar.labels),
        }
        write_json(partial / "avatar.json", description)


def load_rigged(folder: Path, description: Mapping[str, Any], head: HeadModel | None = None) -> RiggedAvatar:
    """Read an avatar folder whose avatar.json is `description`. See `vultus.avatars.load`."""
    where = folder / "avatar.json"
    if description.get("format") != _FORMAT:
        raise VultusError(f"{where}: format {description.get('format')!r} is not one this version of Vultus reads")
    head = read_head(where, description.get("head"), head)
    splats = local_splats(folder / "gaussians.ply")
    if bool(description.get("bound")) != (splats.binding is not None):
        raise VultusError(f"{folder / 'gaussians.ply'}: disagrees with avatar.json about being bound to a head")
    if splats.binding is not None and int(splats.binding.max()) >= head.faces.shape[0]:
        raise VultusError(
            f"{folder / 'gaussians.ply'}: a Gaussian is bound to triangle {int(splats.binding.max())}, but the head "
            f"model {head.name} has {head.faces.shape[0]}; the file belongs to another head model"
        )
    tensors = read_tensors(folder / "avatar.safetensors")
    largest = description.get("largest")
    if largest is not None and not (isinstance(largest, int | float) and 0 < largest < math.inf):
        raise VultusError(f"{where}: largest is {largest!r}, not a length")
    sh_frame = description.get("sh_frame", "world")
    if sh_frame not in get_args(ShFrame):
        raise VultusError(f"{where}: sh_frame is {sh_frame!r}, which is none of {', '.join(get_args(ShFrame))}")
    motion = folder / "motion.npz"
    return RiggedAvatar(
        head,
        read_rest(folder / "avatar.safetensors", tensors, head),
        read_view(folder, tensors, description.get("view")),
        splats,
        raster=read_raster(where, description.get("raster")),
        motion=read_motion(motion, head) if motion.is_file() else None,
        largest=None if largest is None else float(largest),
        posture=_posture(folder / "avatar.safetensors", tensors),
        sh_frame=sh_frame,
        labels=read_labels(where, description),
    )


def stored_splats(splats: LocalSplats) -> StoredSplats:
    """Raw values in the form of a .ply file."""

    def array(tensor: Tensor) -> np.ndarray:
        return tensor.detach().float().cpu().numpy()

    return StoredSplats(
        xyz=array(splats.means),
        f_dc=array(splats.sh0),
        f_rest=array(splats.sh_rest),
        opacity=array(splats.opacities)[:, None],
        scaling=array(splats.log_scales),
        rotation=array(splats.rotations),
        binding=None if splats.binding is None else splats.binding.cpu().numpy(),
    )


def local_splats(path: str | Path) -> LocalSplats:
    """Raw values of a .ply file, ours or a published GaussianAvatars one. Raises VultusError if it cannot be read."""
    stored = read_ply(path)
    if len(stored) == 0:
        raise VultusError(f"{path}: holds no Gaussians")
    return LocalSplats(
        means=torch.from_numpy(stored.xyz),
        log_scales=torch.from_numpy(stored.scaling),
        rotations=torch.from_numpy(stored.rotation),
        opacities=torch.from_numpy(np.ascontiguousarray(stored.opacity[:, 0])),
        sh0=torch.from_numpy(stored.f_dc),
        sh_rest=torch.from_numpy(stored.f_rest),
        binding=None if stored.binding is None else torch.from_numpy(stored.binding.astype(np.int64)),
    )


def _posture(path: Path, tensors: Mapping[str, Tensor]) -> Posture | None:
    if not any(name.startswith("posture.") for name in tensors):
        return None
    shapes = {"home": (3,), "upright": (3,), "axes": (2, 3), "low": (9,), "high": (9,), "law": (6, 31)}
    return Posture(**{name: finite_tensor(path, tensors, f"posture.{name}", shape) for name, shape in shapes.items()})
