"""What an exported file says about its own origin: that it is synthetic, made of which avatar, driven by what."""

from __future__ import annotations

import hashlib
import json
from typing import cast

from torch import nn

from vultus import __version__
from vultus.animation import Driver
from vultus.avatars import Avatar


def avatar_id(avatar: Avatar) -> str:
    """SHA-256 (hex) of an avatar's parameters and buffers: the same avatar has the same id wherever it is stored."""
    digest = hashlib.sha256(f"{avatar.kind} {avatar.head.fingerprint}".encode())
    for name, tensor in sorted(cast(nn.Module, avatar).state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def provenance(avatar: Avatar, driver: Driver | None = None) -> dict[str, str]:
    """Metadata for a file's own fields: `comment` for people, `vultus` (JSON) for programs."""
    labels = getattr(avatar, "labels", None)
    about: dict[str, object] = {
        "synthetic": True,
        "tool": "vultus",
        "version": __version__,
        "avatar": {
            "id": avatar_id(avatar),
            "kind": avatar.kind,
            "head": avatar.head.name,
            "made_from": dict(labels.provenance) if labels is not None else {},
            "consent": labels.consent if labels is not None else "not stated",
        },
    }
    if driver is not None:
        about["driver"] = {"name": driver.name, "sha256": driver.sha256}
    return {
        "comment": f"Synthetic: rendered from an avatar with Vultus {__version__}",
        "vultus": json.dumps(about, ensure_ascii=False, sort_keys=True),
    }
