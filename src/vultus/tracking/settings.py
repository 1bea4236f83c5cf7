"""How footage is tracked, as the user says it, and what the stages take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vultus.errors import VultusError


@dataclass(frozen=True)
class TrackSettings:
    """How footage is tracked.

    Attributes:
        size: width and height of the capture's pictures in pixels.
        first: number of the first video frame used, counted from 0.
        last: number of the last video frame used; None is the end.
        limit: at most this many frames.
        face: which person, counted from 0, the largest and most persistent first.
        focal: focal length in pixels of the footage if known; else a photo's metadata, else it is estimated.
        smooth: how strongly movement is smoothed over time; 0 is not at all.
        photometric: refine a video's landmark fit by the pictures themselves, and follow the torso in them.
        offsets: with several cameras, let the face's surface differ from the head model where the pictures show it.
        hair: move the scalp of the mesh out to where the hair ends, where that matches the outline better.
        overlay: write a picture or video that shows the fit over the footage.
    """

    size: int = 512
    first: int = 0
    last: int | None = None
    limit: int | None = None
    face: int = 0
    focal: float | None = None
    smooth: float = 1.0
    photometric: bool = True
    offsets: bool = False
    hair: bool = True
    overlay: bool = True

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 4096:
            raise VultusError(f"size is {self.size}; pictures of a capture have between 64 and 4096 pixels a side")
        if self.first < 0 or (self.last is not None and self.last < self.first):
            raise VultusError(f"frames {self.first} to {self.last} are no range; count from 0 and end after the start")
        if self.limit is not None and self.limit < 1:
            raise VultusError(f"limit is {self.limit}; at least one frame is needed")
        if self.face < 0:
            raise VultusError(f"face is {self.face}; people are counted from 0")
        if self.focal is not None and not self.focal > 0:
            raise VultusError(f"focal is {self.focal}; a focal length is a positive number of pixels")


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
