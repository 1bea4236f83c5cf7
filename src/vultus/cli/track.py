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
    face: int = 0,
    first: int = 0,
    last: int | None = None,
    focal: float | None = None,
    smooth: float = 1.0,
    photometric: bool = True,
    offsets: bool = False,
    hair: bool = True,
) -> None:
    """Fit the head model to a photo, a video or a multi-camera capture; write a capture that `vultus train` takes.

    OUTPUT gets cropped images and masks, cameras, motion.npz, report.json (what was found, how well it fits) and an
    overlay picture or video to look at. Of a folder by several calibrated cameras the pictures stay whole and the
    cameras as they are; head parameters that it may hold are not looked at.

    Args:
        input: A photo or a video showing one face, or the folder of a capture by several calibrated cameras.
        output: Folder of the capture.
        size: Side of the square head crop in pixels.
        head: Head model: builtin, or the path of a model file or folder.
        face: Which person to follow where there are several, counted from 0, the largest first.
        first: First frame of a video (timestep of a capture) to use, counted from 0.
        last: Last frame of a video (timestep of a capture) to use; default: its end.
        focal: Focal length in pixels of the input, if known; default: from a photo's metadata, else estimated.
        smooth: How strongly movement is smoothed over time; 0: not at all.
        photometric: Refine the fit of a video or a capture by the pictures themselves, after the landmarks.
        offsets: With several cameras, let the face's surface differ from the head model where the pictures show it.
        hair: Move the scalp of the mesh out to where the hair ends, where that matches the outline better.
    """
    import shlex

    from vultus.cli.terminal import progress_bars
    from vultus.heads.load import load_head
    from vultus.tracking.track import TrackSettings
    from vultus.tracking.track import track as track_source

    settings = TrackSettings(
        size=size,
        first=first,
        last=last,
        face=face,
        focal=focal,
        smooth=smooth,
        photometric=photometric,
        offsets=offsets,
        hair=hair,
    )
    with progress_bars() as progress:
        capture = track_source(input, output, head=load_head(head), settings=settings, progress=progress)
    pictures = "frames" if len(capture.camera_indices) == 1 else "pictures"
    print(f"capture        {output} ({len(capture.views)} {pictures})")
    print(f"look at        {next(output.glob('overlay.*'))} and {output / 'report.json'}")
    option = "" if head == "builtin" else f" --head {shlex.quote(head)}"
    print(f"next           vultus train rigged {output}{option} -o runs/NAME")


COMMAND = track
