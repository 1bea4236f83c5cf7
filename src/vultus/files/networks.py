"""Where networks that many avatars share are kept, by the fingerprint of their tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vultus.errors import VultusError
from vultus.files.tensors import read_tensors, tensors_fingerprint, write_tensors

if TYPE_CHECKING:
    from torch import Tensor


def networks_folder() -> Path:
    """`$VULTUS_NETWORKS`, else `vultus/networks` in the user's data folder."""
    own = os.environ.get("VULTUS_NETWORKS")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "vultus" / "networks"


def keep_network(tensors: Mapping[str, Tensor]) -> str:
    """Put a network among the shared ones, unless it is there already. Returns its fingerprint.

    Raises:
        VultusError: it cannot be written.
    """
    fingerprint = tensors_fingerprint(tensors)
    path = networks_folder() / f"{fingerprint}.safetensors"
    if not path.is_file():
        write_tensors(path, tensors)
    return fingerprint


def find_network(fingerprint: str, where: Path, license: str) -> dict[str, Tensor]:
    """The tensors of a shared network that the file `where` names.

    Raises:
        VultusError: it is not there (the message names fingerprint, licence and place), or its content is another.
    """
    if len(fingerprint) != 64 or not set(fingerprint) <= set("0123456789abcdef"):
        raise VultusError(f"{where}: {fingerprint[:80]!r} is not the fingerprint of a network")
    path = networks_folder() / f"{fingerprint}.safetensors"
    if not path.is_file():
        raise VultusError(
            f"{where}: needs the shared network {fingerprint} (licence: {license}), which is not at {path}. Copy it "
            "there from the machine that made the avatar, or save the avatar there with standalone=True"
        )
    tensors = read_tensors(path)
    if tensors_fingerprint(tensors) != fingerprint:
        raise VultusError(f"{path}: its content does not have the fingerprint of its name; delete it and copy it anew")
    return tensors
