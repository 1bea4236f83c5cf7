"""Landmarks and masks that somebody computed before, read from files: a detector without any network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from vultus.errors import VultusError
from vultus.files import read_npz
from vultus.tracking.detectors.faces import POINT_COUNTS, Face


class StoredDetector:
    """Faces from an `.npz` and, if given, person masks from a folder of images.

    The `.npz` holds `points` [N, L, 2 or 3] in pixels (NaN where a point or a whole frame was not seen), `set` (one of
    `mp478`, `ibug68`, `ibug70`) and optionally `frame_index` [N], the video frame each row belongs to (0…N−1 if
    absent). Masks are 8-bit images named by frame number, `000012.png`.

    Raises:
        VultusError: a file is missing or does not hold what is described here.
    """

    name = "stored"
    segments_crops = False

    def __init__(self, landmarks: str | Path, masks: str | Path | None = None) -> None:
        self._path, self._masks = Path(landmarks), None if masks is None else Path(masks)
        arrays = read_npz(self._path)
        for key in ("points", "set"):
            if key not in arrays:
                raise VultusError(f"{self._path}: has no array {key!r}; expected points [N, L, 2] and set")
        self._set, points = str(arrays["set"]), arrays["points"]
        if self._set not in POINT_COUNTS:
            raise VultusError(f"{self._path}: landmark set {self._set!r} is unknown; use one of {sorted(POINT_COUNTS)}")
        if points.ndim != 3 or points.shape[1] != POINT_COUNTS[self._set] or points.shape[2] not in (2, 3):
            raise VultusError(
                f"{self._path}: points have shape {points.shape}, {self._set} needs [N, {POINT_COUNTS[self._set]}, 2]"
            )
        index = arrays.get("frame_index", np.arange(len(points)))
        if index.shape != (len(points),):
            raise VultusError(f"{self._path}: frame_index has shape {index.shape} for {len(points)} rows of points")
        self._points = {int(frame): points[row].astype(np.float32) for row, frame in enumerate(index)}
        if self._masks is not None and not self._masks.is_dir():
            raise VultusError(f"{self._masks}: is not a folder of masks named 000000.png, 000001.png, …")

    def detect(self, image: UInt8[np.ndarray, "H W 3"], *, frame: int = 0) -> list[Face]:
        points = self._points.get(frame)
        if points is None or np.isfinite(points[:, :2]).all(-1).sum() < 12:
            return []
        return [Face.from_points(points, self._set)]

    def segment(self, image: UInt8[np.ndarray, "H W 3"], *, frame: int = 0) -> Float32[np.ndarray, "H W"] | None:
        if self._masks is None:
            return None
        from PIL import Image, UnidentifiedImageError

        path = self._masks / f"{frame:06d}.png"
        try:
            with Image.open(path) as file:
                mask = np.asarray(file.convert("L"), np.float32) / 255.0
        except (OSError, UnidentifiedImageError) as error:
            raise VultusError(f"{path}: cannot be read as a mask image: {error}") from error
        if mask.shape != image.shape[:2]:
            raise VultusError(
                f"{path}: is {mask.shape[1]}x{mask.shape[0]}, its frame {image.shape[1]}x{image.shape[0]}"
            )
        return mask

    def close(self) -> None:
        """Nothing to release."""
