"""One-shot training data: many made-up people, a few unrelated pictures of each, in the layout of GAGAvatar."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vultus.errors import VultusError
from vultus.progress import Progress

if TYPE_CHECKING:
    from vultus.cameras import Camera
    from vultus.captures.gagavatar_records import Record
    from vultus.heads.model import SkinnedHead
    from vultus.workflows.synth import SynthSettings

_DISTANCE = (1.72, 2.0)
_MIDDLE = (0.0, 0.002, 0.0)
_HELD_OUT = 0.05
"""Share of the people in the validation and in the test split."""


def synthesize_frames(output: Path, settings: SynthSettings, head: SkinnedHead, progress: Progress) -> None:
    """Fill a folder with `img_lmdb`, `optim.pkl`, `dataset.json` and `head.json` (see `captures.gagavatar_lmdb`).

    Every person is finished in a file of its own in `output/parts` first, which an interrupted run leaves.

    Raises:
        VultusError: the folder holds something else or cannot be written to.
    """
    from vultus.captures.gagavatar_lmdb import write_tracked
    from vultus.files import read_json, write_json
    from vultus.workflows.synth import identity_of, workers

    identity = replace(settings, cameras=1, preset="people", fps=25.0, truth="motion")
    about, made = identity_of(identity, head), output / "synth.json"
    if made.is_file() and read_json(made) != about:
        raise VultusError(f"{output}: holds other pictures, of other settings; choose a new or empty folder")
    if not made.is_file() and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise VultusError(f"{output}: holds other files; choose a new or empty folder for the pictures")
    if (output / "dataset.json").is_file():
        progress("people", settings.people, settings.people, {})
        return
    write_json(made, about)
    parts = [output / "parts" / f"{number:06d}.npz" for number in range(settings.people)]
    done = sum(part.is_file() for part in parts)
    progress("people", done, settings.people, {})
    with workers() as pool:
        jobs = [
            pool.submit(_person, part, settings, settings.seed + number, head)
            for number, part in enumerate(parts)
            if not part.is_file()
        ]
        try:
            for job in as_completed(jobs):
                job.result()
                done += 1
                progress("people", done, settings.people, {})
        finally:
            for job in jobs:
                job.cancel()
    write_tracked(output, _frames(parts), head, _splits(settings))
    shutil.rmtree(output / "parts")


def _key(person: int, frame: int) -> str:
    return f"{person:06d}_{frame}"


def _splits(settings: SynthSettings) -> dict[str, list[str]]:
    """The last people are for validation and test."""
    held = max(1, round(_HELD_OUT * settings.people)) if settings.people > 2 else 0
    first = settings.people - 2 * held
    ranges = {
        "train": range(first),
        "val": range(first, first + held),
        "test": range(first + held, settings.people),
    }
    return {name: [_key(p, f) for p in people for f in range(settings.timesteps)] for name, people in ranges.items()}


def _cameras(count: int, size: int, seed: int) -> list[Camera]:
    """Cameras in front, each a little elsewhere, with the layout's long lens."""
    import torch

    from vultus.cameras import Camera, look_at
    from vultus.captures.gagavatar_records import FOCAL

    rng = np.random.default_rng([seed, 0xCA3])
    cameras = []
    base = rng.uniform(*_DISTANCE)
    for _ in range(count):
        yaw, pitch = math.radians(rng.normal(0, 6)), math.radians(rng.normal(3, 5))
        target = torch.tensor(_MIDDLE) + torch.from_numpy(rng.normal(0, 0.006, 3)).float()
        out = torch.tensor([math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
        pose = look_at(target + base * rng.uniform(0.97, 1.03) * out, target)
        cameras.append(Camera.from_focal(FOCAL * size / 2, size, size, pose))
    return cameras


def _person(part: Path, settings: SynthSettings, seed: int, head: SkinnedHead) -> None:
    """Make all pictures of one person and keep them in a file."""
    import torch

    from vultus.animation.performance import moments
    from vultus.captures.gagavatar_lmdb import encode_picture
    from vultus.captures.gagavatar_records import head_box, record_of
    from vultus.captures.studio import Studio, make_person, random_lighting
    from vultus.files import write_npz

    person = make_person(seed, head)
    studio = Studio(head, person, random_lighting(seed), wardrobe=True, size=settings.size)
    motion = moments(head, settings.timesteps, seed=seed)
    skull = _skull_vertices(head)
    pictures, records = [], []
    with torch.no_grad():
        for frame, camera in enumerate(_cameras(settings.timesteps, settings.size, seed)):
            params = replace(motion.params[frame], identity=person.identity)
            stage = studio.pose(params)
            pictures.append(encode_picture(stage.shoot(camera).over(0.0)))
            box = head_box(camera.project(stage.head_vertices[skull]), settings.size)
            records.append(record_of(head, params, camera, box))
    arrays = {name: np.stack([getattr(record, name) for record in records]) for name in vars(records[0])}
    bytes_ = np.frombuffer(b"".join(pictures), dtype=np.uint8)
    write_npz(part, pictures=bytes_, sizes=np.array([len(picture) for picture in pictures]), **arrays)


def _skull_vertices(head: SkinnedHead):
    """The vertices that make the head's box: all above the chin's height."""
    import torch

    from vultus.captures.studio.surface import anatomy_of

    return torch.nonzero(anatomy_of(head).position[:, 1] > -112)[:, 0]


def _frames(parts: list[Path]) -> Iterator[tuple[str, bytes, Record]]:
    from vultus.captures.gagavatar_records import Record
    from vultus.files import read_npz

    for number, part in enumerate(parts):
        arrays = read_npz(part)
        ends = np.cumsum(arrays["sizes"])
        content = arrays["pictures"].tobytes()
        for frame, (end, size) in enumerate(zip(ends.tolist(), arrays["sizes"].tolist(), strict=True)):
            record = Record(**{name: arrays[name][frame] for name in Record.__dataclass_fields__})
            yield _key(number, frame), content[end - size : end], record
