"""The usual mistakes in a capture's files, by name: missing, doubled, unreadable, of the wrong size, foreign masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.captures.camera_mistakes import Aim, camera_mistakes
from vultus.captures.contents import Contents, Shot
from vultus.captures.findings import Finding, some
from vultus.errors import VultusError
from vultus.progress import Progress, counted, silent

# A pixel that the mask leaves out is white in pictures over white, but for what JPEG does to edges.
_WHITE = 0.8
_MAX_STRAY = 0.03
_OUTSIDE, _INSIDE = 0.02, 0.5


@dataclass(frozen=True)
class Judgement:
    """The mistakes found, how many pictures were decoded for that, how many of these have an alpha channel and no other
    mask, and what the cameras look at (if that is known)."""

    findings: tuple[Finding, ...]
    decoded: int
    with_alpha: int
    aim: Aim | None


def find_mistakes(contents: Contents, *, pictures: int = 100, progress: Progress = silent) -> Judgement:
    """Look for the usual mistakes in a capture's files and cameras.

    The headers of all files are read and `pictures` pictures (0: all), evenly spread, are decoded.
    """
    shots = contents.shots
    findings = [*_duplicates(shots), *_missing(contents)]
    there = [shot for shot in shots if all(part.path.is_file() for part in _parts(shot))]
    sizes, good = _sizes(there, progress)
    about_cameras, aim = camera_mistakes(contents)
    chosen = _spread(good, pictures)
    unreadable, masks, with_alpha = _pixels(contents, chosen, aim if not about_cameras else None, progress)
    findings += [*_named("unreadable-image", sizes["unreadable-image"] + unreadable), *about_cameras]
    findings += [*_named("wrong-size", sizes["wrong-size"]), *_named("mask-mismatch", masks)]
    return Judgement(tuple(findings), len(chosen), with_alpha, aim)


def _named(name: str, problems: Sequence[str]) -> list[Finding]:
    return [Finding(name, some(problems))] if problems else []


def _parts(shot: Shot) -> list:
    return [part for part in (shot.picture, shot.mask) if part is not None]


def _duplicates(shots: Sequence[Shot]) -> list[Finding]:
    findings = []
    indices = Counter((shot.timestep, shot.camera) for shot in shots)
    doubled = [f"timestep {t}, camera {c}" for (t, c), count in sorted(indices.items()) if count > 1]
    if doubled:
        findings.append(Finding("duplicate-index", f"named more than once: {some(doubled)}"))
    views: dict[str, set[tuple[int, int]]] = {}
    for shot in shots:
        views.setdefault(shot.picture.place, set()).add((shot.timestep, shot.camera))
    places = [place for place, of in sorted(views.items()) if len(of) > 1]
    if places:
        findings.append(Finding("duplicate-picture", f"one picture is that of several views: {some(places)}"))
    return findings


def _missing(contents: Contents) -> list[Finding]:
    findings = []
    absent = [str(part.path) for shot in contents.shots for part in _parts(shot) if not part.path.is_file()]
    if absent:
        findings.append(Finding("missing-frames", f"{len(absent)} files are not there: {some(absent)}"))
    views = {(shot.timestep, shot.camera) for shot in contents.shots}
    timesteps, cameras = {t for t, _ in views}, {c for _, c in views}
    # An export numbers its timesteps without gaps; elsewhere an instant at which no head was found has no picture.
    motion = None if contents.layout == "gaussian-avatars" else contents.motion

    def is_excused(timestep: int) -> bool:
        return motion is not None and timestep < len(motion) and not bool(motion.valid[timestep])

    gaps = []
    if len(timesteps) > 1:
        span = range(min(timesteps), max(timesteps) + 1)
        if len(span) <= 10 * len(timesteps):
            gaps = [f"timestep {t}" for t in span if t not in timesteps and not is_excused(t)]
    # Where most cameras see most instants, those that do not are an oversight.
    if len(views) > 0.5 * len(timesteps) * len(cameras):
        grid = ((t, c) for t in sorted(timesteps) for c in sorted(cameras))
        gaps += [f"timestep {t} of camera {c}" for t, c in grid if (t, c) not in views]
    if gaps:
        findings.append(Finding("missing-frames", f"{len(gaps)} have no picture: {some(gaps)}"))
    return findings


def _sizes(shots: Sequence[Shot], progress: Progress) -> tuple[dict[str, list[str]], list[Shot]]:
    """What is wrong with the headers, and the shots with which nothing is."""
    problems: dict[str, list[str]] = {"unreadable-image": [], "wrong-size": []}
    good = []
    for shot in counted(shots, "headers", len(shots), progress):
        wanted, is_good = (shot.parameters.width, shot.parameters.height), True
        for part in _parts(shot):
            try:
                size = part.size()
            except VultusError:
                problems["unreadable-image"].append(str(part.path))
                is_good = False
                continue
            if size != wanted:
                what = f"{part.path} is {size[0]}x{size[1]}, its camera {wanted[0]}x{wanted[1]}"
                problems["wrong-size"].append(what)
                is_good = False
        if is_good:
            good.append(shot)
    return problems, good


def _spread(shots: Sequence[Shot], count: int) -> list[Shot]:
    if count <= 0 or len(shots) <= count:
        return list(shots)
    # A step that shares no factor with the number of cameras meets all of them.
    return [shots[int(place)] for place in np.linspace(0, len(shots) - 1, count)]


def _pixels(
    contents: Contents, shots: Sequence[Shot], aim: Aim | None, progress: Progress
) -> tuple[list[str], list[str], int]:
    """Pictures that cannot be decoded, those that do not fit their masks, and how many have only alpha for a mask."""
    unreadable, stray, missed, seen, with_alpha = [], [], [], 0, 0
    for shot in counted(shots, "pictures", len(shots), progress):
        try:
            color, alpha = shot.picture.read()
            stored = alpha if shot.mask is None else shot.mask.read()[0]
        except VultusError as error:
            unreadable.append(str(error))
            continue
        if stored is None or stored.shape[:2] != color.shape[:2]:
            continue
        mask = stored[..., 0] / 255.0
        with_alpha += shot.mask is None
        where = str((shot.mask or shot.picture).path)
        # What an alpha channel hides may have any colour.
        if shot.mask is not None and contents.over_white and _stray(color / 255.0, mask) > _MAX_STRAY:
            stray.append(where)
        value = None if aim is None else _at(mask, shot, aim.target(shot.timestep))
        if value is not None:
            seen += 1
            if value < _INSIDE:
                missed.append(where)
        elif not mask.any():
            missed.append(where)
    problems = []
    if stray:
        problems.append(
            f"{len(stray)} of {len(shots)} masks leave out parts of the picture that are not white (masks of other "
            f"pictures, inverted, or pictures that are not composited over white): {some(stray)}"
        )
    # One head turned out of its picture is no mistake; most masks without the head are.
    if seen and len(missed) > 0.5 * seen:
        problems.append(f"{len(missed)} of {seen} masks leave out the head; they may be inverted: {some(missed)}")
    return unreadable, problems, with_alpha


def _stray(color: np.ndarray, mask: np.ndarray) -> float:
    """Share of the picture that the mask leaves out although something is there."""
    return float(((mask < _OUTSIDE) & (color.min(-1) < _WHITE)).mean())


def _at(mask: np.ndarray, shot: Shot, target: Float[Tensor, "3"]) -> float | None:
    """The mask where the target is, None if that is outside the picture."""
    camera = shot.parameters.to(dtype=torch.float64)
    if float(camera.to_camera(target[None])[0, 2]) <= 0:
        return None
    x, y = camera.project(target[None])[0].tolist()
    if not (0 <= x < camera.width and 0 <= y < camera.height):
        return None
    reach = max(1, round(0.04 * camera.width))
    around = mask[max(0, int(y) - reach) : int(y) + reach + 1, max(0, int(x) - reach) : int(x) + reach + 1]
    return float(np.median(around))
