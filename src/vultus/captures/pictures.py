"""Where the pixels of a view come from: a file, a file seen through a distorting lens, or a frame of a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from vultus.captures.lens import Lens
from vultus.errors import VultusError
from vultus.images import VideoFrame, VideoReader, read_image_and_alpha

Pixels = tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 1"] | None]


class Picture(Protocol):
    """Pixels that are read when asked for."""

    @property
    def path(self) -> Path:
        """The file they come from."""
        ...

    @property
    def place(self) -> str:
        """Where they are, to tell pictures of one file apart: two views with the same one show the same picture."""
        ...

    def read(self) -> Pixels:
        """Colours, and alpha if there is any. Raises VultusError: missing or damaged."""
        ...

    def size(self) -> tuple[int, int]:
        """Width and height, from the file's header. Raises VultusError: missing, or no picture."""
        ...


def size_of(pictures: Sequence[Picture]) -> tuple[int, int]:
    """Width and height of the first picture that can be read. Raises VultusError if none can be."""
    problem = VultusError("no pictures")
    for picture in pictures:
        try:
            return picture.size()
        except VultusError as error:
            problem = error
    raise problem


@dataclass(frozen=True)
class ImageFile:
    """A picture that is a file."""

    path: Path

    @property
    def place(self) -> str:
        return str(self.path)

    def read(self) -> Pixels:
        return read_image_and_alpha(self.path)

    def size(self) -> tuple[int, int]:
        from PIL import Image

        try:
            with Image.open(self.path) as image:
                is_turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                return (image.height, image.width) if is_turned else image.size
        except Exception as error:  # Pillow raises whatever it stumbles over in a damaged header
            raise VultusError(f"{self.path}: is missing, damaged or not a readable image") from error


@dataclass(frozen=True)
class Undistorted:
    """A picture as a pinhole camera would have taken it."""

    source: Picture
    lens: Lens

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def place(self) -> str:
        return self.source.place

    def read(self) -> Pixels:
        color, alpha = self.source.read()
        return self.lens.undistort(color), None if alpha is None else self.lens.undistort(alpha)

    def size(self) -> tuple[int, int]:
        return self.source.size()


@dataclass(eq=False)
class Film:
    """A video whose frames are read by number; fast as long as the numbers increase."""

    path: Path
    _reader: VideoReader | None = field(default=None, repr=False)
    _frames: Iterator[VideoFrame] | None = field(default=None, repr=False)
    _last: VideoFrame | None = field(default=None, repr=False)

    @property
    def reader(self) -> VideoReader:
        if self._reader is None:
            self._reader = VideoReader(self.path)
        return self._reader

    def frame(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Raises VultusError: not a video, or it has no such frame."""
        if self._frames is None or self._last is None or index < self._last.index:
            self._frames, self._last = iter(self.reader), None
        while self._last is None or self._last.index < index:
            self._last = next(self._frames, None)
            if self._last is None:
                self._frames = None
                why = f" ({self.reader.damage})" if self.reader.damage else ""
                raise VultusError(f"{self.path}: has no frame {index}{why}")
        return self._last.image


@dataclass(frozen=True)
class FilmFrame:
    """One frame of a video."""

    film: Film
    index: int

    @property
    def path(self) -> Path:
        return self.film.path

    @property
    def place(self) -> str:
        return f"frame {self.index} of {self.path}"

    def read(self) -> Pixels:
        return self.film.frame(self.index), None

    def size(self) -> tuple[int, int]:
        info = self.film.reader.info
        return info.width, info.height
