"""Frames to learn from: pictures of people framed as the network knows them, by clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vultus.avatars.oneshot.head_space import at_rest, head_vertices, require_skinned
from vultus.avatars.oneshot.options import UNITS
from vultus.errors import VultusError
from vultus.heads.model import HeadModel, SkinnedHead
from vultus.images.resample import resize
from vultus.motion import HeadParams
from vultus.training import shuffled_index


@dataclass(frozen=True)
class Frame:
    """A square picture of one instant, black behind the person.

    picture: sRGB, 0 to 255. params: of the head model, without pose. transform: the native camera. box: the head
    (left, top, right, bottom) in shares of the side.
    """

    picture: UInt8[Tensor, "H W 3"]
    params: HeadParams
    transform: Float[Tensor, "3 4"]
    box: Float[Tensor, "4"]


class FrameLike(Protocol):
    """Whatever has the fields of a `Frame`; readers of data sets have records of their own."""

    @property
    def picture(self) -> UInt8[Tensor, "H W 3"]: ...
    @property
    def params(self) -> HeadParams: ...
    @property
    def transform(self) -> Float[Tensor, "3 4"]: ...
    @property
    def box(self) -> Float[Tensor, "4"]: ...


class Frames(Protocol):
    """Where frames come from. clips: of one person each, the numbers of its frames in order of time."""

    @property
    def head(self) -> HeadModel: ...
    @property
    def name(self) -> str: ...
    @property
    def clips(self) -> Sequence[Sequence[int]]: ...
    def frame(self, index: int) -> FrameLike:
        """Raises VultusError where the frame is missing or broken."""
        ...


class NamedFrames(Frames, Protocol):
    """Frames that people can name: in lists of pairs, in reports. clip_names: of `clips`, in their order."""

    @property
    def clip_names(self) -> Sequence[str]: ...
    def frame_name(self, index: int) -> str:
        """Unlike any other frame's."""
        ...


@dataclass(frozen=True)
class MemoryFrames:
    """Frames that are in memory already."""

    head: SkinnedHead
    frames: Sequence[Frame]
    clips: Sequence[Sequence[int]]
    name: str = "memory"

    def frame(self, index: int) -> Frame:
        return self.frames[index]


class Targets(NamedTuple):
    """Pictures and what is known of them. Images NCHW in [0, 1]; vertices, and those of the same people at rest, in
    native units."""

    target: Float[Tensor, "B 3 T T"]
    vertices: Float[Tensor, "B V 3"]
    transform: Float[Tensor, "B 3 4"]
    box: Float[Tensor, "B 4"]
    rest: Float[Tensor, "B V 3"]

    def to(self, device: torch.device | str) -> Targets:
        return Targets(*(value.to(device) for value in self))


class Batch(NamedTuple):
    """Sources, and the `Targets` that they are to become."""

    source: Float[Tensor, "B 3 S S"]
    source_transform: Float[Tensor, "B 3 4"]
    target: Float[Tensor, "B 3 T T"]
    vertices: Float[Tensor, "B V 3"]
    transform: Float[Tensor, "B 3 4"]
    box: Float[Tensor, "B 4"]
    rest: Float[Tensor, "B V 3"]

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(value.to(device) for value in self))


def training_pairs(
    clips: Sequence[Sequence[int]], step: int, seed: int, generator: torch.Generator, count: int
) -> list[tuple[int, int]]:
    """(source, target) frames of one step: targets go through all frames in an order of their own every epoch, the
    source is another frame of the same clip, all equally likely. Clips of a single frame are left out.

    Raises:
        VultusError: no clip has two frames.
    """
    places = [(clip, place) for clip, frames in enumerate(clips) if len(frames) > 1 for place in range(len(frames))]
    if not places:
        raise VultusError("no clip has two frames: one-shot training needs several pictures of each person")
    pairs = []
    for item in range(count):
        clip, place = places[shuffled_index(seed, (step - 1) * count + item + 1, len(places))]
        frames = clips[clip]
        other = int(torch.randint(len(frames) - 1, (), generator=generator))
        pairs.append((frames[other + (other >= place)], frames[place]))
    return pairs


def held_out_pairs(clips: Sequence[Sequence[int]], *, crossed: bool = False) -> list[tuple[int, int]]:
    """(source, target) frames of the published validation: the source is the first frame of the target's clip, or of
    the next one; first frames are no targets. Clips without frames are left out; a single one has no next one."""
    sources = [frames[0] for frames in clips if frames]
    targets = [frames[1:] for frames in clips if frames]
    if crossed:
        sources = sources[1:] + sources[:1] if len(sources) > 1 else []
        targets = targets[: len(sources)]
    return [(source, target) for source, many in zip(sources, targets, strict=True) for target in many]


def collate(frames: Frames, pairs: Sequence[tuple[int, int]], source_size: int, image_size: int) -> Batch:
    """The tensors of pairs of frames; pictures are resampled to the network's sizes where they have others."""
    sources = [frames.frame(source) for source, _ in pairs]
    targets = collate_targets(frames, [target for _, target in pairs], image_size)
    return Batch(_pictures(sources, source_size), torch.stack([frame.transform for frame in sources]), *targets)


def collate_targets(frames: Frames, numbers: Sequence[int], size: int) -> Targets:
    """The tensors of frames that are only looked at."""
    found = [frames.frame(number) for number in numbers]
    head = require_skinned(frames.head)
    with torch.no_grad():
        vertices = torch.stack([head_vertices(head, frame.params) for frame in found]) * UNITS
        rest = torch.stack([head_vertices(head, at_rest(head, frame.params)) for frame in found]) * UNITS
    transforms, boxes = (torch.stack([getattr(frame, name) for frame in found]) for name in ("transform", "box"))
    return Targets(_pictures(found, size), vertices, transforms, boxes, rest)


def _pictures(frames: Sequence[FrameLike], size: int) -> Float[Tensor, "B 3 size size"]:
    pictures = [resize(frame.picture.float() / 255, size, size) for frame in frames]
    return torch.stack(pictures).movedim(-1, 1).contiguous()


def clips_of(groups: Int[Tensor, "N"]) -> list[list[int]]:
    """Clips of frames that are numbered by the clip they belong to."""
    clips: dict[int, list[int]] = {}
    for index, group in enumerate(groups.tolist()):
        clips.setdefault(group, []).append(index)
    return [clips[group] for group in sorted(clips)]
