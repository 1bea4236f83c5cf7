"""The folder of a one-shot avatar: avatar.json, avatar.safetensors (splats, person, view), maybe
renderer.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vultus import __version__
from vultus.avatars.folders import (
    check_replaceable,
    finite_tensor,
    head_entry,
    labels_entry,
    person_tensors,
    read_head,
    read_labels,
    read_rest,
    read_view,
)
from vultus.avatars.oneshot.avatar import SPLATS, OneShotAvatar
from vultus.avatars.oneshot.generators import Attributes
from vultus.avatars.oneshot.model import SourceSplats, neural_renderer
from vultus.avatars.oneshot.options import Architecture
from vultus.avatars.oneshot.weights import fill
from vultus.config import from_yaml, to_yaml
from vultus.errors import VultusError
from vultus.files import atomic_folder, read_tensors, tensors_fingerprint, write_json, write_tensors
from vultus.files.networks import find_network, keep_network
from vultus.heads.model import HeadModel

_FORMAT = 1
_MOST_PICTURES = 1000


def save_oneshot(avatar: OneShotAvatar, folder: str | Path, *, standalone: bool = False) -> None:
    """Write an avatar folder, replacing an existing one atomically.

    Raises:
        VultusError: it cannot be written, or is there and neither empty nor an avatar.
    """
    renderer = avatar.renderer.state_dict()
    fingerprint = tensors_fingerprint(renderer) if standalone else keep_network(renderer)
    with atomic_folder(folder, check_replaceable) as partial:
        splats = {f"splats.{name}": getattr(avatar, name) for name in SPLATS}
        write_tensors(partial / "avatar.safetensors", {**splats, **person_tensors(avatar.rest, avatar.view)})
        if standalone:
            write_tensors(partial / "renderer.safetensors", renderer)
        description = {
            "kind": avatar.kind,
            "format": _FORMAT,
            "vultus": __version__,
            "head": head_entry(avatar.head),
            "architecture": to_yaml(avatar.architecture),
            "pictures": avatar.pictures,
            "renderer": {"sha256": fingerprint, "license": avatar.renderer_license, "embedded": standalone},
            "view": {"width": avatar.view.width, "height": avatar.view.height},
            **labels_entry(avatar.labels),
        }
        write_json(partial / "avatar.json", description)


def load_oneshot(folder: Path, description: Mapping[str, Any], head: HeadModel | None = None) -> OneShotAvatar:
    """Read an avatar folder whose avatar.json is `description`. See `vultus.avatars.load`."""
    where = folder / "avatar.json"
    if description.get("format") != _FORMAT:
        raise VultusError(f"{where}: format {description.get('format')!r} is not one this version of Vultus reads")
    head = read_head(where, description.get("head"), head)
    architecture = from_yaml(Architecture, str(description.get("architecture", "")), f"{where}: architecture")
    path = folder / "avatar.safetensors"
    tensors = read_tensors(path)
    pictures = description.get("pictures", 1)
    if not isinstance(pictures, int) or not 1 <= pictures <= _MOST_PICTURES:
        raise VultusError(f"{where}: an avatar is made of 1 to {_MOST_PICTURES} pictures, not {pictures!r}")
    lifted = 2 * architecture.plane_size**2 * pictures
    count = architecture.vertices + lifted
    shapes = {
        "features": (count, architecture.channels),
        "opacities": (count, 1),
        "scales": (count, 3),
        "rotations": (count, 4),
        "lifted": (lifted, 3),
    }
    splats = {name: finite_tensor(path, tensors, f"splats.{name}", shape)[None] for name, shape in shapes.items()}
    entry = description.get("renderer")
    if not isinstance(entry, Mapping) or not isinstance(entry.get("sha256"), str):
        raise VultusError(f"{where}: does not say which neural renderer draws it")
    license = str(entry.get("license", "not stated"))
    embedded = folder / "renderer.safetensors"
    if embedded.is_file():
        weights = read_tensors(embedded)
        if tensors_fingerprint(weights) != entry["sha256"]:
            raise VultusError(f"{embedded}: is not the renderer that avatar.json names; the folder is damaged")
    else:
        weights = find_network(entry["sha256"], where, license)
    with torch.device("meta"):
        renderer = neural_renderer(architecture)
    return OneShotAvatar(
        head,
        read_rest(path, tensors, head),
        read_view(folder, tensors, description.get("view")),
        SourceSplats(Attributes(*(splats[name] for name in SPLATS[:-1])), splats["lifted"]),
        fill(renderer, weights, embedded if embedded.is_file() else where),
        architecture,
        renderer_license=license,
        labels=read_labels(where, description),
    )
