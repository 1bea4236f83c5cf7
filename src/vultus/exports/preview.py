"""The preview: a short video, source on the left, avatar on the right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from vultus.animation import Driver, play, retarget_motion, still, swing
from vultus.animation.builtin_motions import expressions, talking, turn
from vultus.animation.paths import head_center
from vultus.avatars import Avatar
from vultus.cameras import Camera
from vultus.captures import Capture
from vultus.exports.provenance import provenance
from vultus.exports.video import Footage, resampled, sized_view
from vultus.images import VideoWriter, to_uint8
from vultus.motion import Motion
from vultus.progress import Progress, silent

FPS = 25.0
_CLIP_SECONDS = 4.0


def write_preview(
    avatar: Avatar, path: str | Path, *, capture: Capture | None = None, size: int = 512, progress: Progress = silent
) -> None:
    """Write an MP4: the footage an avatar was made of beside the avatar doing the same (videos only), then the avatar
    talking under a swinging camera, making faces, turning its head.

    Raises:
        VultusError: the file cannot be written.
    """
    driver = None
    if capture is not None and capture.source is not None:
        driver = Driver(capture.source.name, capture.motion, capture.source.sha256)
    with VideoWriter(path, fps=FPS, metadata=provenance(avatar, driver)) as writer:
        for picture in preview_pictures(avatar, capture=capture, size=size, progress=progress):
            writer.write(picture)


def preview_pictures(
    avatar: Avatar, *, capture: Capture | None = None, size: int = 512, progress: Progress = silent
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of the preview."""
    view = sized_view(avatar, size)
    center = head_center(avatar.head, avatar.rest)
    footage = None if capture is None else Footage(capture, view.height)
    acts: list[tuple[Motion, Camera, list[int]]] = []
    if capture is not None and footage is not None and len(capture.motion) > 1:
        acts.append(_reenactment(avatar, capture, footage, view))
    spoken = retarget_motion(talking(avatar.head, seconds=4.0, fps=FPS), avatar.head, avatar.rest)
    faces = expressions(avatar.head, names=("smile", "surprise", "wink", "anger"), seconds_each=0.96, fps=FPS)
    turned = turn(avatar.head, degrees=35.0, seconds=3.2, fps=FPS)
    acts.append((spoken, swing(view, center, len(spoken), degrees=18.0), []))
    for motion in (faces, turned):
        acts.append((retarget_motion(motion, avatar.head, avatar.rest), still(view, len(motion)), []))
    total, done = sum(len(motion) for motion, _, _ in acts), 0
    progress("preview", 0, total, {})
    for motion, cameras, timesteps in acts:
        for index, rendering in enumerate(play(avatar, motion, cameras)):
            picture = to_uint8(rendering.color)
            if footage is not None:
                picture = np.concatenate([footage.picture(timesteps[index] if timesteps else 0), picture], axis=1)
            yield picture
            done += 1
            progress("preview", done, total, {})


def _reenactment(avatar: Avatar, capture: Capture, footage: Footage, view: Camera) -> tuple[Motion, Camera, list[int]]:
    """The capture's own motion through its own cameras: the first seconds, and the timestep of each frame."""
    rows = resampled(capture.motion, FPS)[: round(_CLIP_SECONDS * FPS)]
    own = getattr(avatar, "motion", None)
    motion = own if isinstance(own, Motion) and len(own) == len(capture.motion) else capture.motion
    motion = motion[rows]
    rest = avatar.rest
    # The person is the avatar's: training may have refined who they are, not only how they moved.
    params = replace(motion.params, identity=rest.identity, scale=rest.scale, offset=rest.offset)
    timesteps = [int(row) for row in rows]
    cameras = [capture.camera(footage.view(timestep)).resized(view.width, view.height) for timestep in timesteps]
    return replace(motion, params=params, times=torch.arange(len(rows)) / FPS), Camera.stack(cameras), timesteps
