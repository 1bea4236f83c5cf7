"""What the reader of a layout found in a folder, before anybody judged whether it fits together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vultus.cameras import Camera
from vultus.captures.capture import Capture, Landmarks, Source, SplitName, View
from vultus.captures.pictures import Picture
from vultus.errors import VultusError
from vultus.motion import HeadParams, Motion

FOREIGN_FPS = 25.0
"""Frames per second of layouts that do not say."""


@dataclass(frozen=True)
class Shot:
    """One picture that a folder names; `named_by` is the file that does."""

    timestep: int
    camera: int
    parameters: Camera
    picture: Picture
    mask: Picture | None
    named_by: Path
    split: SplitName = "train"


@dataclass(frozen=True)
class Contents:
    """All that a folder names, duplicates and missing files included. `motion` None: it has no head parameters."""

    root: Path
    layout: str
    shots: Sequence[Shot]
    motion: Motion | None = None
    fps: float = FOREIGN_FPS
    head_name: str = ""
    head_fingerprint: str = ""
    source: Source | None = None
    detections: Landmarks | None = None
    camera_names: Mapping[int, str] = field(default_factory=dict)
    over_white: bool = True
    """Whether the pictures are composited over white already."""
    without_motion: str = "it has no head parameters"
    """Why `motion` is None."""


def assembled(contents: Contents, *, needs_motion: bool = True) -> Capture:
    """The capture that a folder's contents make.

    Raises:
        VultusError: no pictures, a view named twice, missing files, a timestep without head parameters, or, with
            `needs_motion`, no head parameters at all.
    """
    root, motion = contents.root, contents.motion
    if motion is None and needs_motion:
        raise VultusError(
            f"{root}: holds pictures and cameras, but {contents.without_motion}, so that it cannot be learnt from; "
            "fit a head model to it first"
        )
    cameras: dict[tuple[int, int], Camera] = {}
    missing: list[Path] = []
    splits: dict[SplitName, set[View]] = {"train": set(), "val": set(), "test": set()}
    for shot in contents.shots:
        key = shot.timestep, shot.camera
        if key in cameras:
            raise VultusError(f"{shot.named_by}: timestep {key[0]}, camera {key[1]} occurs twice")
        if motion is not None and shot.timestep >= len(motion):
            raise VultusError(
                f"{shot.named_by}: timestep {shot.timestep} has no head parameters ({len(motion)} instants)"
            )
        missing += [part.path for part in (shot.picture, shot.mask) if part is not None and not part.path.is_file()]
        cameras[key] = shot.parameters
        splits[shot.split].add(View(*key, shot.picture, shot.mask))
    if missing:
        raise VultusError(f"{missing[0]}: is missing, with {len(missing) - 1} other files; the capture is incomplete")
    if not cameras:
        raise VultusError(f"{root}: names no picture")
    return Capture(
        root=root,
        motion=no_motion(max(timestep for timestep, _ in cameras) + 1, contents.fps) if motion is None else motion,
        views=tuple(sorted(view for views in splits.values() for view in views)),
        fps=contents.fps,
        head_name=contents.head_name,
        head_fingerprint=contents.head_fingerprint,
        source=contents.source,
        cameras=cameras,
        detections=contents.detections,
        val=frozenset(splits["val"]),
        test=frozenset(splits["test"]),
        camera_names=contents.camera_names,
        over_white=contents.over_white,
    )


def no_motion(count: int, fps: float) -> Motion:
    """The motion of `count` instants at which no head is known: parameters of no model, nowhere valid."""
    params = HeadParams(
        model="",
        identity=torch.zeros(0),
        expression=torch.zeros(count, 0),
        joints={},
        translation=torch.zeros(count, 3),
        scale=torch.ones(()),
    )
    neutral = HeadParams("", torch.zeros(0), torch.zeros(0), {}, torch.zeros(3), torch.ones(()))
    valid = torch.zeros(count, dtype=torch.bool)
    return Motion(params=params, times=torch.arange(count) / fps, neutral=neutral, valid=valid)


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Camera numbers: names that are small numbers keep them, others are counted in ascending order."""
    unique = sorted(set(names), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    small = {name: int(name) for name in unique if name.isdecimal() and len(name) <= 3}
    if len(small) == len(unique) == len(set(small.values())):
        return small
    return {name: number for number, name in enumerate(unique)}
