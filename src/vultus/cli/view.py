"""vultus view"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def view(
    avatar: Positional[Path],
    *,
    head: str | None = None,
    port: Annotated[int, arg(aliases=["-p"])] = 8080,
    host: str = "127.0.0.1",
) -> None:
    """Show an avatar in the browser: orbit, expression, jaw, neck and eye sliders, motion playback, splats or mesh.

    Args:
        avatar: Folder of the avatar (the one with avatar.json).
        head: Head model the avatar was made with: path of a model file or folder; default: the built-in one.
        port: Port to listen on; 0 takes any free one.
        host: Address to listen on; the default can be reached from this machine only.
    """
    from vultus.avatars import load
    from vultus.heads.load import load_head
    from vultus.viewer import view as view_avatar

    view_avatar(load(avatar, head=None if head is None else load_head(head)), host=host, port=port)


COMMAND = view
