"""Drivers: whatever an avatar can be moved by, as a `Motion` of its head model."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vultus.animation import builtin_motions
from vultus.animation.arkit_motion import arkit_motion, read_arkit_csv
from vultus.animation.arkit_tracks import read_arkit_json, read_mediapipe_scores
from vultus.animation.conversion import convert_motion
from vultus.animation.landmark_tracks import read_landmark_track
from vultus.animation.retargeting import Sight
from vultus.captures import Capture, head_of_motion, layout_of, open_capture, read_motion
from vultus.captures.contents import FOREIGN_FPS
from vultus.captures.flame_params import is_flame
from vultus.captures.flame_tracks import (
    FlameTrack,
    is_flame_track,
    is_track_folder,
    read_flame_track,
    read_track_folder,
)
from vultus.captures.gagavatar import open_tracked, place_in_tracked
from vultus.errors import VultusError
from vultus.files import npz_names, sha256_of
from vultus.heads.load import BUILTIN, load_head
from vultus.heads.model import HeadModel, SkinnedHead
from vultus.motion import Motion
from vultus.progress import Progress, silent
from vultus.tracking.neutral import neutral_of

if TYPE_CHECKING:
    from vultus.tracking.track import TrackSettings

PREFIX = "builtin:"
BUILTIN_DRIVERS: dict[str, tuple[Callable[[HeadModel], Motion], str]] = {
    "talking": (builtin_motions.talking, "speaks to the camera, blinks, glances aside"),
    "expressions": (builtin_motions.expressions, "goes through strong expressions one by one"),
    "turn": (builtin_motions.turn, "turns the head 45 degrees to either side"),
}
"""Motions that need no file, by the name after `builtin:`, with what they show."""


@dataclass(frozen=True)
class Driver:
    """What moves an avatar.

    name: the file's name or `builtin:...`. sha256: of the file, None for built-in motions. capture: the driving
    footage itself, frame by frame, where there is some (row t of the motion is timestep t). sight: of the camera that
    saw it, in the motion's world; None where that is not known.
    """

    name: str
    motion: Motion
    sha256: str | None = None
    capture: Capture | None = None
    sight: Sight | None = None


def load_driver(
    source: str | Path,
    head: HeadModel,
    *,
    made_with: SkinnedHead | None = None,
    settings: TrackSettings | None = None,
    cache: str | Path | None = None,
    retrack: bool = False,
    fps: float | None = None,
    progress: Progress = silent,
) -> Driver:
    """Open a driver: `builtin:NAME`, a motion.npz, a capture folder, a CSV of ARKit weights (Live Link Face), a video
    or a photo; or what another program tracked:

    - FLAME parameters over time: `tracked_flame_params*.npz` of VHAP, `flame_param.npz` of a GaussianAvatars avatar, a
      folder of `00000.npz` ... of one timestep each, the output folder of the metrical tracker or of Pixel3DMM
      (`checkpoint/00000.frame` ...), `fit.npz` of CAP4D, `flame2023_tracking*.npz` of the NeRSemble benchmark;
    - codes of DECA or EMOCA: an .npz or a pickled dictionary, or EMOCA's folders of .npy files;
    - ARKit weights: LAM's driving .json, an .npy of MediaPipe's 52 scores per frame;
    - face points: an .npz of `points`, `set` and `image_size`;
    - pictures and FLAME codes of GAGAvatar's tracker: a folder with an LMDB (or FOLDER/VIDEO, one video of it), or its
      tracked.pt (or tracked.pt/NAME, one picture of it).

    FLAME tracks need a FLAME model as the avatar's head or as `made_with`. Their neutral is the median of the calmest
    frames.

    Videos and photos are tracked with `made_with`, else with `head` if it has a jaw joint, else with the built-in
    head; the result is kept in `cache` (default: `driver_cache()`) under the file's content and the settings, and found
    there the next time. A motion of another head model is converted to one of `head` (`convert_motion`).

    Args:
        made_with: the head model of the driver, where that is neither `head` nor the built-in one.
        settings: of tracking.
        retrack: track again even if the cache has the result.
        fps: rows per second of files that do not say; default: 60 for CSV without a time code, 30 for MediaPipe's
            scores, else 25.

    Raises:
        VultusError: no such driver, a file that is none of these, or one for another head model.
    """
    text = str(source)
    if text.startswith(PREFIX):
        name = text.removeprefix(PREFIX)
        if name not in BUILTIN_DRIVERS:
            raise VultusError(
                f"{text}: there is no such motion; choose {', '.join(PREFIX + n for n in BUILTIN_DRIVERS)}"
            )
        return Driver(text, BUILTIN_DRIVERS[name][0](head))
    path = Path(source)
    if (tracked := place_in_tracked(path)) is not None:
        return _upstream_driver(path, tracked[0], head, made_with, progress)
    if path.is_dir():
        if layout_of(path) is None and is_track_folder(path):
            flame = _flame(path, head, made_with)
            return _track_driver(path.name, None, read_track_folder(path, flame), flame, head, fps, progress)
        file = path / "motion.npz"
        origin = _origin(file, head, made_with) if file.is_file() else head
        capture = open_capture(path, origin)
        motion = _for_head(capture.motion, origin, head, progress)
        sight = Sight.of(capture.camera(min(capture.views)))
        return Driver(path.name, motion, capture.source.sha256 if capture.source else None, capture, sight)
    if not path.is_file():
        known = ", ".join(PREFIX + name for name in BUILTIN_DRIVERS)
        raise VultusError(f"{path}: there is no such file. A driver is a video, a photo, motion.npz, a CSV, or {known}")
    suffix = path.suffix.lower()
    names = npz_names(path) if suffix == ".npz" else set()
    if suffix in (".pkl", ".frame") or ("format" not in names and is_flame_track(names)):
        flame = _flame(path, head, made_with)
        return _track_driver(path.name, sha256_of(path), read_flame_track(path, flame), flame, head, fps, progress)
    if "format" not in names and {"points", "set"} <= names:
        fitted_with = _tracked_with(head, made_with)
        motion, camera = read_landmark_track(path, fitted_with, fps=fps or FOREIGN_FPS)
        motion = _for_head(motion, fitted_with, head, progress)
        return Driver(path.name, motion, sha256_of(path), sight=Sight.of(camera))
    if suffix == ".npz":
        origin = _origin(path, head, made_with)
        return Driver(path.name, _for_head(read_motion(path, origin), origin, head, progress), sha256_of(path))
    if suffix in (".csv", ".tsv", ".json", ".npy"):
        if suffix == ".json":
            take = read_arkit_json(path)
        elif suffix == ".npy":
            take = read_mediapipe_scores(path, fps=fps or 30.0)
        else:
            take = read_arkit_csv(path, fps=fps)
        motion = arkit_motion(head, take.weights, take.times, head_angles=take.head_angles, valid=take.valid)
        return Driver(path.name, motion, sha256_of(path))
    tracked_with = _tracked_with(head, made_with)
    folder = Path(cache) if cache is not None else driver_cache()
    driver = _tracked(path, tracked_with, settings, folder, retrack, progress)
    return replace(driver, motion=_for_head(driver.motion, tracked_with, head, progress))


def _tracked_with(head: HeadModel, made_with: SkinnedHead | None) -> SkinnedHead:
    """The head model that pictures or points are fitted with."""
    if made_with is not None:
        return made_with
    return head if isinstance(head, SkinnedHead) and "jaw" in head.joint_names else load_head(BUILTIN)


def _flame(path: Path, head: HeadModel, made_with: SkinnedHead | None) -> SkinnedHead:
    """The FLAME model that a track is of: the one given, else the avatar's. Raises VultusError."""
    for known in (made_with, head):
        if isinstance(known, SkinnedHead) and is_flame(known):
            return known
    raise VultusError(
        f"{path}: was tracked with FLAME, the avatar is on {head.name}. Say where your FLAME model is, so that "
        "the track can be converted: --driver-head PATH on the command line, made_with=load_head(PATH) in Python"
    )


