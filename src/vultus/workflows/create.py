"""From a photo or a video to an avatar with pictures to look at: track, train, preview; resumable at every stage."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Sequence
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
    """Head model: builtin, or the path of a model file or folder."""
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
    source: Path | Sequence[Path],
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
        source: the photo or video; for one-shot avatars also several photos of the person.
        consent: what the person agreed to, for the avatar's `consent`; None: as it is.
        overwrite: start afresh if `output` holds a run of another input or other settings.

    Raises:
        VultusError: the input cannot be used, or `output` belongs to a run of something else (see `overwrite`).
    """
    from vultus.heads.load import load_head
    from vultus.tracking.detectors import mediapipe_detector

    sources = [Path(source)] if isinstance(source, str | Path) else [Path(each) for each in source]
    output, settings = Path(output), settings or CreateSettings()
    if not sources:
        raise VultusError("there is nothing to make an avatar of. Give a photo or a video of one person")
    for each in sources:
        if not each.exists():
            raise VultusError(f"{each}: no such file. Give a photo or a video of one person")
        if each.is_dir():
            raise VultusError(f"{each}: is a folder. Give a photo or a video file; train a capture with `vultus train`")
    if len(sources) > 1 and settings.method != "oneshot":
        raise VultusError(
            f"--method {settings.method} takes one photo or video, not {len(sources)}; leave out the rest"
        )
    head = load_head(settings.head)
    network = _network(settings)
    mediapipe_detector().close()  # a missing landmark detector is said now, not after minutes
    _claim(output, sources, settings, overwrite)
    run = Run(output, settings.head)
    captures = _track(sources, run, settings, head, progress)
    if network is None:
        avatar = _train(captures[0], run, settings, head, consent, progress)
    else:
        avatar = _ask(network, captures, run, head, consent)
    _picture(avatar, captures[0], run, progress)
    return run


def _claim(output: Path, sources: Sequence[Path], settings: CreateSettings, overwrite: bool) -> None:
    """Write `config.yaml`, or find that the folder holds this very run already."""
    from vultus import __version__

    digests = [sha256_of(source) for source in sources]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    config = CreateConfig(", ".join(source.name for source in sources), digest, __version__, settings)
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


_OURS = ("capture", "captures", "checkpoints", "avatar", "preview.mp4", "contact_sheet.png", "metrics.jsonl")


def _clear(output: Path) -> None:
    """Remove what a run wrote, and nothing else that may lie in its folder."""
    (output / "config.yaml").unlink(missing_ok=True)
    for path in [*(output / name for name in _OURS), *output.glob("events.out.tfevents.*")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _track(
    sources: Sequence[Path], run: Run, settings: CreateSettings, head: SkinnedHead, progress: Progress
) -> list[Capture]:
    """A capture of each input."""
    from vultus.captures import open_capture
    from vultus.tracking.photos import track_photos
    from vultus.tracking.track import TrackSettings, track

    how = TrackSettings(size=settings.size, face=settings.face)
    if len(sources) > 1:
        return track_photos(sources, run.folder / "captures", head=head, settings=how, progress=progress)
    folder = run.folder / "capture"
    if (folder / "capture.json").exists():  # the last thing that tracking writes
        return [open_capture(folder, head)]
    return [track(sources[0], folder, head=head, settings=how, progress=progress)]


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
    network: tuple[OneShotModel, About], captures: Sequence[Capture], run: Run, head: SkinnedHead, consent: str | None
) -> Avatar:
    from vultus.avatars.avatar import Labels
    from vultus.avatars.oneshot import avatar_of_photo

    labels = None if consent is None else Labels(consent=consent)
    avatar = avatar_of_photo(*network, captures, head, labels=labels)
    avatar.save(run.avatar)
    return avatar


def _picture(avatar: Avatar, capture: Capture, run: Run, progress: Progress) -> None:
    from vultus.exports.preview import write_preview
    from vultus.exports.sheet import write_contact_sheet

    if not run.contact_sheet.exists():
        write_contact_sheet(avatar, run.contact_sheet, capture=capture, progress=progress)
    if not run.preview.exists():
        write_preview(avatar, run.preview, capture=capture, progress=progress)
