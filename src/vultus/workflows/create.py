"""From a photo or a video to an avatar with pictures to look at: track, train, preview; resumable at every stage."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vultus.config import from_yaml, to_yaml
from vultus.errors import VultusError
from vultus.files import sha256_of, write_bytes
from vultus.progress import Progress, silent

if TYPE_CHECKING:
    from vultus.avatars import Avatar
    from vultus.avatars.oneshot import About, OneShotModel
    from vultus.captures import Capture
    from vultus.heads.model import SkinnedHead


@dataclass(frozen=True)
class CreateSettings:
    """What `create_avatar` may be asked for. Paths and pictures aside, it decides the result."""

    preset: Literal["auto", "photo", "monocular"] = "auto"
    """How to train; auto takes photo or monocular by what the input is."""
    steps: int | None = None
    """Training steps; None: the preset's."""
    size: int = 512
    """Side of the square head crop, pixels."""
    head: str = "builtin"
    """Head model: builtin, or the path of a FLAME model file or folder."""
    face: int = 0
    """Which person to follow where there are several, the largest and most persistent first."""
    seed: int = 0
    method: Literal["rigged", "oneshot"] = "rigged"
    """Train an avatar of its own, or ask a trained one-shot network."""
    weights: str | None = None
    """The one-shot network: GAGAvatar.pt, or what `vultus train oneshot` wrote."""


@dataclass(frozen=True)
class CreateConfig:
    """What `config.yaml` of a run holds: enough to repeat it and to tell whether a run may be continued."""

    source: str
    source_sha256: str
    vultus: str
    settings: CreateSettings = field(default_factory=CreateSettings)


@dataclass(frozen=True)
class Run:
    """A finished run's files."""

    folder: Path
    head: str = "builtin"
    """Head model it was made with, as given."""

    @property
    def avatar(self) -> Path:
        return self.folder / "avatar"

    @property
    def preview(self) -> Path:
        return self.folder / "preview.mp4"

    @property
    def contact_sheet(self) -> Path:
        return self.folder / "contact_sheet.png"

    def summary(self) -> str:
        head = "" if self.head == "builtin" else f" --head {shlex.quote(self.head)}"
        return "\n".join(
            [
                f"avatar         {self.avatar}",
                f"preview        {self.preview}",
                f"contact sheet  {self.contact_sheet}",
                f"next           vultus view {self.avatar}{head}",
                f"               vultus animate {self.avatar}{head} --driver builtin:talking -o talking.mp4",
            ]
        )


