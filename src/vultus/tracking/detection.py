"""Detecting over a video: every face of every frame, kept in files so that an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.progress import Progress, silent
from vultus.tracking.detectors import Detector, Face
from vultus.tracking.footage import Footage, FootageFrame

SMALLEST_FACE = 64.0
"""Faces narrower than this many pixels carry too little to fit."""

_CHUNK = 50
_COLOR_BINS = (8, 4, 4)


@dataclass(frozen=True)
class FrameDetections:
    """What was found in one frame: its faces, its colour histogram (for cuts) and how sharp the largest face is."""

    number: int
    time: float
    faces: list[Face]
    colors: Float32[np.ndarray, "_"]
    sharpness: float


def detect_footage(
    footage: Footage, detector: Detector, cache: Path, source_hash: str, progress: Progress = silent
) -> list[FrameDetections]:
    """Detections of all frames, read from `cache` where an earlier run of the same source and detector left them.

    Raises:
        VultusError: the footage cannot be read, or the cache folder not written.
    """
    key = json.dumps([source_hash, detector.name, footage.first, footage.last, footage.limit, 2])
    cache = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
    results: list[FrameDetections] = []
    stored: list[FrameDetections] = []
    start, changed = 0, False
    for frame in footage:
        progress("detecting faces", frame.index, footage.count_estimate, {})
        if frame.index % _CHUNK == 0:
            if changed:
                _write_chunk(cache / f"{start:06d}.npz", results[start:])
            start, changed = frame.index, False
            path = cache / f"{start:06d}.npz"
            stored = _read_chunk(path) if path.is_file() else []
        position = frame.index - start
        if position < len(stored) and stored[position].number == frame.number:
            results.append(stored[position])
        else:
            results.append(_detect(frame, detector, results))
            changed = True
    if changed:
        _write_chunk(cache / f"{start:06d}.npz", results[start:])
    progress("detecting faces", len(results), len(results), {})
    return results


def _detect(frame: FootageFrame, detector: Detector, before: list[FrameDetections]) -> FrameDetections:
    faces = detector.detect(frame.image, frame=frame.number)
    if not faces and detector.segments_crops:
        last = next((result.faces for result in reversed(before[-5:]) if result.faces), [])
        faces = [found for face in last[:1] if (found := _look_again(frame, detector, face)) is not None]
    sharpness = max((_sharpness(frame.image, face) for face in faces), default=0.0)
    return FrameDetections(frame.number, frame.time, faces, color_histogram(frame.image), sharpness)


def _look_again(frame: FootageFrame, detector: Detector, face: Face) -> Face | None:
    """Search around a face of a moment ago, enlarged to twice its size."""
    left, top, right, bottom = face.box
    side = max(right - left, bottom - top)
    x0, y0 = max(int(left - side / 2), 0), max(int(top - side / 2), 0)
    crop = frame.image[y0 : int(bottom + side / 2) + 1, x0 : int(right + side / 2) + 1]
    if min(crop.shape[:2]) < 32:
        return None
    from PIL import Image

    size = (crop.shape[1] * 2, crop.shape[0] * 2)
    found = detector.detect(
        np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC)), frame=frame.number
    )
    if not found:
        return None
    points = found[0].points.copy()
    points[:, :2] = points[:, :2] / 2 + [x0, y0]
    points[:, 2:] /= 2
    return Face.from_points(points, found[0].set_name, found[0].score)


def color_histogram(image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "_"]:
    """Normalised histogram over hue, saturation and value of a thinned-out image."""
    step = max(1, min(image.shape[:2]) // 90)
    from PIL import Image

    small = np.asarray(Image.fromarray(np.ascontiguousarray(image[::step, ::step])).convert("HSV")).reshape(-1, 3)
    counts, _ = np.histogramdd(small, bins=_COLOR_BINS, range=[(0, 256)] * 3)
    return (counts / counts.sum()).astype(np.float32).ravel()


def _sharpness(image: UInt8[np.ndarray, "H W 3"], face: Face) -> float:
    """Variance of the Laplacian of the face's brightness."""
    height, width = image.shape[:2]
    left, top, right, bottom = (round(value) for value in face.box)
    crop = image[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if min(crop.shape[:2]) < 8:
        return 0.0
    grey = crop.astype(np.float32).mean(-1)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(laplacian.var())


def _write_chunk(path: Path, frames: list[FrameDetections]) -> None:
    faces = [face for frame in frames for face in frame.faces]
    arrays = {
        "number": np.array([frame.number for frame in frames]),
        "time": np.array([frame.time for frame in frames]),
        "colors": np.stack([frame.colors for frame in frames]),
        "sharpness": np.array([frame.sharpness for frame in frames]),
        "face_count": np.array([len(frame.faces) for frame in frames]),
        "score": np.array([face.score for face in faces]),
        "box": np.array([face.box for face in faces], np.float64).reshape(-1, 4),
        "set": np.array(faces[0].set_name if faces else ""),
        "points": np.stack([face.points for face in faces]) if faces else np.zeros((0, 0, 3), np.float32),
    }
    write_npz(path, **arrays)


def _read_chunk(path: Path) -> list[FrameDetections]:
    """The frames of a chunk; none where the file is not what `_write_chunk` leaves, so that they are detected anew."""
    try:
        arrays = read_npz(path)
        frames, face = [], 0
        for row, count in enumerate(arrays["face_count"]):
            faces = []
            for _ in range(int(count)):
                left, top, right, bottom = (float(value) for value in arrays["box"][face])
                points, score = arrays["points"][face], float(arrays["score"][face])
                faces.append(Face(points, str(arrays["set"]), score, (left, top, right, bottom)))
                face += 1
            number, time = int(arrays["number"][row]), float(arrays["time"][row])
            frames.append(FrameDetections(number, time, faces, arrays["colors"][row], float(arrays["sharpness"][row])))
        return frames
    except (VultusError, KeyError, IndexError, ValueError, TypeError):
        return []