def _track_driver(
    name: str,
    sha256: str | None,
    track: FlameTrack,
    flame: SkinnedHead,
    head: HeadModel,
    fps: float | None,
    progress: Progress,
) -> Driver:
    """A driver of what another program tracked, at `fps` frames per second."""
    count = track.params.batch_shape[0]
    numbers = torch.arange(count) if track.numbers is None else track.numbers - track.numbers[0]
    if bool((numbers[1:] <= numbers[:-1]).any()):
        raise VultusError(f"{name}: its frame numbers do not increase")
    valid = torch.ones(count, dtype=torch.bool)
    # Other trackers put the person into the expression as well: what a calm face has of it is the neutral.
    neutral = replace(neutral_of(track.params, valid), identity=track.params.identity, offset=track.params.offset)
    motion = Motion(track.params, numbers / (fps or FOREIGN_FPS), neutral, valid)
    sight = None if track.eye is None else Sight(track.eye, torch.tensor([0.0, 0.0, -1.0]))
    return Driver(name, _for_head(motion, flame, head, progress), sha256, sight=sight)


def _upstream_driver(
    path: Path, place: Path, head: HeadModel, made_with: SkinnedHead | None, progress: Progress
) -> Driver:
    """A driver of what GAGAvatar's tracker left: an LMDB folder or one video of it, tracked.pt or one picture of it."""
    if (place / "head.json").is_file():
        known = made_with or head
    else:
        known = _flame(place, head, made_with)
    capture = open_tracked(path, known)
    origin = next(each for each in (known, head, load_head(BUILTIN)) if each.fingerprint == capture.head_fingerprint)
    motion = capture.motion
    neutral = replace(neutral_of(motion.params, motion.valid), identity=motion.neutral.identity)
    motion = _for_head(replace(motion, neutral=neutral), origin, head, progress)
    sha256 = sha256_of(place) if place.is_file() else None
    return Driver(path.name, motion, sha256, capture, Sight.of(capture.camera(min(capture.views))))