def create_avatar(
    source: Path,
    output: Path,
    settings: CreateSettings | None = None,
    *,
    consent: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Run:
    """Make an avatar from a photo or a video of one person.

    Called again after an interruption, by Ctrl-C or a kill at any moment, it goes on from what is on the disk; called
    again after success it returns at once. `output` holds one run: of one input with one set of settings.

    Args:
        consent: what the person agreed to, for the avatar's `consent`; None: as it is.
        overwrite: start afresh if `output` holds a run of another input or other settings.

    Raises:
        VultusError: the input cannot be used, or `output` belongs to a run of something else (see `overwrite`).
    """
    from vultus.heads.load import load_head
    from vultus.tracking.detectors import mediapipe_detector

    source, output = Path(source), Path(output)
    settings = settings or CreateSettings()
    if not source.exists():
        raise VultusError(f"{source}: no such file. Give a photo or a video of one person")
    if source.is_dir():
        raise VultusError(f"{source}: is a folder. Give a photo or a video file; train a capture with `vultus train`")
    head = load_head(settings.head)
    network = _network(settings)
    mediapipe_detector().close()  # a missing landmark detector is said now, not after minutes
    _claim(output, source, settings, overwrite)
    run = Run(output, settings.head)
    capture = _track(source, run, settings, head, progress)
    if network is None:
        avatar = _train(capture, run, settings, head, consent, progress)
    else:
        avatar = _ask(network, capture, run, head, consent)
    _picture(avatar, capture, source, run, progress)
    return run


def _claim(output: Path, source: Path, settings: CreateSettings, overwrite: bool) -> None:
    """Write `config.yaml`, or find that the folder holds this very run already."""
    from vultus import __version__

    config = CreateConfig(source.name, sha256_of(source), __version__, settings)
    path = output / "config.yaml"
    if path.exists():
        previous = from_yaml(CreateConfig, path.read_text(encoding="utf-8"), str(path))
        if (previous.source_sha256, previous.settings) == (config.source_sha256, config.settings):
            return
        if not overwrite:
            raise VultusError(
                f"{output}: holds a run of {previous.source} with other settings or another input (see config.yaml). "
                "Choose another output folder, or start afresh with --overwrite"
            )
        _clear(output)
    elif any((output / name).exists() for name in _OURS):
        raise VultusError(f"{output}: holds files of ours but no config.yaml. Choose another output folder")
    write_bytes(path, to_yaml(config).encode())


_OURS = ("capture", "checkpoints", "avatar", "preview.mp4", "contact_sheet.png", "metrics.jsonl")


def _clear(output: Path) -> None:
    """Remove what a run wrote, and nothing else that may lie in its folder."""
    (output / "config.yaml").unlink(missing_ok=True)
    for path in [*(output / name for name in _OURS), *output.glob("events.out.tfevents.*")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _track(source: Path, run: Run, settings: CreateSettings, head: SkinnedHead, progress: Progress) -> Capture:
    from vultus.captures import open_capture
    from vultus.tracking.track import TrackSettings, track

    folder = run.folder / "capture"
    if (folder / "capture.json").exists():  # the last thing that tracking writes
        return open_capture(folder, head)
    return track(
        source, folder, head=head, settings=TrackSettings(size=settings.size, face=settings.face), progress=progress
    )


def _train(
    capture: Capture,
    run: Run,
    settings: CreateSettings,
    head: SkinnedHead,
    consent: str | None,
    progress: Progress,
) -> Avatar:
    from vultus.avatars.rigged import Labels, fitting_preset, preset, train

    name = fitting_preset(capture) if settings.preset == "auto" else settings.preset
    training = preset(name, steps=settings.steps, seed=settings.seed)
    labels = None if consent is None else Labels(consent=consent)
    return train(capture, run.folder, training, head=head, labels=labels, progress=progress)


def _network(settings: CreateSettings) -> tuple[OneShotModel, About] | None:
    """The one-shot network that makes the avatar; said now if it cannot be used, not after tracking."""
    if settings.method == "rigged":
        if settings.weights is not None:
            raise VultusError("--weights belongs to --method oneshot; leave it out, or add that")
        return None
    from vultus.avatars.oneshot import load_model

    if settings.weights is None:
        raise VultusError(
            "--method oneshot needs --weights: GAGAvatar.pt (with --head FLAME), or a network that `vultus train "
            "oneshot` made"
        )
    if settings.preset == "monocular" or settings.steps is not None:
        raise VultusError("--method oneshot does not train; leave out --steps and --preset")
    return load_model(settings.weights)


def _ask(
    network: tuple[OneShotModel, About], capture: Capture, run: Run, head: SkinnedHead, consent: str | None
) -> Avatar:
    from vultus.avatars.avatar import Labels
    from vultus.avatars.oneshot import avatar_of_photo

    labels = None if consent is None else Labels(consent=consent)
    avatar = avatar_of_photo(*network, capture, head, labels=labels)
    avatar.save(run.avatar)
    return avatar


def _picture(avatar: Avatar, capture: Capture, source: Path, run: Run, progress: Progress) -> None:
    from vultus.exports.preview import write_preview
    from vultus.exports.sheet import write_contact_sheet

    if not run.contact_sheet.exists():
        write_contact_sheet(avatar, run.contact_sheet, capture=capture, progress=progress)
    if not run.preview.exists():
        write_preview(avatar, run.preview, capture=capture, progress=progress)
