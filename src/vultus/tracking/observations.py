"""What a landmark fit sees: one face's points over the frames of one camera, and the settings of the fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64


@dataclass(frozen=True)
class Observations:
    """Points [N, L, 2] in pixels (NaN: not seen) of one landmark set, in images of one size.

    `shots` numbers uninterrupted takes: nothing is smooth across a change. `weights` [N] in [0, 1] lowers blurred
    frames. A frame is used if at least 12 of its points are finite.
    """

    points: Float64[np.ndarray, "N L 2"]
    set_name: str
    width: int
    height: int
    shots: Int64[np.ndarray, "N"]
    weights: Float64[np.ndarray, "N"]

    @staticmethod
    def of(points: Float64[np.ndarray, "N L D"], set_name: str, width: int, height: int) -> Observations:
        """Observations of a single take with every frame fully trusted."""
        count = len(points)
        return Observations(
            np.asarray(points[..., :2], np.float64), set_name, width, height, np.zeros(count, np.int64), np.ones(count)
        )

    @property
    def seen(self) -> Bool[np.ndarray, "N"]:
        return np.isfinite(self.points).all(-1).sum(-1) >= 12

    def select(self, frames: np.ndarray) -> Observations:
        """The observations of some frames."""
        return Observations(
            self.points[frames], self.set_name, self.width, self.height, self.shots[frames], self.weights[frames]
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