def _origin(path: Path, head: HeadModel, made_with: SkinnedHead | None) -> HeadModel:
    """The head model of a motion file: the avatar's, the one given, or the built-in one. Raises VultusError."""
    name, fingerprint = head_of_motion(path)
    builtin = load_head(BUILTIN)
    for known in (head, made_with, builtin):
        if known is not None and known.fingerprint == fingerprint:
            return known
    raise VultusError(
        f"{path}: the motion was made with the head model {name} ({fingerprint[:12]}), the avatar with {head.name} "
        f"({head.fingerprint[:12]}). Say where the motion's head model is, so that it can be converted: --driver-head "
        "PATH on the command line, made_with=load_head(PATH) in Python"
    )


def _for_head(motion: Motion, origin: HeadModel, head: HeadModel, progress: Progress) -> Motion:
    if origin.fingerprint == head.fingerprint:
        return motion
    if not isinstance(origin, SkinnedHead) or not isinstance(head, SkinnedHead):
        raise VultusError(f"a motion of the head model {origin.name} cannot be converted to one of {head.name}")
    return convert_motion(motion, origin, head, progress=progress)


def driver_cache() -> Path:
    """Where tracked drivers are kept: `$VULTUS_CACHE`, else `vultus` in the user's cache folder, plus `drivers`."""
    own = os.environ.get("VULTUS_CACHE")
    if own:
        return Path(own) / "drivers"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vultus" / "drivers"


def _tracked(
    path: Path, head: HeadModel, settings: TrackSettings | None, cache: Path, retrack: bool, progress: Progress
) -> Driver:
    from vultus import __version__
    from vultus.tracking.track import TrackSettings, track

    if not isinstance(head, SkinnedHead):
        raise VultusError(
            f"{path}: footage cannot be tracked with the head model {head.name}; give a motion.npz instead"
        )
    settings = settings or TrackSettings(overlay=False)
    digest = sha256_of(path)
    recipe = hashlib.sha256(f"{__version__} {head.fingerprint} {settings!r}".encode()).hexdigest()
    folder = cache / f"{digest[:20]}-{recipe[:12]}"
    if retrack:
        shutil.rmtree(folder, ignore_errors=True)
    capture = _cached(folder, head)
    if capture is None:
        capture = track(path, folder, head=head, settings=settings, progress=progress)
    return Driver(path.name, capture.motion, digest, capture, Sight.of(capture.camera(min(capture.views))))


def _cached(folder: Path, head: HeadModel) -> Capture | None:
    if not (folder / "capture.json").is_file():
        return None
    try:
        return open_capture(folder, head)
    except VultusError:
        # The cache is ours to repair: whatever is broken in it is tracked anew.
        shutil.rmtree(folder, ignore_errors=True)
        return None
