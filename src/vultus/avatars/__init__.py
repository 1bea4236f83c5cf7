"""Avatars: what was learned of a person. `load` opens a saved one of any kind."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from vultus.avatars.avatar import Avatar, Rendering, SplatAvatar
from vultus.errors import VultusError
from vultus.files import read_json

if TYPE_CHECKING:
    from vultus.heads.model import HeadModel

__all__ = ["Avatar", "Rendering", "SplatAvatar", "is_avatar", "load"]

_READERS = {
    "oneshot": ("vultus.avatars.oneshot.folder", "load_oneshot"),
    "rigged": ("vultus.avatars.rigged.folder", "load_rigged"),
}
"""Where the reader of each kind of avatar lives: `reader(folder, description, head) -> Avatar`."""


def load(folder: str | Path, *, head: HeadModel | None = None) -> Avatar:
    """Open an avatar folder (or the run folder that holds it), or a trained avatar of GaussianAvatars.

    Args:
        head: the head model the avatar was made with, where it is not the built-in one (FLAME is the user's file).

    Raises:
        VultusError: no avatar there, an unknown kind, a damaged file, or a head model that does not fit.
    """
    folder = Path(folder)
    if not (folder / "avatar.json").is_file() and (folder / "avatar" / "avatar.json").is_file():
        folder = folder / "avatar"
    if not (folder / "avatar.json").is_file() and _is_published(folder):
        from vultus.avatars.rigged.published import load_published

        return load_published(folder, head)
    if not folder.is_dir():
        raise VultusError(f"{folder}: no such folder. Give the folder of an avatar, which holds avatar.json")
    path = folder / "avatar.json"
    if not path.is_file():
        raise VultusError(f"{folder}: holds no avatar.json; it is not an avatar, or its training was not finished")
    description = read_json(path)
    kind = description.get("kind") if isinstance(description, dict) else None
    if not isinstance(kind, str) or kind not in _READERS:
        raise VultusError(
            f"{path}: is an avatar of kind {kind!r}; this version of Vultus reads {', '.join(sorted(_READERS))}"
        )
    module, reader = _READERS[kind]
    return getattr(importlib.import_module(module), reader)(folder, description, head)


def is_avatar(folder: str | Path) -> bool:
    """Whether `load` finds an avatar there, of whatever kind; not whether it can be read."""
    folder = Path(folder)
    return any((folder / inner / "avatar.json").is_file() for inner in (".", "avatar")) or _is_published(folder)


def _is_published(path: Path) -> bool:
    # Looked at first by name, so that most paths import nothing.
    if not any((path / name).exists() for name in ("point_cloud", "point_cloud.ply")) and path.suffix != ".ply":
        return False
    from vultus.avatars.rigged.published import is_published

    return is_published(path)
