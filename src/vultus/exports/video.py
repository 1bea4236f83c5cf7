"""An avatar moved by a driver, as a video or as single pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from vultus.animation import Driver, Retargeting, Sight, orbit, play, retarget_motion, still, swing
from vultus.animation.paths import head_center, yaw_to_front
from vultus.animation.play import default_background
from vultus.avatars import Avatar
from vultus.cameras import Camera
from vultus.captures import Capture, View
from vultus.errors import VultusError
from vultus.exports.provenance import provenance
from vultus.exports.shading import shaded_mesh
from vultus.files import atomic_folder
from vultus.heads import HeadModel
from vultus.images import VideoWriter, resize, to_uint8, write_png
from vultus.images.sheets import write_text
from vultus.motion import Motion
from vultus.progress import Progress, silent

_PHOTO_SECONDS = 2.0
_MESH_OPACITY = 0.55
_FRAME = re.compile(r"\d{5,}\.png")


@dataclass(frozen=True)
class VideoStyle:
    """How an animation is shown.

    size: longer side in pixels; None: the avatar's own. fps: None: the driver's. background: sRGB in [0, 1]; None: the
    avatar's own, else white. driver_beside: the driving footage to the left (for drivers without pictures the head
    model's surface). mesh: the head model's surface over the avatar or beside it. camera: still, swinging to both
    sides, or from one profile to the other. mark: a visible "synthetic" in the corner. quality: x264's constant rate
    factor.
    """

    size: int | None = None
    fps: float | None = None
    background: tuple[float, float, float] | None = None
    driver_beside: bool = False
    mesh: Literal["none", "over", "beside"] = "none"
    camera: Literal["still", "swing", "orbit"] = "still"
    mark: bool = False
    quality: int = 18
    retargeting: Retargeting = field(default_factory=Retargeting)

    def __post_init__(self) -> None:
        if self.size is not None and not 16 <= self.size <= 8192:
            raise VultusError(f"size is {self.size}; a video has 16 to 8192 pixels on its longer side")
        if self.fps is not None and not 1 <= self.fps <= 240:
            raise VultusError(f"fps is {self.fps}; a video has 1 to 240 frames per second")
        if self.background is not None and not all(0 <= value <= 1 for value in self.background):
            raise VultusError(f"background is {self.background}; colours are three numbers from 0 to 1")
        if not 0 <= self.quality <= 51:
            raise VultusError(f"quality is {self.quality}; it is a number from 0 (lossless) to 51")


def animate(
    avatar: Avatar, driver: Driver, path: str | Path, style: VideoStyle | None = None, *, progress: Progress = silent
) -> Path:
    """Write an MP4 (H.264) of an avatar moved by a driver, with its provenance in the container.

    The file appears when it is complete; an interrupted run leaves nothing behind.

    Raises:
        VultusError: the driver is for another head model, or the file cannot be written.
    """
    style = style or VideoStyle()
    path = Path(path)
    with VideoWriter(
        path, fps=_fps(driver, style), quality=style.quality, metadata=provenance(avatar, driver)
    ) as writer:
        for picture in pictures(avatar, driver, style, progress=progress):
            writer.write(picture)
    return path


def write_frames(
    avatar: Avatar, driver: Driver, folder: str | Path, style: VideoStyle | None = None, *, progress: Progress = silent
) -> Path:
    """Write the frames of an animation as PNG files 00000.png, 00001.png ... with their provenance, all or none.

    A folder of frames that an earlier call wrote is replaced.

    Raises:
        VultusError: the folder holds anything else, the driver is for another head model, or it cannot be written.
    """
    style = style or VideoStyle()
    folder = Path(folder)
    about = provenance(avatar, driver)
    with atomic_folder(folder, _only_frames) as temporary:
        for index, picture in enumerate(pictures(avatar, driver, style, progress=progress)):
            write_png(temporary / f"{index:05d}.png", picture, metadata=about)
    return folder


def _only_frames(folder: Path) -> None:
    """Raise VultusError unless a folder is empty or holds nothing but frames that `write_frames` wrote."""
    for file in sorted(folder.iterdir()):
        if not (_FRAME.fullmatch(file.name) and file.is_file() and _is_ours(file)):
            raise VultusError(
                f"{folder}: holds {file.name}, which is no frame that Vultus wrote, and would be lost. "
                "Give the name of a new folder"
            )


def _is_ours(png: Path) -> bool:
    """Whether a PNG carries our provenance; other programs number their pictures in the same way."""
    try:
        with Image.open(png, formats=("PNG",)) as image:
            return "vultus" in image.info
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def pictures(
    avatar: Avatar, driver: Driver, style: VideoStyle, *, progress: Progress = silent
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of an animation, one by one."""
    rows = resampled(driver.motion, _fps(driver, style))
    source = driver.motion[rows]
    view = sized_view(avatar, style.size)
    if style.retargeting.mode == "paper" and driver.capture is not None:
        # The published program renders a copied motion through the driver's camera, in whose world it is.
        view = _sized(driver.capture.camera(min(driver.capture.views)), style.size)
    motion = retarget_motion(
        driver.motion, avatar.head, avatar.rest, style.retargeting,
        source_sight=driver.sight, target_sight=Sight.of(avatar.view),
    )[rows]  # fmt: skip
    cameras = _cameras(avatar, view, style.camera, len(motion))
    background = default_background(avatar) if style.background is None else torch.tensor(style.background)
    footage = None if driver.capture is None else Footage(driver.capture, view.height)
    total = len(motion)
    progress("animate", 0, total, {})
    for index, rendering in enumerate(play(avatar, motion, cameras, background=background)):
        color, camera = rendering.color, cameras[index]
        panels = []
        if style.driver_beside and footage is not None:
            panels.append(footage.picture(int(rows[index])))
        elif style.driver_beside:
            panels.append(_clay(avatar.head, avatar.head.pose(source.params[index]).vertices, view, background))
        if style.mesh == "over":
            shade, coverage = shaded_mesh(avatar.vertices(motion.params[index]), avatar.head.faces, camera)
            color = torch.lerp(color, shade, coverage * _MESH_OPACITY)
        panels.append(to_uint8(color))
        if style.mesh == "beside":
            panels.append(_clay(avatar.head, avatar.vertices(motion.params[index]), camera, background))
        picture = np.concatenate(panels, axis=1)
        yield write_text(picture, "synthetic") if style.mark else picture
        progress("animate", index + 1, total, {})


