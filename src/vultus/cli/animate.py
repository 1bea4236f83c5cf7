"""vultus animate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def animate(
    avatar: Positional[Path],
    driver: Annotated[str, arg(aliases=["-d"])],
    output: Annotated[Path, arg(aliases=["-o"])],
    *,
    head: str | None = None,
    driver_head: str | None = None,
    size: int | None = None,
    fps: float | None = None,
    background: tuple[float, float, float] | None = None,
    side_by_side: bool = False,
    mesh: Literal["none", "over", "beside"] = "none",
    camera: Literal["still", "swing", "orbit"] = "still",
    mark: bool = False,
    expression_gain: float = 1.0,
    retarget: Literal["relative", "paper"] = "relative",
    neutral_at: float | None = None,
    driver_fps: float | None = None,
    retrack: bool = False,
    picture_driver: Path | None = None,
) -> None:
    """Move an avatar by a video, a photo, a motion file, ARKit weights or a built-in motion; write an MP4.

    The driver's expression and pose are carried over relative to its own neutral, so that the avatar keeps its face.
    Videos are tracked once and remembered by their content. The MP4 says in its metadata that it is synthetic.

    Args:
        avatar: Folder of the avatar.
        driver: clip.mp4, photo.jpg, motion.npz, a capture folder, a CSV of ARKit weights (Live Link Face), a track of
            VHAP, DECA, EMOCA, LAM or MediaPipe, or builtin:talking, builtin:expressions, builtin:turn.
        output: The MP4 to write, or a folder (name without suffix) for PNG frames.
        head: Head model the avatar was made with: path of its file or folder; default: the built-in one.
        driver_head: Head model the driver was made with, where that is neither the avatar's nor the built-in one.
        size: Longer side in pixels; default: the avatar's own.
        fps: Frames per second; default: the driver's.
        background: Three numbers in 0..1; default: white.
        side_by_side: Show the driver to the left.
        mesh: The head model's surface over the avatar or beside it.
        camera: still; swing: a little to both sides; orbit: from one profile to the other, once.
        mark: Write "synthetic" visibly into the corner.
        expression_gain: Exaggerate (above 1) or calm (below 1) expressions.
        retarget: relative: to both people's neutral, so that the avatar keeps its face; paper: expression and pose are
            copied as they are and seen through the driver's camera, as GaussianAvatars does it.
        neutral_at: Seconds from the driver's start at which its face is at rest; default: found in the driver.
        driver_fps: Frames per second of a track that does not say.
        retrack: Track the driver again even if it was tracked before.
        picture_driver: Folder or file of a one-shot network trained with --picture-code: what the face does is taken
            from the driver's pictures by it, not from the head model's coefficients.
    """
    from vultus.animation import Retargeting, load_driver
    from vultus.avatars import load
    from vultus.cli.terminal import progress_bars
    from vultus.exports.video import VideoStyle, write_frames
    from vultus.exports.video import animate as write_video
    from vultus.heads.load import load_head
    from vultus.workflows.train_oneshot import pictured

    style = VideoStyle(
        size=size,
        fps=fps,
        background=background,
        driver_beside=side_by_side,
        mesh=mesh,
        camera=camera,
        mark=mark,
        retargeting=Retargeting(expression_gain=expression_gain, mode=retarget, neutral_at=neutral_at),
    )
    opened = load(avatar, head=None if head is None else load_head(head))
    origin = None if driver_head is None else load_head(driver_head)
    with progress_bars() as progress:
        motion = load_driver(driver, opened.head, made_with=origin, retrack=retrack, fps=driver_fps, progress=progress)
        if picture_driver is not None:
            motion = pictured(motion, picture_driver, opened.head)
        write = write_video if output.suffix else write_frames
        write(opened, motion, output, style, progress=progress)
    print(f"animation      {output}")


COMMAND = animate
