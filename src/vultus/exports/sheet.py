"""The contact sheet: one picture that shows what an avatar can do, and where it cannot."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from vultus import __version__
from vultus.animation import orbit, retarget_motion
from vultus.animation.arkit_motion import arkit_motion
from vultus.animation.builtin_motions import EXPRESSIONS
from vultus.animation.paths import head_center, yaw_to_front
from vultus.animation.play import default_background
from vultus.avatars import Avatar
from vultus.cameras import Camera
from vultus.captures import Capture
from vultus.exports.provenance import provenance
from vultus.exports.video import Footage, sized_view
from vultus.heads.arkit import arkit_weights
from vultus.images import to_uint8, write_png
from vultus.images.sheets import contact_sheet
from vultus.motion import Motion
from vultus.progress import Progress, silent

_NARROW = 0.8
SHEET_YAWS = (-45, -30, 0, 30, 45)
SHEET_EXPRESSIONS = ("smile", "surprise", "anger", "wink", "smirk")


def write_contact_sheet(
    avatar: Avatar, path: str | Path, *, capture: Capture | None = None, size: int = 232, progress: Progress = silent
) -> None:
    """Write a PNG of neutral and five strong expressions (one wink, one asymmetric), seen from five sides.

    Args:
        capture: what the avatar was made of; its first picture, and the avatar in the same pose and view, are shown
            beside the grid.
        size: pixels of the longer side of one picture.

    Raises:
        VultusError: the file cannot be written.
    """
    write_png(
        path, draw_contact_sheet(avatar, capture=capture, size=size, progress=progress), metadata=provenance(avatar)
    )


def draw_contact_sheet(
    avatar: Avatar, *, capture: Capture | None = None, size: int = 232, progress: Progress = silent
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture that `write_contact_sheet` writes."""
    motion, cameras = sheet_poses(avatar), sheet_cameras(avatar, _close_view(avatar, size))
    rows: list[list[np.ndarray]] = [[] for _ in SHEET_YAWS]
    progress("contact sheet", 0, len(motion), {})
    for column in range(len(motion)):
        # Each pose stands for itself: none remembers the one before.
        with torch.no_grad():
            rendering = avatar.render(motion.params[column], cameras, background=default_background(avatar))
        for row, picture in zip(rows, to_uint8(rendering.color), strict=True):
            row.append(picture)
        progress("contact sheet", column + 1, len(motion), {})
    return contact_sheet(
        rows,
        column_labels=("neutral", *SHEET_EXPRESSIONS),
        row_labels=[f"{yaw:+d}°" if yaw else "0°" for yaw in SHEET_YAWS],
        panels=None if capture is None else _comparison(avatar, capture, 2 * size),
        footer=f"synthetic, except the source · Vultus {__version__}"
        if capture
        else f"synthetic · Vultus {__version__}",
    )


def sheet_poses(avatar: Avatar) -> Motion:
    """Neutral, then `SHEET_EXPRESSIONS`, of this person."""
    poses = [{}, *(dict(EXPRESSIONS[name]) for name in SHEET_EXPRESSIONS)]
    weights = torch.stack([arkit_weights(pose) if pose else torch.zeros(52) for pose in poses])
    motion = arkit_motion(avatar.head, weights, torch.arange(len(poses)) / 25)
    return retarget_motion(motion, avatar.head, avatar.rest)


def sheet_cameras(avatar: Avatar, view: Camera) -> Camera:
    """`view` carried around the head to `SHEET_YAWS`, counted from the front of the face; a batch of cameras."""
    front = yaw_to_front(view, avatar.head, avatar.rest)
    center = head_center(avatar.head, avatar.rest)
    return orbit(view, center, torch.tensor([front + math.radians(yaw) for yaw in SHEET_YAWS]))


def _comparison(avatar: Avatar, capture: Capture, height: int) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
    """The capture's first picture, and what the avatar makes of its camera and head parameters."""
    footage = Footage(capture, height)
    source, view = footage.picture(0), footage.view(0)
    camera = capture.camera(view).resized(source.shape[1], source.shape[0])
    with torch.no_grad():
        rendering = avatar.render(capture.motion.params[view.timestep], camera, background=default_background(avatar))
    return {"source": source, "avatar": to_uint8(rendering.color)}


def _close_view(avatar: Avatar, size: int) -> Camera:
    """The avatar's own camera, zoomed in until face and scalp fill the picture but for room for hair and neck."""
    view, regions = avatar.view, avatar.head.regions
    if "face" not in regions or "scalp" not in regions:
        return sized_view(avatar, size)
    with torch.no_grad():
        vertices = avatar.head.pose(avatar.rest).vertices
        points = view.project(vertices[torch.cat([regions["face"], regions["scalp"]])])
    low, high = points.amin(-2), points.amax(-2)
    side = 1.5 * float((high - low).max())
    if side >= min(view.width, view.height):
        return sized_view(avatar, size)
    left, top = ((low + high) / 2 - side / 2).tolist()
    # Heads are higher than wide, also from the side.
    whole, narrow = round(side), round(_NARROW * side)
    left = left + (side - narrow) / 2
    return view.cropped(left, top + 0.1 * side, narrow, whole).resized(round(_NARROW * size), size)
