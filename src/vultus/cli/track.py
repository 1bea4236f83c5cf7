"""vultus track"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def track(
    input: Positional[Path],
    output: Annotated[Path, arg(aliases=["-o"])],
    *,
    size: int = 512,
    head: str = "builtin",
    face: int | None = None,
    frames: tuple[int, int] | None = None,
    focal: float | None = None,
    photometric: bool = True,
    offsets: bool = True,
) -> None:
    """Fit the head model to a photo or a video; write a capture that `vultus train` takes.

    OUTPUT gets cropped images and masks, cameras, motion.npz, report.json (what was found, how well it fits) and an
    overlay picture or video to look at.

    Args:
        input: A photo or a video showing one face.
        output: Folder of the capture.
        size: Side of the square head crop in pixels.
        head: Head model: builtin, or the path of a FLAME model file or folder.
        face: Which face to follow where there are several, 0 being the largest; default: the largest.
        frames: First frame and end frame (exclusive) of a video; default: all.
        focal: Focal length in pixels of the input, if known; default: estimated.
        photometric: Refine landmarks' fit by colours.
        offsets: Let the rest shape bulge where the outline asks for it (hair).
    """
    from vultus.cli.terminal import progress_bars
    from vultus.heads.load import load_head
    from vultus.tracking.track import TrackSettings
    from vultus.tracking.track import track as track_source

    settings = TrackSettings(size=size, face=face, frames=frames, focal=focal, photometric=photometric, offsets=offsets)
    with progress_bars() as progress:
        capture = track_source(input, output, head=load_head(head), settings=settings, progress=progress)
    print(f"{output}: {len(capture.views)} frames; look at {output / 'overlay.mp4'} and {output / 'report.json'}")


COMMAND = track
