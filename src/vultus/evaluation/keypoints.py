"""Average keypoint distance (AKD): how far a face's points lie from where they are in the target picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from vultus.tracking.detectors import Detector, Face, mp478_to_ibug70

_POINTS = 68
_EYE_CORNERS = (36, 45)


@dataclass(frozen=True)
class KeypointDistance:
    """Mean over iBUG's 68 points: in pixels, and as a share of the target's distance between the outer eye corners."""

    pixels: float
    eye_share: float


def keypoint_distance(
    detector: Detector,
    prediction: UInt8[np.ndarray, "H W 3"],
    target: UInt8[np.ndarray, "H W 3"],
    *,
    frame: int = 0,
) -> KeypointDistance | None:
    """The distance between the points of the target's largest face and those of the prediction's face nearest to it.

    None where the detector finds no face in either picture: such pictures have no distance, and zero would praise them.
    """
    wanted, found = detector.detect(target, frame=frame), detector.detect(prediction, frame=frame)
    if not wanted or not found:
        return None
    face = max(wanted, key=lambda face: face.width)
    other = min(found, key=lambda other: float(np.abs(np.subtract(other.box, face.box)).sum()))
    first, second = ibug_points(face), ibug_points(other)
    if first is None or second is None:
        return None
    distances = np.linalg.norm(first - second, axis=-1)
    if not np.isfinite(distances).any():
        return None
    pixels = float(np.nanmean(distances))
    eyes = float(np.linalg.norm(first[_EYE_CORNERS[0]] - first[_EYE_CORNERS[1]]))
    return KeypointDistance(pixels, pixels / eyes) if eyes > 0 else None


def ibug_points(face: Face) -> Float32[np.ndarray, "68 2"] | None:
    """iBUG's 68 points (pixels) of a face, None where it has another set of points."""
    points = mp478_to_ibug70(face.points) if face.set_name == "mp478" else face.points
    return points[:_POINTS, :2] if face.set_name in ("mp478", "ibug68", "ibug70") else None
