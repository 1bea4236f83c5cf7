"""Several photos of one person: every one is tracked, and what they have in common is found from all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vultus.captures import Capture, open_capture
from vultus.errors import VultusError
from vultus.heads import SkinnedHead
from vultus.progress import Progress, silent
from vultus.tracking.detectors import Detector
from vultus.tracking.settings import TrackSettings
from vultus.tracking.shared_file import read_shared
from vultus.tracking.track import track


def track_photos(
    photos: Sequence[str | Path],
    output: str | Path,
    *,
    head: SkinnedHead,
    settings: TrackSettings | None = None,
    progress: Progress = silent,
    detector: Detector | None = None,
) -> list[Capture]:
    """Track photos of one person, taken by any cameras, into captures `output/001`, `output/002` and so on.

    Each is fitted by itself first. Then the person's shape, and how far the hair stands off the head model, are the
    means over the photos, and each is fitted again with them held fixed: pose, expression and focal length remain a
    photo's own. Called again after an interruption it goes on; finished captures are opened.

    Raises:
        VultusError: as `track`, or one of them is not a photo.
    """
    root = Path(output)
    if not photos:
        raise VultusError("there is no photo to track")
    folders = [root / f"{number + 1:03d}" for number in range(len(photos))]
    if all((folder / "capture.json").is_file() for folder in folders):
        return [open_capture(folder, head) for folder in folders]
    settings = settings or TrackSettings()
    alone = [root / f"{folder.name}_alone" for folder in folders]
    fits = []
    for photo, folder in zip(photos, alone, strict=True):
        capture = _tracked(photo, folder, head, replace(settings, overlay=False), progress, detector)
        if len(capture.motion) != 1:
            raise VultusError(f"{photo}: is a video; several inputs have to be photos of one person")
        fits.append(read_shared(folder, head))
    identity = torch.stack([fit.identity for fit in fits]).mean(0)
    offsets = [fit.offset for fit in fits if fit.offset is not None]
    offset = torch.stack(offsets).mean(0) if offsets else None
    captures = []
    for photo, folder, fit in zip(photos, folders, fits, strict=True):
        # Where the camera stood and what it cut out is this photo's alone.
        common = replace(fit, identity=identity, offset=offset, neutral=None, shift=None, crop=None)
        captures.append(
            track(photo, folder, head=head, settings=settings, progress=progress, shared=common, detector=detector)
        )
    for folder in alone:
        shutil.rmtree(folder, ignore_errors=True)
    return captures


def _tracked(
    photo: str | Path,
    folder: Path,
    head: SkinnedHead,
    settings: TrackSettings,
    progress: Progress,
    detector: Detector | None,
) -> Capture:
    if (folder / "capture.json").is_file():
        return open_capture(folder, head)
    return track(photo, folder, head=head, settings=settings, progress=progress, detector=detector)
