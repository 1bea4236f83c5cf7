"""What avatar folders of every kind hold: the head model's name, the person at rest, the view, drawing, labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from vultus.avatars.avatar import Labels
from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.files import read_json
from vultus.heads.load import head_made_with
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams
from vultus.splats import RasterSettings


def check_replaceable(folder: Path) -> None:
    """Raise VultusError if `folder` is there and saving an avatar in its place would delete something else."""
    if folder.is_dir() and not (folder / "avatar.json").is_file() and any(folder.iterdir()):
        raise VultusError(
            f"{folder}: is not empty and holds no avatar (no avatar.json); its files would be lost. "
            "Choose another folder, or move them away"
        )


def person_tensors(rest: HeadParams, view: Camera) -> dict[str, Tensor]:
    """The person at rest and the view, for a safetensors file; `read_rest` and `read_view` are the inverse."""
    tensors = {
        "view.K": view.K,
        "view.world_to_camera": view.world_to_camera,
        "rest.identity": rest.identity,
        "rest.expression": rest.expression,
        "rest.translation": rest.translation,
        "rest.scale": rest.scale,
        **{f"rest.joint.{name}": value for name, value in rest.joints.items()},
    }
    return tensors if rest.offset is None else tensors | {"rest.offset": rest.offset}


def head_entry(head: HeadModel) -> dict[str, str]:
    """What avatar.json says of the head model."""
    return {"name": head.name, "fingerprint": head.fingerprint, "license": head.license}


def read_head(where: Path, entry: object, head: HeadModel | None) -> HeadModel:
    """The head model that avatar.json (`where`) names, checked. Raises VultusError."""
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in ("name", "fingerprint")):
        raise VultusError(f"{where}: does not name a head model")
    return head_made_with(where.parent, cast(str, entry["name"]), cast(str, entry["fingerprint"]), head)


def read_rest(path: Path, tensors: Mapping[str, Tensor], head: HeadModel) -> HeadParams:
    """The person at rest. Raises VultusError if a tensor is missing, broken or of another head model."""
    shapes = {
        "identity": (len(head.identity_names),),
        "expression": (len(head.expression_names),),
        "translation": (3,),
        "scale": (),
        **{f"joint.{name}": (3,) for name in head.joint_names if f"rest.joint.{name}" in tensors},
    }
    if "rest.offset" in tensors:
        shapes["offset"] = tuple(head.template.shape)
    values = {name: finite_tensor(path, tensors, f"rest.{name}", shape) for name, shape in shapes.items()}
    return HeadParams(
        model=head.fingerprint,
        identity=values["identity"],
        expression=values["expression"],
        joints={name.removeprefix("joint."): value for name, value in values.items() if name.startswith("joint.")},
        translation=values["translation"],
        scale=values["scale"],
        offset=values.get("offset"),
    )


def finite_tensor(path: Path, tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of an avatar's file. Raises VultusError if it is missing, not finite or of another shape."""
    value = tensors.get(name)
    if value is None or tuple(value.shape) != shape or not value.is_floating_point() or not value.isfinite().all():
        raise VultusError(f"{path}: has no finite {name!r} of shape {shape}; it is damaged or of another head model")
    return value.float()


def read_view(folder: Path, tensors: Mapping[str, Tensor], entry: object) -> Camera:
    """The camera the avatar was made for. Raises VultusError."""
    size = [entry.get(key) for key in ("width", "height")] if isinstance(entry, Mapping) else []
    if len(size) != 2 or not all(isinstance(number, int) and 0 < number < 1 << 16 for number in size):
        raise VultusError(f"{folder / 'avatar.json'}: its view has no image size")
    path = folder / "avatar.safetensors"
    return Camera(
        finite_tensor(path, tensors, "view.world_to_camera", (4, 4)),
        finite_tensor(path, tensors, "view.K", (3, 3)),
        *cast("list[int]", size),
    )


def read_raster(where: Path, entry: object) -> RasterSettings:
    """How the avatar's Gaussians are drawn. Raises VultusError."""
    known = {field.name: field for field in dataclasses.fields(RasterSettings)}
    if not isinstance(entry, Mapping) or not set(entry) <= set(known):
        raise VultusError(f"{where}: raster settings {entry!r} are not understood by this version of Vultus")
    for name, value in entry.items():
        if type(value) is not type(known[name].default):
            raise VultusError(f"{where}: raster setting {name} is {value!r}")
    return RasterSettings(**entry)


def labels_entry(labels: Labels) -> dict[str, object]:
    """What avatar.json says of an avatar's origin and terms."""
    return {"provenance": dict(labels.provenance), "consent": labels.consent, "license": labels.license}


def read_labels(where: Path, description: Mapping[str, Any]) -> Labels:
    """The inverse of `labels_entry`. Raises VultusError."""
    provenance = description.get("provenance", {})
    if not isinstance(provenance, Mapping):
        raise VultusError(f"{where}: provenance is not a list of entries")
    return Labels(
        provenance=dict(provenance),
        consent=str(description.get("consent", "not stated")),
        license=str(description.get("license", "not stated")),
    )


def renewed_labels(folder: Path, given: Labels, provenance: Mapping[str, object]) -> Labels:
    """What to write into an avatar: what was given, else what one saved here before says (it may be edited)."""
    stated = {"consent": given.consent, "license": given.license}
    if (folder / "avatar.json").is_file():
        before = read_json(folder / "avatar.json")
        for key, value in stated.items():
            if value == getattr(Labels(), key) and isinstance(before, dict) and isinstance(before.get(key), str):
                stated[key] = before[key]
    return Labels({**provenance, **given.provenance}, **stated)
