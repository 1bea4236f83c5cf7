"""What a landmark fit sees: one face's points over the frames of one or several cameras; and the fit's settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from vultus.tracking.rig import Rig


@dataclass(frozen=True)
class Observations:
    """Points [N, C, L, 2] of one landmark set in the pictures of C cameras, in pixels (NaN: not seen).

    `width` and `height` are of the first camera's pictures. `shots` numbers uninterrupted takes: nothing is smooth
    across a change. `weights` [N, C] in [0, 1] lowers blurred pictures and those that show the face badly. `rig` are
    the cameras; None: one that nothing is known of. A frame is used if a picture has at least 12 finite points.
    """

    points: Float64[np.ndarray, "N C L 2"]
    set_name: str
    width: int
    height: int
    shots: Int64[np.ndarray, "N"]
    weights: Float64[np.ndarray, "N C"]
    rig: Rig | None = None

    @staticmethod
    def of(points: Float64[np.ndarray, "N L D"], set_name: str, width: int, height: int) -> Observations:
        """Observations of a single take by one camera with every frame fully trusted."""
        count = len(points)
        points = np.asarray(points[:, None, :, :2], np.float64)
        return Observations(points, set_name, width, height, np.zeros(count, np.int64), np.ones((count, 1)))

    @property
    def cameras(self) -> Rig:
        """The rig, or where it is not known, one camera in front."""
        return self.rig or Rig.in_front(len(self.points), self.width, self.height)

    @property
    def seen_by(self) -> Bool[np.ndarray, "N C"]:
        """Which pictures show the face."""
        return (np.isfinite(self.points).all(-1).sum(-1) >= 12) & (self.weights > 0)

    @property
    def seen(self) -> Bool[np.ndarray, "N"]:
        """Which frames can be fitted."""
        return self.seen_by.any(-1)

    def select(self, frames: np.ndarray) -> Observations:
        """The observations of some frames."""
        return replace(
            self,
            points=self.points[frames],
            shots=self.shots[frames],
            weights=self.weights[frames],
            rig=None if self.rig is None else self.rig.select(frames),
        )


@dataclass(frozen=True)
class FitSettings:
    """Standard deviations of the priors and of the data, and what is free.

    Attributes:
        focal: focal length in pixels if known; otherwise it is estimated.
        focal_prior: expected focal length over the longer image side, and the standard deviation of its logarithm.
        free_neck: fit the neck joint; without a torso it cannot be told from the root, so it is off.
        point_sigma: how exact detected points are, in units of the distance between the outer eye corners.
        robust: residual in units of `point_sigma` from which on a point counts less and less.
        closure_sigma: the same as `point_sigma` for the gap between the lids and between the lips.
        identity_sigma: standard deviation of identity coefficients; smaller keeps closer to the mean face.
        expression_sigma: standard deviation of blendshape weights around 0.
        bias_share: how much of a point's error is the same in every frame. Such errors do not average out, so the
            priors of identity and focal length count once per `1 / bias_share` frames (0: once in all).
        smooth: weight of the second differences over time (0: every frame for itself).
        key_frames: how many frames estimate identity and focal length together.
        iterations: at most this many Levenberg-Marquardt steps per stage.
    """

    focal: float | None = None
    focal_prior: tuple[float, float] = (1.75, 0.3)
    free_neck: bool = False
    point_sigma: float = 0.02
    robust: float = 2.5
    closure_sigma: float = 0.008
    identity_sigma: float = 1.0
    expression_sigma: float = 0.4
    bias_share: float = 0.5
    smooth: float = 1.0
    key_frames: int = 48
    iterations: int = 30
