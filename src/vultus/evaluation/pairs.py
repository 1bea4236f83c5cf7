"""Which picture of whom is driven by which picture: pairs of frames, made by rule or listed in a file.

    protocol,source,target
    self-reenactment,000003_0,000003_17       the source's frame, then the frame that drives it
    cross-reenactment,000003,000007           a clip as source: its first frame; as target: all others of its frames

Source: the protocol of GAGAvatar (Chu and Harada 2024) and the papers after it. The source is the first frame of a
clip; the other frames of the same clip drive it and are the truth (self), or those of another clip drive it (cross).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vultus.avatars.oneshot import NamedFrames, held_out_pairs
from vultus.errors import VultusError
from vultus.evaluation.protocols import evenly
from vultus.files import write_table

ReenactmentName = Literal["self-reenactment", "cross-reenactment"]
REENACTMENTS: Mapping[ReenactmentName, str] = {
    "self-reenactment": "the first frame of a clip, driven by the clip's other frames, which are the truth",
    "cross-reenactment": "the first frame of a clip, driven by frames of another clip",
}
COLUMNS = ("protocol", "source", "target")
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Pair:
    """The frames' numbers, and their and their clips' names."""

    protocol: ReenactmentName
    source: int
    target: int
    source_name: str
    target_name: str
    source_clip: str
    target_clip: str


@dataclass(frozen=True)
class PairChoice:
    """Which pairs are made of clips.

    stride: take every so-manieth frame of a clip, from its first. frames_per_clip: at most so many of those, evenly
    spread, the first (the source) among them; 0: all. seed: whom a clip's frames drive is drawn at random; None: the
    next clip, as in the published validation. most: at most so many pairs per protocol, evenly spread; 0: all.
    """

    protocols: Sequence[ReenactmentName] = tuple(REENACTMENTS)
    stride: int = 1
    frames_per_clip: int = 0
    seed: int | None = None
    most: int = 0


def default_pairs(frames: NamedFrames, choice: PairChoice) -> list[Pair]:
    """The pairs of a data set, by source. Every clip is the source of exactly one other clip's frames.

    Raises:
        VultusError: the choice's numbers mean nothing.
    """
    names = _Names(frames)
    clips = [clip for each in frames.clips if (clip := _kept(each, choice))]
    found: list[Pair] = []
    for protocol in choice.protocols:
        crossed = protocol == "cross-reenactment"
        order: Sequence[int] = range(len(clips))
        if crossed and choice.seed is not None:
            order = np.random.default_rng(choice.seed).permutation(len(clips)).tolist()
        numbers = held_out_pairs([clips[index] for index in order], crossed=crossed)
        pairs = [names.pair(protocol, source, target) for source, target in numbers]
        found += evenly(sorted(pairs, key=lambda pair: (pair.source, pair.target)), choice.most)
    return found


def read_pairs(path: str | Path, frames: NamedFrames, choice: PairChoice) -> list[Pair]:
    """The pairs that a file lists (see the module's head) under the choice's protocols; its stride and its numbers of
    frames are for lines that name a clip as target. Further columns are ignored; a pair that comes twice counts once.

    Raises:
        VultusError: not such a file, or a line that names what the data does not have.
    """
    path, names = Path(path), _Names(frames)
    found: dict[Pair, None] = {}
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        source, target = ((row.get(key) or "").strip() for key in ("source", "target"))
        first = names.frames_of(source, where)[0]
        one = target in names.by_frame
        targets = names.frames_of(target, where)
        driving = targets if one else _kept(targets, choice)[1:]
        if not driving:
            raise VultusError(f"{where}: the clip {target!r} has no frame but its first, so that it drives nobody")
        same = names.clip_of[first] == names.clip_of[targets[0]]
        protocol: ReenactmentName = "self-reenactment" if same else "cross-reenactment"
        stated = (row.get("protocol") or protocol).strip()
        if stated not in REENACTMENTS:
            raise VultusError(f"{where}: there is no protocol {stated!r}; it is {' or '.join(REENACTMENTS)}")
        if stated != protocol:
            raise VultusError(f"{where}: {source!r} and {target!r} are {'' if same else 'not '}of one clip: {protocol}")
        if protocol in choice.protocols:
            found |= dict.fromkeys(names.pair(protocol, first, index) for index in driving if index != first)
    pairs = list(found)
    kept = [evenly([pair for pair in pairs if pair.protocol == name], choice.most) for name in choice.protocols]
    return [pair for group in kept for pair in group]


def write_pairs(path: str | Path, pairs: Sequence[Pair]) -> None:
    """Write a list that `read_pairs` reads. Raises VultusError: it cannot be written."""
    write_table(path, COLUMNS, [(pair.protocol, pair.source_name, pair.target_name) for pair in pairs])


class _Names:
    """Frames and clips by name."""

    def __init__(self, frames: NamedFrames) -> None:
        self._frames = frames
        self.clip_of: dict[int, str] = {}
        self._clips: dict[str, Sequence[int]] = {}
        for name, clip in zip(frames.clip_names, frames.clips, strict=True):
            self._clips[name] = clip
            self.clip_of |= dict.fromkeys(clip, name)
        self.by_frame = {frames.frame_name(index): index for index in self.clip_of}

    def pair(self, protocol: ReenactmentName, source: int, target: int) -> Pair:
        first, second = (self._frames.frame_name(index) for index in (source, target))
        return Pair(protocol, source, target, first, second, self.clip_of[source], self.clip_of[target])

    def frames_of(self, name: str, where: str) -> Sequence[int]:
        """The frame of a name, or all of the clip of a name. Raises VultusError naming `where`."""
        if name in self.by_frame:
            return [self.by_frame[name]]
        if name not in self._clips:
            known = ", ".join([*list(self._clips)[:3], *list(self.by_frame)[:3]])
            raise VultusError(
                f"{where}: the data has no clip and no frame {name[:60]!r}; it has {known} ... Is it in another split "
                "(--split all takes every one)?"
            )
        if not self._clips[name]:
            raise VultusError(f"{where}: the clip {name!r} has no picture in which the head was found")
        return self._clips[name]


def _kept(clip: Sequence[int], choice: PairChoice) -> list[int]:
    if choice.stride < 1 or choice.frames_per_clip < 0 or choice.frames_per_clip == 1 or choice.most < 0:
        raise VultusError(
            f"a stride of {choice.stride}, {choice.frames_per_clip} frames per clip and at most {choice.most} pairs "
            "make no pairs: the stride is 1 or more, a clip's frames are 2 or more (the first is the source), 0 is all"
        )
    return evenly(clip[:: choice.stride], choice.frames_per_clip)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a pair list with their numbers. Raises VultusError."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise VultusError(f"{path}: is too large for a list of pairs")
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        missing = sorted({"source", "target"} - set(reader.fieldnames or ()))
        if missing:
            raise VultusError(f"{path}: has no column {missing[0]!r}; a list of pairs begins with {','.join(COLUMNS)}")
        count = 0
        for row in reader:
            count += 1
            yield reader.line_num, {key: value for key, value in row.items() if isinstance(value, str)}
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise VultusError(f"{path}: is not a CSV file in UTF-8: {error}") from error
    if not count:
        raise VultusError(f"{path}: lists no pairs")
