"""vultus convert"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

LayoutName = Literal[
    "vultus",
    "gaussian-avatars",
    "plain",
    "gaussian-head-avatar",
    "insta",
    "nersemble",
    "nersemble-benchmark",
    "colmap",
    "gagavatar",
]
"""A layout that can be written."""


def convert(
    input: Positional[Path],
    output: Positional[Path],
    *,
    layout: Annotated[LayoutName, arg(aliases=["-l"])],
    head: str | None = None,
    cameras: list[int] | None = None,
    timesteps: list[int] | None = None,
    size: int = 2048,
) -> None:
    """Write a capture in another layout on disk: pictures, masks, cameras and, where it has them, head parameters.

    INPUT may be a capture of Vultus, an export of GaussianAvatars or VHAP, pictures with a cameras.json, a data tree
    of Gaussian Head Avatar, a folder of INSTA, a sequence of NeRSemble or of its benchmark, or a model of COLMAP;
    `vultus inspect INPUT` says which. OUTPUT is written beside its place and appears when it is complete.

    vultus: trains here; needs head parameters. gaussian-avatars: for GaussianAvatars; needs FLAME parameters.
    plain: PNG pictures and cameras.json. gaussian-head-avatar: square JPEGs for Gaussian Head Avatar, without head
    parameters. insta: one camera, around a head that is still. nersemble, nersemble-benchmark: one sequence, as
    pictures and as videos. colmap: one instant as a binary model. gagavatar: head crops in an LMDB with their records,
    as GAGAvatar's tracker leaves them, of a capture or of a folder of captures; to OUTPUT.pt: its file of single
    pictures.

    Args:
        input: Folder of the capture.
        output: New or empty folder.
        layout: What to write.
        head: Head model of the capture's parameters: path of a model file or folder; default: the built-in one.
        cameras: Take only these cameras (by index); default: all.
        timesteps: Take only these instants; default: all.
        size: Side in pixels of the square pictures of gaussian-head-avatar.
    """
    from vultus.cli.terminal import progress_bars
    from vultus.heads.load import load_head
    from vultus.workflows.convert import convert as convert_capture

    model = None if head is None else load_head(head)
    with progress_bars() as progress:
        count = convert_capture(
            input, output, layout, head=model, cameras=cameras, timesteps=timesteps, size=size, progress=progress
        )
    print(f"capture        {output} ({layout}, {count} pictures)")


COMMAND = convert
