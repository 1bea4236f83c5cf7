"""Motion from face points that somebody tracked before, without the footage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.files import read_npz
from vultus.heads.model import SkinnedHead
from vultus.motion import Motion
from vultus.tracking import FitSettings, Observations, fit_landmarks
from vultus.tracking.detectors import StoredDetector
from vultus.tracking.landmark_regions import TRUSTED
from vultus.tracking.neck import turn_neck
from vultus.tracking.neutral import neutral_of
from vultus.tracking.report import MISFIT

_MAX_SIDE = 1 << 15


def read_landmark_track(path: str | Path, head: SkinnedHead, *, fps: float = 25.0) -> tuple[Motion, Camera]:
    """The motion that fits a track of points, and the camera that saw them.

    The .npz is one that `StoredDetector` reads (`points` in pixels, `set`, optional `frame_index`) and also says
    `image_size` (width, height in pixels), without which the points have no perspective; `fps` in it counts before the
    argument. Identity and focal length are estimated. Frames without a face, or that no face fits, are not valid.

    Raises:
        VultusError: not such a file, or nothing in it fits a face.
    """
    path = Path(path)
    StoredDetector(path)  # says what is wrong with points and set
    arrays = read_npz(path)
    size = arrays.get("image_size")
    if (
        size is None
        or size.shape != (2,)
        or size.dtype.kind not in "iuf"
        or not ((size > 0) & (size < _MAX_SIDE)).all()
    ):
        raise VultusError(f"{path}: does not say the picture's image_size (width, height in pixels)")
    rate = arrays.get("fps", np.array(fps))
    if rate.shape != () or rate.dtype.kind not in "iuf" or not 0 < float(rate) < 1e5:
        raise VultusError(f"{path}: fps is not a frame rate")
    points = arrays["points"]
    numbers = arrays.get("frame_index", np.arange(len(points)))
    if numbers.dtype.kind not in "iu" or (np.diff(numbers.astype(np.int64)) <= 0).any():
        raise VultusError(f"{path}: frame_index does not increase")
    if points.dtype.kind not in "iuf" or len(points) == 0:
        raise VultusError(f"{path}: points are not numbers")
    observations = Observations.of(points.astype(np.float64), str(arrays["set"]), int(size[0]), int(size[1]))
    try:
        fit = fit_landmarks(head, observations, FitSettings())
    except VultusError as error:
        raise VultusError(f"{path}: {error}") from error
    valid = torch.from_numpy(np.asarray(fit.seen) & (np.nan_to_num(fit.mean_error(TRUSTED), nan=np.inf) <= MISFIT))
    if not bool(valid.any()):
        raise VultusError(f"{path}: no face fits its points; are they pixels of a picture of image_size?")
    neutral = replace(neutral_of(fit.params, valid), identity=fit.shared.identity, offset=None)
    params = turn_neck(head, fit.params, neutral.joint("root"))
    times = torch.from_numpy((numbers - numbers[0]) / float(rate)).float()
    return Motion(params, times, neutral_of(params, valid), valid), fit.camera
