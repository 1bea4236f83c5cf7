"""Captures in the formats of GAGAvatar's tracker: a data set for training and driving, or a file of single pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vultus.errors import VultusError
from vultus.progress import Progress, silent

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from vultus.captures import Capture, View
    from vultus.captures.gagavatar_records import Record
    from vultus.heads.model import SkinnedHead


def write_one_shot_data(
    source: Path, output: Path, *, head: SkinnedHead | None = None, progress: Progress = silent
) -> int:
    """Write a capture, or a folder of captures of one person each, as GAGAvatar's tracker leaves its results; returns
    how many pictures that were.

    Every picture is cropped around the head as the published network wants it (1.65 times the head's box, 512 pixels,
    black behind the person), with the head parameters and the camera of focal length 12 that show the same head.
    `output` is a new or empty folder (`img_lmdb`, `optim.pkl`, `dataset.json`; of a single video also `smoothed.pkl`),
    or, if its name ends in `.pt`, a `tracked.pt` with one picture of each capture, the most frontal one. An offset of
    the head model's vertices (hair) has no place in the format and is left out. In the splits the last twentieth of the
    people, at least one, is for validation and as many for test, where there are more than two.

    Args:
        head: the model of the captures' head parameters; needed for all but the built-in one.

    Raises:
        VultusError: no captures, several head models, pictures that show too little of the head, head parameters for
            which the format has no room, or an `output` that has files in it.
    """
    from vultus.avatars.oneshot import captures_in
    from vultus.captures.gagavatar_lmdb import encode_picture, write_tracked

    captures, skinned = captures_in(source, head)
    if output.suffix.lower() == ".pt":
        return _write_pictures(captures, skinned, output, progress)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise VultusError(f"{output}: holds other files; choose a new or empty folder")
    views = [(number, view) for number, capture in enumerate(captures) for view in _usable(capture)]

    def frames() -> Iterator[tuple[str, bytes, Record]]:
        for done, (number, view) in enumerate(views):
            progress("pictures", done, len(views), {})
            record, picture = _framed(captures[number], view, skinned)
            yield _key(number, view), encode_picture(picture), record
        progress("pictures", len(views), len(views), {})

    keys: dict[int, list[str]] = {}
    for number, view in views:
        keys.setdefault(number, []).append(_key(number, view))
    people = list(keys.values())
    held = max(1, round(len(people) / 20)) if len(people) > 2 else 0
    first = len(people) - 2 * held
    splits = {
        name: [key for person in people[slice(*ends)] for key in person]
        for name, ends in (("train", (0, first)), ("val", (first, first + held)), ("test", (first + held, None)))
    }
    return write_tracked(output, frames(), skinned, splits, video=len(people) == 1 and len(people[0]) > 1)


def _usable(capture: Capture) -> list[View]:
    """The pictures of a capture in which the head was found, of its first camera."""
    views = [view for view in capture.views if bool(capture.motion.valid[view.timestep])]
    if not views:
        raise VultusError(f"{capture.root}: has no picture in which the head was found")
    camera = min(view.camera for view in views)
    return [view for view in views if view.camera == camera]


def _key(number: int, view: View) -> str:
    return f"{number:06d}_{view.timestep}"


def _framed(capture: Capture, view: View, head: SkinnedHead) -> tuple[Record, Float[Tensor, "512 512 3"]]:
    import torch

    from vultus.avatars.oneshot import frame_head
    from vultus.captures.gagavatar_records import SIZE, camera_of, record_of

    params = replace(capture.motion.params[view.timestep], offset=None)
    image = capture.image(view, torch.zeros(3))
    try:
        frame = frame_head(image, torch.ones(1), params, capture.camera(view), head, SIZE)
        record = record_of(head, frame.params, camera_of(frame.transform, SIZE), frame.box)
    except VultusError as error:
        raise VultusError(f"{capture.root}, timestep {view.timestep}: {error}") from error
    return record, frame.picture.float() / 255


def _write_pictures(captures: Sequence[Capture], head: SkinnedHead, output: Path, progress: Progress) -> int:
    import torch

    from vultus.avatars.oneshot.photo import frontality
    from vultus.captures.gagavatar import write_tracked_images
    from vultus.captures.gagavatar_records import SIZE, camera_of, params_of
    from vultus.exports.shading import shaded_mesh

    if output.exists():
        raise VultusError(f"{output}: is there already; choose another name")
    tracked = {}
    for done, capture in enumerate(captures):
        progress("pictures", done, len(captures), {})
        view = max(_usable(capture), key=lambda view: frontality(capture, view, head))
        record, picture = _framed(capture, view, head)
        name = capture.source.name if capture.source is not None else capture.root.name
        if name in tracked:
            raise VultusError(f"{capture.root}: there are two pictures called {name}, which {output.name} cannot hold")
        camera = camera_of(torch.from_numpy(record.transform_matrix), SIZE)
        with torch.no_grad():
            vertices = head.pose(params_of(head, record, name)).vertices
            shade, coverage = shaded_mesh(vertices, head.faces, camera)
        tracked[name] = record, picture, torch.lerp(picture, shade, 0.5 * coverage)
    write_tracked_images(output, tracked)
    progress("pictures", len(captures), len(captures), {})
    return len(tracked)
