"""Expression and pose of a face by Vultus' own landmark fit: for those who have no weights of a published network.

Both pictures are fitted alike, each with the identity of the person it shows, so that errors the fit always makes
cancel. The figures are of the head model's own coefficients and compare only with figures of the same head model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.evaluation.faces import Faces
from vultus.heads.model import SkinnedHead
from vultus.images import to_uint8
from vultus.motion import HeadParams
from vultus.rotations import matrix_to_axis_angle
from vultus.tracking.detectors import Detector
from vultus.tracking.landmark_fit import SharedFit, fit_landmarks
from vultus.tracking.observations import Observations

_UPRIGHT = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
"""From OpenCV's axes to the head's, so that a face that looks into the camera upright has no rotation."""


@dataclass(frozen=True)
class TrackedDistance:
    """Mean absolute differences: of all expression coefficients, and of the three numbers of the head's rotation
    relative to the camera (axis-angle, radians)."""

    expression: float
    pose: float


def tracked_distance(detector: Detector, faces: Faces) -> TrackedDistance | None:
    """How far the prediction's expression and pose are from the target's; None where either has no face."""
    pictures = (to_uint8(faces.prediction), to_uint8(faces.target))
    found = [
        fitted_face(detector, picture, faces.head, person, faces.focal)
        for picture, person in zip(pictures, faces.people, strict=True)
    ]
    if found[0] is None or found[1] is None:
        return None
    (expression, pose), (wanted, wanted_pose) = found[0], found[1]
    return TrackedDistance(float((expression - wanted).abs().mean()), float((pose - wanted_pose).abs().mean()))


def fitted_face(
    detector: Detector, image: UInt8[np.ndarray, "H W 3"], head: SkinnedHead, person: HeadParams, focal: float
) -> tuple[Float[Tensor, "E"], Float[Tensor, "3"]] | None:
    """Expression and rotation of the largest face, of a known person through a known lens; None without a face."""
    faces = detector.detect(image)
    if not faces:
        return None
    face = max(faces, key=lambda face: face.width)
    height, width = image.shape[:2]
    shared = SharedFit(head.fingerprint, person.identity, focal, width, height, offset=person.offset)
    seen = Observations.of(face.points[None], face.set_name, width, height)
    if not seen.seen.any():
        return None
    fit = fit_landmarks(head, seen, shared=shared)
    rotation = head.head_to_world(fit.params)[0, :3, :3]
    turn = matrix_to_axis_angle(_UPRIGHT @ fit.camera.world_to_camera[:3, :3].double() @ rotation.double())
    return fit.params.expression[0], turn.float()
