"""Identity and expression by published networks whose weights the user has: ArcFace and DECA.

Faces are found and aligned by a detector's points: ArcFace's by the similarity that brings eyes, nose and corners of
the mouth to where its training had them, DECA's by a square around the 68 points. MediaPipe's points are not those of
the detectors that published figures were made with, so that figures differ a little from theirs.

Source of the template: InsightFace's alignment for 112×112 pixels. Of the crop: DECA (Feng et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.errors import VultusError
from vultus.evaluation.faces import five_points
from vultus.evaluation.keypoints import ibug_points
from vultus.files import read_weights, tensors_fingerprint
from vultus.images import to_float
from vultus.networks import arcface, deca
from vultus.tracking.detectors import Detector

# Eye centres (the subject's right one first), tip of the nose, corners of the mouth; pixel centres at whole numbers.
_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# The square is this much larger than the mean of the points' width and height.
_DECA_BOX = 1.1 * 1.25


@dataclass(frozen=True)
class ArcFaceIdentity:
    """A `FaceNetwork` for `Instruments.identity`: ArcFace's embedding of the largest face."""

    name: str
    network: arcface.ArcFace
    detector: Detector

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "512"] | None:
        points = _largest(self.detector, image)
        if points is None:
            return None
        turn, shift = similarity(five_points(points) - 0.5, _TEMPLATE)
        # Where a pixel of the aligned picture comes from: the similarity, undone.
        y, x = np.mgrid[: arcface.SIDE, : arcface.SIDE]
        source = (x + 1j * y - shift) / turn
        with torch.no_grad():
            return self.network(_sampled(image, source))[0]


@dataclass(frozen=True)
class DecaCodes:
    """A `FaceNetwork` for `Instruments.expression` or `Instruments.pose`: of DECA's codes of the largest face, its 50
    expression coefficients, or the first three of its pose, the head's rotation (axis-angle)."""

    name: str
    network: deca.DecaEncoder
    detector: Detector
    code: Literal["expression", "pose"] = "expression"

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "D"] | None:
        points = _largest(self.detector, image)
        if points is None:
            return None
        low, high = points.min(0), points.max(0)
        side = _DECA_BOX * float((high - low).mean())
        corner = (low + high) / 2 - side / 2
        y, x = np.mgrid[: deca.SIDE, : deca.SIDE]
        source = (x + 1j * y + 0.5 + 0.5j) * (side / deca.SIDE) + complex(*corner) - (0.5 + 0.5j)
        with torch.no_grad():
            code = self.network(_sampled(image, source))[self.code][0]
        return code if self.code == "expression" else code[:3]


def load_arcface(file: Path, detector: Detector) -> ArcFaceIdentity:
    """ArcFace from InsightFace's `backbone.pth` (any number of layers). Raises VultusError."""
    weights = read_weights(file)
    network = arcface.arcface_of(weights, str(file))
    return ArcFaceIdentity(f"ArcFace, weights {tensors_fingerprint(weights)[:12]}", network, detector)


def load_deca(file: Path, detector: Detector) -> DecaCodes:
    """DECA from `deca_model.tar`. Raises VultusError."""
    weights = read_weights(file)
    network = deca.deca_of(weights, str(file))
    return DecaCodes(f"DECA, weights {tensors_fingerprint(weights)[:12]}", network, detector)


def similarity(points: Float[np.ndarray, "N 2"], target: Float[np.ndarray, "N 2"]) -> tuple[complex, complex]:
    """The turn and scale `a` and the shift `b` (complex numbers) by which `a z + b` brings points nearest to a target.

    Raises:
        VultusError: the points coincide.
    """
    here, there = points @ [1, 1j], target @ [1, 1j]
    spread = here - here.mean()
    size = float((np.abs(spread) ** 2).sum())
    if not size > 1e-9:
        raise VultusError("the points of a face coincide, so that it cannot be aligned")
    turn = complex((spread.conj() * (there - there.mean())).sum() / size)
    return turn, complex(there.mean() - turn * here.mean())


def _largest(detector: Detector, image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "68 2"] | None:
    """The 68 points of the largest face, None where there is none whose points were all seen."""
    faces = detector.detect(image)
    points = ibug_points(max(faces, key=lambda face: face.width)) if faces else None
    if points is None or not np.isfinite(points).all() or (np.ptp(points, axis=0) < 1).any():
        return None
    return points.astype(np.float64)


def _sampled(image: UInt8[np.ndarray, "H W 3"], source: np.ndarray) -> Float[Tensor, "1 3 h w"]:
    """The picture at complex positions (pixel centres at whole numbers), bilinear, black outside."""
    height, width = image.shape[:2]
    grid = np.stack([(source.real + 0.5) / width, (source.imag + 0.5) / height], axis=-1) * 2 - 1
    planes = to_float(image).permute(2, 0, 1)[None]
    return torch.nn.functional.grid_sample(planes, torch.from_numpy(grid).float()[None], align_corners=False)
