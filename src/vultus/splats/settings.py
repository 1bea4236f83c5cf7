"""The options of splat rasterisation: the only place where they exist, saved with every avatar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vultus.errors import VultusError

LOW_PASS = 0.3
"""Variance (square pixels) added to both axes of every projected Gaussian."""
ALPHA_CUTOFF = 1.0 / 255.0
"""A Gaussian contributes nothing to a pixel where its alpha is below this."""
MIN_TRANSMITTANCE = 1e-4
"""A pixel is finished before the Gaussian that would let at most this fraction of the light through."""
FAR = 1e10
"""Gaussians beyond this depth (metres) are not drawn."""
TIGHT_SIGMAS = 3.33
"""Beyond this many standard deviations alpha is below `ALPHA_CUTOFF` for any opacity."""
TILE = 16
"""Side of a tile in pixels; visible in images only with `extent="inria"`, which cuts Gaussians at tile borders."""
UNUSABLE_CAMERA = "the camera cannot be used: its matrices hold numbers that are not finite, or are singular"


@dataclass(frozen=True)
class RasterSettings:
    """How Gaussians become pixels. A model must be rendered as it was trained, so it is saved with these.

    antialiased: multiply opacity by sqrt(det S0 / det S), the share of the blurred Gaussian's area that its own
        covariance explains (Mip-Splatting's 2D filter).
    alpha_max: largest alpha of one Gaussian at one pixel.
    near: Gaussians whose centre is closer than this (metres, along the viewing axis) are not drawn.
    extent: "tight" draws every pixel that passes the alpha cut-off; "inria" cuts each Gaussian at the 16-pixel tiles
        that a square of three standard deviations touches, as the original rasteriser does.
    normalise_rotations: divide quaternions by their norm first (and differentiate through it).
    absgrad: also collect the sum over pixels of |gradient of the projected mean|, a densification signal.
    compensation_floor: smallest antialiasing factor.
    """

    antialiased: bool = False
    alpha_max: float = 0.99
    near: float = 0.01
    extent: Literal["tight", "inria"] = "tight"
    normalise_rotations: bool = True
    absgrad: bool = False
    compensation_floor: float = 0.005

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha_max < 1.0:
            raise VultusError(f"alpha_max is {self.alpha_max}; it must lie strictly between 0 and 1")
        if not self.near > 0.0:
            raise VultusError(f"near is {self.near} m; it must be positive")
        if self.extent not in ("tight", "inria"):
            raise VultusError(f"extent is {self.extent!r}; it must be 'tight' or 'inria'")
        if not 0.0 <= self.compensation_floor <= 1.0:
            raise VultusError(f"compensation_floor is {self.compensation_floor}; it must lie between 0 and 1")


VULTUS = RasterSettings()
"""What Vultus trains with; renders the same images as gsplat 1.6."""
GSPLAT_1_5 = RasterSettings(alpha_max=0.999, compensation_floor=0.0)
"""The images of gsplat 1.0 to 1.5.3."""
INRIA = RasterSettings(near=0.2, extent="inria", normalise_rotations=False)
"""The images of the rasteriser published with 3D Gaussian Splatting (centred principal point)."""
