"""Frames for training out of captures: every folder is one person."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vultus.avatars.oneshot.frames import Frame, FrameLike, Frames
from vultus.avatars.oneshot.framing import frame_head
from vultus.avatars.oneshot.head_space import require_skinned
from vultus.captures import Capture, View, layout_of, open_capture
from vultus.errors import VultusError
from vultus.heads.load import head_made_with
from vultus.heads.model import HeadModel, SkinnedHead

_CACHE_BYTES = 2 << 30


class CaptureFrames:
    """Captures as clips of frames, framed for the network when they are first asked for and then kept.

    Args:
        captures: one person each, all of one head model. size: side of the pictures.
    """

    def __init__(self, captures: Sequence[Capture], head: SkinnedHead, size: int, name: str) -> None:
        self.head, self.size, self.name = head, size, name
        self.captures = captures
        self.clip_names = [capture.root.name for capture in captures]
        self._views: list[tuple[int, View]] = []
        self.clips: list[list[int]] = []
        for number, capture in enumerate(captures):
            views = [view for view in capture.views if bool(capture.motion.valid[view.timestep])]
            self.clips.append(list(range(len(self._views), len(self._views) + len(views))))
            self._views += [(number, view) for view in views]
        self._kept: OrderedDict[int, Frame] = OrderedDict()
        self._room = max(1, _CACHE_BYTES // (3 * size * size))

    def frame_name(self, index: int) -> str:
        """`CAPTURE/TIMESTEP`, and `/CAMERA` where there are several."""
        number, view = self._views[index]
        camera = f"/{view.camera}" if len(self.captures[number].camera_indices) > 1 else ""
        return f"{self.clip_names[number]}/{view.timestep}{camera}"

    def frame(self, index: int) -> Frame:
        if index not in self._kept:
            number, view = self._views[index]
            capture = self.captures[number]
            image = capture.image(view, torch.zeros(3))
            params = capture.motion.params[view.timestep]
            try:
                frame = frame_head(image, torch.ones(1), params, capture.camera(view), self.head, self.size)
            except VultusError as error:
                raise VultusError(f"{view.picture.path}: {error}") from error
            self._kept[index] = frame
            if len(self._kept) > self._room:
                self._kept.popitem(last=False)
        return self._kept[index]


@dataclass(frozen=True)
class Subset:
    """Some clips of other frames."""

    whole: Frames
    chosen: Sequence[int]

    @property
    def head(self) -> HeadModel:
        return self.whole.head

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def clips(self) -> list[Sequence[int]]:
        return [self.whole.clips[clip] for clip in self.chosen]

    def frame(self, index: int) -> FrameLike:
        return self.whole.frame(index)


def open_captures(folder: str | Path, size: int, head: HeadModel | None = None) -> CaptureFrames:
    """The frames of a folder of captures (or of a single one), as pictures of `size` pixels.

    Raises:
        VultusError: see `captures_in`.
    """
    return CaptureFrames(*captures_in(folder, head), size, Path(folder).name)


def captures_in(folder: str | Path, head: HeadModel | None = None) -> tuple[list[Capture], SkinnedHead]:
    """The captures in a folder, of one person each and in the order of their names (or the one that the folder is), of
    any layout, and their head model.

    Args:
        head: the head model they were made with, where it is not the built-in one.

    Raises:
        VultusError: no captures there, one that cannot be read, or of several head models.
    """
    root = Path(folder)
    if not root.is_dir():
        raise VultusError(f"{root}: is not a folder")
    places = [root] if layout_of(root) else sorted(p for p in root.iterdir() if p.is_dir() and layout_of(p))
    if not places:
        raise VultusError(f"{root}: is no capture and holds no captures. `vultus synth` makes some")
    captures, found = [], None
    for place in places:
        capture = open_capture(place, head)
        own = require_skinned(head_made_with(place, capture.head_name, capture.head_fingerprint, head))
        if found is not None and own.fingerprint != found.fingerprint:
            raise VultusError(f"{place}: was made with another head model than {places[0]}; take one model's at a time")
        found = own
        captures.append(capture)
    assert found is not None
    return captures, found


def held_out_clips(frames: Frames, count: int) -> tuple[Subset, Subset]:
    """All clips but the last `count`, and those.

    Raises:
        VultusError: nothing would be left to train on.
    """
    total = len(frames.clips)
    if count < 0 or count >= total:
        raise VultusError(f"{count} of {total} people cannot be held out; hold out 0 to {total - 1}")
    return Subset(frames, range(total - count)), Subset(frames, range(total - count, total))
