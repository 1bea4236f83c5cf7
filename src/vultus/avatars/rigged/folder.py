"""The folder of a rigged avatar: avatar.json, gaussians.ply (raw local values), avatar.safetensors, motion.npz."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vultus import __version__
from vultus.avatars.rigged.model import Labels, LocalSplats, RiggedAvatar
from vultus.avatars.rigged.posture import Posture
from vultus.cameras import Camera
from vultus.captures import read_motion, write_motion
from vultus.errors import VultusError
from vultus.files import atomic_folder, read_tensors, write_json, write_tensors
from vultus.heads.load import head_made_with
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams
from vultus.splats import RasterSettings, read_ply, write_ply
from vultus.splats.formats.ply import StoredSplats

_FORMAT = 1


def save_rigged(avatar: RiggedAvatar, folder: str | Path) -> None:
    """Write an avatar folder, replacing an existing one atomically.

    Raises:
        VultusError: the folder cannot be written, or is there and neither empty nor an avatar.
    """
    with atomic_folder(folder, check_replaceable) as partial:
        write_ply(partial / "gaussians.ply", stored_splats(avatar.splats()))
        tensors = {
            "view.K": avatar.view.K,
            "view.world_to_camera": avatar.view.world_to_camera,
            "rest.identity": avatar.rest.identity,
            "rest.expression": avatar.rest.expression,
            "rest.translation": avatar.rest.translation,
            "rest.scale": avatar.rest.scale,
            **{f"rest.joint.{name}": value for name, value in avatar.rest.joints.items()},
        }
        if avatar.rest.offset is not None:
            tensors["rest.offset"] = avatar.rest.offset
        if avatar.posture is not None:
            tensors |= {f"posture.{name}": value for name, value in vars(avatar.posture).items()}
        write_tensors(partial / "avatar.safetensors", tensors)
        if avatar.motion is not None:
            write_motion(partial / "motion.npz", avatar.motion, avatar.head)
        description = {
            "kind": avatar.kind,
            "format": _FORMAT,
            "vultus": __version__,
            "head": {
                "name": avatar.head.name,
                "fingerprint": avatar.head.fingerprint,
                "license": avatar.head.license,
            },
            "bound": avatar.binding is not None,
            "largest": avatar.largest,
            "raster": dataclasses.asdict(avatar.raster),
            "view": {"width": avatar.view.width, "height": avatar.view.height},
            "provenance": dict(avatar.labels.provenance),
            "consent": avatar.labels.consent,
            "license": avatar.labels.license,
        }
        write_json(partial / "avatar.json", description)


def check_replaceable(folder: Path) -> None:
    """Raise VultusError if `folder` is there and saving an avatar in its place would delete something else."""
    if folder.is_dir() and not (folder / "avatar.json").is_file() and any(folder.iterdir()):
        raise VultusError(
            f"{folder}: is not empty and holds no avatar (no avatar.json); its files would be lost. "
            "Choose another folder, or move them away"
        )


def load_rigged(folder: Path, description: Mapping[str, Any], head: HeadModel | None = None) -> RiggedAvatar:
    """Read an avatar folder whose avatar.json is `description`. See `vultus.avatars.load`."""
    where = folder / "avatar.json"
    if description.get("format") != _FORMAT:
        raise VultusError(f"{where}: format {description.get('format')!r} is not one this version of Vultus reads")
    head = _head(where, description.get("head"), head)
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
    motion = folder / "motion.npz"
    return RiggedAvatar(
        head,
        _rest(folder / "avatar.safetensors", tensors, head),
        _view(folder, tensors, description.get("view")),
        splats,
        raster=_raster(where, description.get("raster")),
        motion=read_motion(motion, head) if motion.is_file() else None,
        largest=None if largest is None else float(largest),
        posture=_posture(folder / "avatar.safetensors", tensors),
        labels=Labels(
            provenance=_mapping(where, description, "provenance"),
            consent=str(description.get("consent", "not stated")),
            license=str(description.get("license", "not stated")),
        ),
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


def _head(where: Path, entry: object, head: HeadModel | None) -> HeadModel:
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in ("name", "fingerprint")):
        raise VultusError(f"{where}: does not name a head model")
    return head_made_with(where.parent, cast(str, entry["name"]), cast(str, entry["fingerprint"]), head)


def _rest(path: Path, tensors: Mapping[str, Tensor], head: HeadModel) -> HeadParams:
    shapes = {
        "identity": (len(head.identity_names),),
        "expression": (len(head.expression_names),),
        "translation": (3,),
        "scale": (),
        **{f"joint.{name}": (3,) for name in head.joint_names if f"rest.joint.{name}" in tensors},
    }
    if "rest.offset" in tensors:
        shapes["offset"] = tuple(head.template.shape)
    values = {name: _tensor(path, tensors, f"rest.{name}", shape) for name, shape in shapes.items()}
    return HeadParams(
        model=head.fingerprint,
        identity=values["identity"],
        expression=values["expression"],
        joints={name.removeprefix("joint."): value for name, value in values.items() if name.startswith("joint.")},
        translation=values["translation"],
        scale=values["scale"],
        offset=values.get("offset"),
    )


def _tensor(path: Path, tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    value = tensors.get(name)
    if value is None or tuple(value.shape) != shape or not value.is_floating_point() or not value.isfinite().all():
        raise VultusError(f"{path}: has no finite {name!r} of shape {shape}; it is damaged or of another head model")
    return value.float()


def _posture(path: Path, tensors: Mapping[str, Tensor]) -> Posture | None:
    if not any(name.startswith("posture.") for name in tensors):
        return None
    shapes = {"home": (3,), "upright": (3,), "axes": (2, 3), "low": (9,), "high": (9,), "law": (6, 31)}
    return Posture(**{name: _tensor(path, tensors, f"posture.{name}", shape) for name, shape in shapes.items()})


def _view(folder: Path, tensors: Mapping[str, Tensor], entry: object) -> Camera:
    size = [entry.get(key) for key in ("width", "height")] if isinstance(entry, Mapping) else []
    if len(size) != 2 or not all(isinstance(number, int) and 0 < number < 1 << 16 for number in size):
        raise VultusError(f"{folder / 'avatar.json'}: its view has no image size")
    path = folder / "avatar.safetensors"
    return Camera(
        _tensor(path, tensors, "view.world_to_camera", (4, 4)),
        _tensor(path, tensors, "view.K", (3, 3)),
        *cast("list[int]", size),
    )


def _raster(where: Path, entry: object) -> RasterSettings:
    known = {field.name: field for field in dataclasses.fields(RasterSettings)}
    if not isinstance(entry, Mapping) or not set(entry) <= set(known):
        raise VultusError(f"{where}: raster settings {entry!r} are not understood by this version of Vultus")
    for name, value in entry.items():
        if type(value) is not type(known[name].default):
            raise VultusError(f"{where}: raster setting {name} is {value!r}")
    return RasterSettings(**entry)


def _mapping(where: Path, description: Mapping[str, Any], key: str) -> Mapping[str, object]:
    value = description.get(key, {})
    if not isinstance(value, Mapping):
        raise VultusError(f"{where}: {key} is not a list of entries")
    return dict(value)
