"""What a detector gives: faces with their landmark points, and how likely each pixel is part of a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

POINT_COUNTS = {"mp478": 478, "ibug68": 68, "ibug70": 70}
"""Landmark sets by name: MediaPipe's 478-point mesh with irises, iBUG's 68 points, and those with two iris centres."""


@dataclass(frozen=True)
class Face:
    """One face in one image. `points` are pixels (columns x, y and, where the detector has it, depth in pixels).

    A point the detector did not see is NaN. `box` is left, top, right, bottom in pixels.
    """

    points: Float32[np.ndarray, "L D"]
    set_name: str
    score: float
    box: tuple[float, float, float, float]

    @staticmethod
    def from_points(points: Float32[np.ndarray, "L D"], set_name: str, score: float = 1.0) -> Face:
        """A face whose box is the extent of its points."""
        low, high = np.nanmin(points[:, :2], axis=0), np.nanmax(points[:, :2], axis=0)
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        return Face(np.asarray(points, np.float32), set_name, score, box)

    @property
    def width(self) -> float:
        """Width of the box, pixels."""
        return self.box[2] - self.box[0]


@runtime_checkable
class Detector(Protocol):
    """Finds faces and people. `frame` is the number of the image in its video, 0 for a photo; most ignore it."""

    name: str

    def detect(self, image: UInt8[np.ndarray, "H W 3"], *, frame: int = 0) -> list[Face]:
        """Every face in the image, in no particular order."""
        ...

    def segment(self, image: UInt8[np.ndarray, "H W 3"], *, frame: int = 0) -> Float32[np.ndarray, "H W"] | None:
        """How likely each pixel belongs to a person, in [0, 1]; None where this detector cannot tell."""
        ...

    @property
    def segments_crops(self) -> bool:
        """Whether `segment` may be given a part of the image (a network) or only whole frames (stored masks)."""
        ...

    def close(self) -> None: ...


def mp478_to_ibug70(points: Float32[np.ndarray, "*B 478 D"]) -> Float32[np.ndarray, "*B 70 D"]:
    """iBUG's points and the two irises from MediaPipe's mesh: the mean of the listed points (specification 2.7)."""
    return np.stack([points[..., list(ids), :].mean(-2) for ids in _IBUG_FROM_MEDIAPIPE], axis=-2)


_SINGLE = {
    0: (127, 234, 93, (132, 58), (58, 172), 136, 150, 176, 152),
    9: (400, 379, 365, (397, 288), (288, 361), 323, 454, 356),
    17: (70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    27: (168, 197, 5, 4, 98, 97, 2, 326, 327),
    36: (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    48: (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    60: (78, 82, 13, 312, 308, 317, 14, 87, 468, 473),
}
_IBUG_FROM_MEDIAPIPE = tuple(
    (entry,) if isinstance(entry, int) else entry for first in sorted(_SINGLE) for entry in _SINGLE[first]
)
