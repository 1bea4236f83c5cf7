"""Detecting in the pictures of several cameras, kept in one file per camera so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.images import to_uint8
from vultus.progress import Progress, silent
from vultus.tracking.detection import SMALLEST_FACE
from vultus.tracking.detectors import POINT_COUNTS, Detector, Face
from vultus.tracking.rig_footage import RigFootage


@dataclass(frozen=True)
class Found:
    """Points of the largest face in every picture, pixels (NaN: none), and their set."""

    points: Float64[np.ndarray, "N C L 2"]
    set_name: str


def detect_views(
    footage: RigFootage, detector: Detector, cache: Path, source_hash: str, progress: Progress = silent
) -> Found:
    """The largest face of every picture, read from `cache` where an earlier run left it.

    Raises:
        VultusError: no face in any picture, a picture cannot be read, or the cache folder not written.
    """
    key = hashlib.sha256(json.dumps([source_hash, detector.name, 1]).encode()).hexdigest()[:16]
    count, done, total = len(footage.timesteps), 0, len(footage.views)
    columns: list[tuple[str, np.ndarray] | None] = []
    for column in range(len(footage.cameras)):
        path = cache / key / f"camera_{column:02d}.npz"
        stored = _read(path, count)
        if stored is None:
            rows: list[Face | None] = [None] * count
            for instant in range(count):
                view = footage.views.get((instant, column))
                progress("detecting faces", done, total, {})
                done += view is not None
                if view is not None:
                    number = footage.timesteps[instant] * len(footage.cameras) + column
                    rows[instant] = _largest(detector.detect(to_uint8(footage.capture.image(view)), frame=number))
            stored = _as_points(rows)
            write_npz(path, set=np.array(stored[0]), points=stored[1])
        else:
            done += sum(key[1] == column for key in footage.views)
        columns.append(stored if stored[0] else None)
    progress("detecting faces", total, total, {})
    sets = {column[0] for column in columns if column is not None}
    if not sets:
        raise VultusError(
            f"{footage.capture.root}: no face was found in any picture; at least {SMALLEST_FACE:.0f} pixels of width "
            "are needed, turned towards one of the cameras"
        )
    set_name = sets.pop()
    nothing = np.full((count, POINT_COUNTS[set_name], 2), np.nan)
    return Found(np.stack([nothing if column is None else column[1] for column in columns], 1), set_name)


def _largest(faces: list[Face]) -> Face | None:
    face = max(faces, key=lambda found: found.width, default=None)
    return face if face is not None and face.width >= SMALLEST_FACE else None


def _as_points(rows: list[Face | None]) -> tuple[str, Float64[np.ndarray, "N L 2"]]:
    set_name = next((face.set_name for face in rows if face is not None), "")
    points = np.full((len(rows), POINT_COUNTS.get(set_name, 0), 2), np.nan)
    for row, face in enumerate(rows):
        if face is not None:
            points[row] = face.points[:, :2]
    return set_name, points


def _read(path: Path, count: int) -> tuple[str, Float64[np.ndarray, "N L 2"]] | None:
    """What `detect_views` left for a camera; None where that is missing or not what it leaves."""
    if not path.is_file():
        return None
    try:
        arrays = read_npz(path)
        set_name, points = str(arrays["set"]), arrays["points"].astype(np.float64)
    except (VultusError, KeyError, ValueError):
        return None
    fits = points.shape == (count, POINT_COUNTS.get(set_name, 0), 2)
    return (set_name, points) if fits else None
