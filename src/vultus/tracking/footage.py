"""Photos and videos as frames with numbers and times, in one way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vultus.errors import VultusError
from vultus.images import VideoReader, media_kind, read_image

MAX_SIDE = 2160
"""Frames are shrunk to this: detectors see less than that, and a head crop is far smaller."""


@dataclass(frozen=True)
class FootageFrame:
    """`index` numbers the kept frames from 0; `number` is the frame's number in the file, `time` in seconds."""

    index: int
    number: int
    time: float
    image: UInt8[np.ndarray, "H W 3"]


class Footage:
    """The frames `first` to `last` (numbers, inclusive) of a video, at most `limit` of them, or a photo's one frame.

    `photo` tells which. `focal` is the focal length in pixels that a photo's metadata gives, or None.

    Raises:
        VultusError: the file is missing, unreadable or neither photo nor video.
    """

    def __init__(self, path: str | Path, *, first: int = 0, last: int | None = None, limit: int | None = None) -> None:
        self.path = Path(path)
        self.first, self.last, self.limit = first, last, limit
        self.photo = media_kind(self.path) == "image"
        self.focal: float | None = None
        self._reader: VideoReader | None = None
        if self.photo:
            self._image = _shrunk(read_image(self.path))
            self.height, self.width = self._image.shape[:2]
            self.fps, self.count_estimate = 25.0, 1
            self.focal = _focal_from_metadata(self.path, self.width, self.height)
            return
        self._reader = VideoReader(self.path, max_side=MAX_SIDE)
        info = self._reader.info
        shrink = min(1.0, MAX_SIDE / max(info.width, info.height))
        self.width, self.height = max(1, round(info.width * shrink)), max(1, round(info.height * shrink))
        self.fps = info.fps
        end = info.frame_count if last is None else min(info.frame_count, last + 1)
        self.count_estimate = max(0, end - first)
        if limit is not None:
            self.count_estimate = min(self.count_estimate, limit)

    def __iter__(self) -> Iterator[FootageFrame]:
        if self._reader is None:
            yield FootageFrame(0, 0, 0.0, self._image)
            return
        index = 0
        for frame in self._reader:
            if frame.index < self.first:
                continue
            if (self.last is not None and frame.index > self.last) or (self.limit is not None and index >= self.limit):
                return
            yield FootageFrame(index, frame.index, frame.time, frame.image)
            index += 1
        if index == 0:
            raise VultusError(f"{self.path}: has no frame from number {self.first} on; choose an earlier start")

    @property
    def damage(self) -> str | None:
        """What cut a damaged video short, after an iteration."""
        return None if self._reader is None else self._reader.damage


def _shrunk(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    height, width = image.shape[:2]
    if max(height, width) <= MAX_SIDE:
        return image
    from PIL import Image

    factor = MAX_SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _focal_from_metadata(path: Path, width: int, height: int) -> float | None:
    """Focal length in pixels from EXIF's 35 mm equivalent (of a 36×24 mm frame, by its diagonal)."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            value = file.getexif().get_ifd(0x8769).get(0xA405)
        focal = float(value) if value is not None else 0.0
    except Exception:  # metadata written by anything; without it the focal length is estimated
        return None
    if not 10 <= focal <= 600:
        return None
    return focal / float(np.hypot(36, 24)) * float(np.hypot(width, height))
