"""A whole avatar as a folder, for other programs that animate or train it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vultus.avatars import Avatar
from vultus.avatars.rigged import RiggedAvatar
from vultus.avatars.rigged.published import save_published
from vultus.errors import VultusError


def export_folder(avatar: Avatar, folder: str | Path, layout: Literal["gaussian-avatars", "vultus"]) -> list[str]:
    """Write an avatar in the layout of GaussianAvatars (`save_published`) or in ours.

    Returns:
        What the layout has no place for and was left out, as sentences.

    Raises:
        VultusError: an avatar that the layout cannot hold, or a folder that cannot be written.
    """
    if layout == "vultus":
        avatar.save(Path(folder))
        return []
    if not isinstance(avatar, RiggedAvatar):
        raise VultusError(
            f"{folder}: an avatar of the kind {avatar.kind} has no Gaussians on triangles, which the layout of "
            "GaussianAvatars holds"
        )
    return save_published(avatar, folder)
