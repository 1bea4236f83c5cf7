"""From everything that was detected to one person: scene cuts, one face per frame, and why a frame has none."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64

from vultus.errors import VultusError
from vultus.tracking.detection import SMALLEST_FACE, FrameDetections
from vultus.tracking.detectors import POINT_COUNTS, Face
from vultus.tracking.landmark_regions import eye_distance

_CERTAIN_CUT, _LIKELY_CUT = 0.5, 0.15
_JUMP = 0.5
_SAME_FACE_IOU = 0.3
_FORGOTTEN_AFTER = 12


@dataclass(frozen=True)
class Selection:
    """One person's points in every frame (NaN rows where there is none) and what is wrong with frames.

    `reasons` names, by frame index, why it has no usable face: `no face`, `face too small`, `other person`.
    `weights` [N] in [0, 1] are lower for blurred frames. `face_counts` counts the people of each shot.
    """

    points: Float64[np.ndarray, "N L 2"]
    set_name: str
    shots: Int64[np.ndarray, "N"]
    weights: Float64[np.ndarray, "N"]
    reasons: dict[int, str] = field(default_factory=dict)
    face_counts: tuple[int, ...] = ()


def select_face(frames: list[FrameDetections], face: int = 0) -> Selection:
    """Follow one person: in each shot the face number `face`, counted from the largest and most persistent.

    Raises:
        VultusError: no frame has a usable face, or there is no face of that number.
    """
    shots = find_shots(frames)
    chosen: list[Face | None] = [None] * len(frames)
    reasons: dict[int, str] = {}
    counts = []
    for shot in np.unique(shots):
        members = np.flatnonzero(shots == shot)
        people = _follow([frames[index].faces for index in members])
        # A passer-by of a few frames is not a person to choose from.
        people = [person for person in people if len(person) >= 0.1 * len(members)] or people
        people.sort(key=lambda person: -sum(found.width for found in person.values()))
        counts.append(len(people))
        if face < len(people):
            for position, found in people[face].items():
                chosen[members[position]] = found
    for index, frame in enumerate(frames):
        found = chosen[index]
        if found is None:
            reasons[index] = "other person" if frame.faces else "no face"
        elif found.width < SMALLEST_FACE:
            chosen[index], reasons[index] = None, "face too small"
    _require_some(frames, chosen, reasons, face, counts)
    set_name = next(found.set_name for found in chosen if found is not None)
    points = np.full((len(frames), POINT_COUNTS[set_name], 2), np.nan)
    for index, found in enumerate(chosen):
        if found is not None and found.set_name == set_name:
            points[index] = found.points[:, :2]
    sharp = np.array([frame.sharpness for frame in frames])
    usual = np.median(sharp[[found is not None for found in chosen]])
    weights = np.clip(sharp / max(0.25 * usual, 1e-6), 0.2, 1.0) if usual > 0 else np.ones(len(frames))
    return Selection(points, set_name, shots, weights, reasons, tuple(counts))


def _require_some(
    frames: list[FrameDetections], chosen: list[Face | None], reasons: dict[int, str], face: int, counts: list[int]
) -> None:
    if any(found is not None for found in chosen):
        return
    widths = [found.width for frame in frames for found in frame.faces]
    if not widths:
        raise VultusError(
            "no face was found; use a picture in which the face is turned towards the camera, well lit and not covered"
        )
    if "face too small" in reasons.values():
        raise VultusError(
            f"the largest face is only {max(widths):.0f} pixels wide and at least {SMALLEST_FACE:.0f} are needed; "
            "use a closer or higher-resolution picture"
        )
    raise VultusError(f"there is no face number {face}: at most {max(counts)} were found, and they count from 0")


def find_shots(frames: list[FrameDetections]) -> Int64[np.ndarray, "N"]:
    """Number of the uninterrupted take that each frame belongs to.

    A cut is where the colours change at once a lot, or somewhat together with a jump of the face.
    """
    shots = np.zeros(len(frames), np.int64)
    for index in range(1, len(frames)):
        before, now = frames[index - 1], frames[index]
        change = float(np.abs(now.colors - before.colors).sum() / 2)
        cut = change > _CERTAIN_CUT or (change > _LIKELY_CUT and _jumped(before.faces, now.faces))
        shots[index] = shots[index - 1] + int(cut)
    return shots


def _jumped(before: list[Face], now: list[Face]) -> bool:
    """Whether no face continues one of the frame before."""
    if not before or not now:
        return bool(before) != bool(now)
    for old in before:
        for new in now:
            if old.set_name != new.set_name:
                continue
            moved = np.linalg.norm(np.nanmean(old.points[:, :2] - new.points[:, :2], axis=0))
            if moved < _JUMP * float(eye_distance(old.points[:, :2].astype(np.float64), old.set_name)):
                return False
    return True


def _follow(frames: list[list[Face]]) -> list[dict[int, Face]]:
    """Each person's faces by frame position, linked by overlap with where they were last seen."""
    people: list[dict[int, Face]] = []
    for position, faces in enumerate(frames):
        candidates = [
            (overlap(person[max(person)].box, face.box), number, index)
            for number, person in enumerate(people)
            if position - max(person) <= _FORGOTTEN_AFTER
            for index, face in enumerate(faces)
        ]
        taken_people: set[int] = set()
        taken_faces: set[int] = set()
        for score, number, index in sorted(candidates, reverse=True):
            if score < _SAME_FACE_IOU or number in taken_people or index in taken_faces:
                continue
            people[number][position] = faces[index]
            taken_people.add(number)
            taken_faces.add(index)
        people += [{position: face} for index, face in enumerate(faces) if index not in taken_faces]
    return people


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
