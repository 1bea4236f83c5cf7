"""Training a one-shot network from pictures of many people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vultus.errors import VultusError
from vultus.progress import Progress, silent

if TYPE_CHECKING:
    from vultus.animation import Driver
    from vultus.avatars.oneshot import Frames, OneShotModel
    from vultus.heads.model import HeadModel


@dataclass(frozen=True)
class OneShotRequest:
    """What `train_oneshot` may be asked for; None takes the preset's value."""

    preset: Literal["paper", "small"] = "small"
    steps: int | None = None
    batch: int | None = None
    """Pairs of pictures per step, of all processes together."""
    seed: int | None = None
    quirks: Literal["released", "clean"] | None = None
    """Behaviour of the published network that looks accidental, or what was meant."""
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    hold_out_people: int = 0
    """The last so many people (clips) are not trained on but measured on. Data with splits of its own uses those."""
    head: str | None = None
    dinov2: Path | None = None
    perceptual: Path | None = None
    picture_code: int = 0
    """Length of the code by which pictures drive, 0: the head model's coefficients do."""
    start_from: Path | None = None
    """A network to go on with (GAGAvatar.pt, or a file or run of ours); its architecture replaces the preset's."""


def train_oneshot(
    data: Path, output: Path, request: OneShotRequest | None = None, *, progress: Progress = silent
) -> OneShotModel:
    """Train a network from a folder of captures (one person each) or of tracked pictures in an LMDB; goes on from the
    newest checkpoint in `output`. Under `torchrun` all processes train together.

    Raises:
        VultusError: the data cannot be used, or `output` holds another run.
    """
    from vultus.avatars.oneshot import load_model, preset, train
    from vultus.avatars.oneshot.head_space import network_vertices
    from vultus.heads.load import load_head

    request = request or OneShotRequest()
    head = None if request.head is None else load_head(request.head)
    start, about = (None, None) if request.start_from is None else load_model(request.start_from)
    known = preset(request.preset, vertices=1).architecture if start is None else start.architecture
    frames, validation = _open(Path(data), head, known.image_size, request.hold_out_people)
    settings = preset(
        request.preset,
        vertices=network_vertices(frames.head),
        steps=request.steps,
        batch=request.batch,
        seed=request.seed,
        quirks=request.quirks,
        precision=request.precision,
        picture_code=request.picture_code,
    )
    if start is not None and about is not None:
        if about.fingerprint not in ("", frames.head.fingerprint):
            raise VultusError(
                f"{request.start_from}: was trained with the head model {about.head}, {data} has {frames.head.name}"
            )
        if request.quirks is not None and settings.architecture.quirks != known.quirks:
            raise VultusError(f"{request.start_from}: has other quirks than {request.quirks!r}; leave --quirks out")
        code = request.picture_code or known.picture_code
        settings = replace(settings, architecture=replace(known, picture_code=code))
    return train(
        frames,
        Path(output),
        settings,
        validation=validation,
        dinov2=request.dinov2,
        perceptual=request.perceptual,
        start_from=start,
        device=usable_device(request.device),
        progress=progress,
    )


def _open(folder: Path, head: HeadModel | None, size: int, hold_out: int) -> tuple[Frames, Frames | None]:
    from vultus.avatars.oneshot import Subset, held_out_clips, open_captures

    if not (folder / "img_lmdb").is_dir():
        whole = open_captures(folder, size, head)
    else:
        from vultus.avatars.oneshot import require_skinned
        from vultus.captures.gagavatar_lmdb import TrackedPictures

        whole = TrackedPictures(folder, head)
        require_skinned(whole.head)
        if hold_out == 0 and whole.splits.get("train"):
            validation = TrackedPictures(folder, head, split="val") if whole.splits.get("val") else None
            return TrackedPictures(folder, head, split="train"), validation
    if hold_out == 0:
        return whole, None
    trained, rest = held_out_clips(whole, hold_out)
    return trained, Subset(whole, rest.chosen)


_ONLY_ONESHOT = ("batch", "hold_out_people", "quirks", "dinov2", "perceptual", "precision", "device", "picture_code")
_SHARED = ("head", "preset", "steps", "seed", "start_from")


def check_options(method: str, given: Mapping[str, object]) -> None:
    """Raise VultusError if an option of `vultus train` was given that belongs to another method."""
    for name, value in given.items():
        wrong = name in _ONLY_ONESHOT if method != "oneshot" else name not in (*_ONLY_ONESHOT, *_SHARED)
        if wrong:
            raise VultusError(f"--{name.replace('_', '-')} has no meaning for the method {method}; leave it out")
        if name == "preset" and value != "paper" and (value == "small") != (method == "oneshot"):
            raise VultusError(f"the method {method} has no preset {value!r}")


def pictured(driver: Driver, network: Path, head: HeadModel) -> Driver:
    """A driver of footage with what its face does taken from the pictures, by a network with a picture driver
    (`avatars.oneshot.picture_motion`).

    Raises:
        VultusError: the driver has no pictures, or the network no picture driver or another head model.
    """
    from vultus.avatars.oneshot import load_model, picture_motion

    if driver.capture is None:
        raise VultusError(f"{driver.name}: has no pictures to be driven by; give a video, a photo or a capture")
    model, about = load_model(network)
    if about.fingerprint not in ("", head.fingerprint):
        raise VultusError(f"{network}: was trained with the head model {about.head}, the avatar is on {head.name}")
    motion = picture_motion(model.picture_driver, driver.capture, head, model.architecture.image_size)
    return replace(driver, motion=motion)


def usable_device(name: str) -> str:
    """The name of a device that is there. Raises VultusError otherwise."""
    import os

    import torch

    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise VultusError(f"the device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return name
