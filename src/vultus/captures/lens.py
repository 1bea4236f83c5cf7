"""Lens distortion: pictures of a real lens made into those of a pinhole camera with the same camera matrix.

Model: Brown-Conrady with the rational extension, as calibration tools write it (OpenCV's order of coefficients).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.errors import VultusError
from vultus.images import to_float, to_uint8

MAX_COEFFICIENTS = 8


@dataclass(frozen=True)
class Lens:
    """Camera matrix (pixels, row by row) and coefficients k1 k2 p1 p2 k3 k4 k5 k6, of which the last may be missing."""

    K: tuple[float, ...]
    coefficients: tuple[float, ...]

    @property
    def is_straight(self) -> bool:
        """Whether it distorts nothing."""
        return not any(self.coefficients)

    def distort(self, points: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 2"]:
        """Where the lens puts what a pinhole camera would have put at these pixels."""
        fx, _, cx, _, fy, cy, *_ = self.K
        k1, k2, p1, p2, k3, k4, k5, k6 = (*self.coefficients, *[0.0] * (MAX_COEFFICIENTS - len(self.coefficients)))
        x, y = (points[..., 0] - cx) / fx, (points[..., 1] - cy) / fy
        square = x * x + y * y
        radial = (1 + square * (k1 + square * (k2 + square * k3))) / (1 + square * (k4 + square * (k5 + square * k6)))
        bent_x = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)
        bent_y = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y
        return torch.stack([bent_x * fx + cx, bent_y * fy + cy], dim=-1)

    def undistort(self, image: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
        """The picture without distortion, bilinear; what the lens did not see repeats the border."""
        if self.is_straight:
            return image
        height, width = image.shape[:2]
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        seen = self.distort(torch.stack([x, y], dim=-1))
        # grid_sample counts from -1 at the left (upper) edge of the picture to 1 at its right (lower) one.
        grid = (seen / seen.new_tensor([width, height]) * 2 - 1).clamp(-2, 2)
        planes = to_float(image).permute(2, 0, 1)[None]
        straight = torch.nn.functional.grid_sample(planes, grid[None], padding_mode="border", align_corners=False)
        return to_uint8(straight[0].permute(1, 2, 0))


def lens(K: Float[Tensor, "3 3"], coefficients: list[float], where: str) -> Lens:
    """Raises VultusError: more or other coefficients than there can be."""
    if len(coefficients) > MAX_COEFFICIENTS:
        raise VultusError(
            f"{where}: has {len(coefficients)} distortion coefficients, at most {MAX_COEFFICIENTS} are known"
        )
    if not all(isinstance(c, int | float) and not isinstance(c, bool) and abs(c) < 1e3 for c in coefficients):
        raise VultusError(f"{where}: its distortion coefficients are not numbers of sensible size")
    return Lens(tuple(K.flatten().tolist()), tuple(float(c) for c in coefficients))