def resampled(motion: Motion, fps: float) -> Int[Tensor, "N"]:
    """The row that is nearest in time for each frame of a video; a single instant is held for two seconds."""
    if len(motion) == 1:
        return torch.zeros(round(_PHOTO_SECONDS * fps), dtype=torch.int64)
    duration = float(motion.times[-1] - motion.times[0]) + 1 / motion.fps
    wanted = motion.times[0] + torch.arange(max(1, round(duration * fps))) / fps
    after = torch.searchsorted(motion.times, wanted).clamp(1, len(motion) - 1)
    later = motion.times[after] - wanted < wanted - motion.times[after - 1]
    return torch.where(later, after, after - 1)


def sized_view(avatar: Avatar, size: int | None) -> Camera:
    """The avatar's own camera, with `size` pixels on its longer side, both sides even."""
    return _sized(avatar.view, size)


def _sized(view: Camera, size: int | None) -> Camera:
    factor = 1.0 if size is None else size / max(view.width, view.height)
    width, height = (max(2, 2 * round(side * factor / 2)) for side in (view.width, view.height))
    return view.resized(width, height)


class Footage:
    """The pictures of a capture, as wide as they come and as high as asked for."""

    def __init__(self, capture: Capture, height: int) -> None:
        self._capture, self._height = capture, height
        self._views: dict[int, View] = {}
        for view in sorted(capture.views, reverse=True):
            self._views[view.timestep] = view  # the lowest camera number of each timestep

    def view(self, timestep: int) -> View:
        """The view shown at a timestep: its own, else the nearest timestep's that has one."""
        return self._views[min(self._views, key=lambda known: (abs(known - timestep), known))]

    def picture(self, timestep: int) -> UInt8[np.ndarray, "H W 3"]:
        image: Float[Tensor, "H W 3"] = self._capture.image(self.view(timestep))
        width = max(2, 2 * round(image.shape[1] * self._height / image.shape[0] / 2))
        return to_uint8(resize(image, width, self._height))


def _clay(head: HeadModel, vertices: Float[Tensor, "V 3"], camera: Camera, background: Tensor) -> np.ndarray:
    shade, coverage = shaded_mesh(vertices, head.faces, camera)
    return to_uint8(torch.lerp(background.expand_as(shade), shade, coverage))


def _fps(driver: Driver, style: VideoStyle) -> float:
    return min(60.0, max(1.0, driver.motion.fps)) if style.fps is None else style.fps


def _cameras(avatar: Avatar, view: Camera, kind: str, count: int) -> Camera:
    if kind == "still":
        return still(view, count)
    center = head_center(avatar.head, avatar.rest)
    if kind == "swing":
        return swing(view, center, count, degrees=20.0, turns=max(1, round(count / 150)))
    front = yaw_to_front(view, avatar.head, avatar.rest)
    return orbit(view, center, front + torch.linspace(-1, 1, count) * np.pi / 2)
