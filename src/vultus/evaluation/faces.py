"""The part of a picture that shows the face: what methods of different framings are compared by.

Source: GAGAvatar's protocol: the box of five face points (eyes, nose, corners of the mouth), three times as large, of
prediction and target alike, resized to 512 pixels. Its points are a detector's; ours are the tracked head model's in
the target picture, so that no face is missed. The window is a square of three times the box's longer side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.heads.model import SkinnedHead
from vultus.images.resample import Box, crop, resize
from vultus.motion import HeadParams

FACE_SIZE = 512
ENLARGED = 3.0
_EYES, _NOSE, _MOUTH = (slice(36, 42), slice(42, 48)), 30, (48, 54)


@dataclass(frozen=True)
class Faces:
    """Windows of one size, sRGB in [0, 1]. source: of the picture of the person that the prediction shows.

    people: the head parameters of the prediction's and of the target's person, on `head`; focal: of the windows, in
    pixels.
    """

    prediction: Float[Tensor, "S S 3"]
    target: Float[Tensor, "S S 3"]
    source: Float[Tensor, "S S 3"]
    people: tuple[HeadParams, HeadParams]
    head: SkinnedHead
    focal: float


def five_points(points: Float[ndarray, "68 2"]) -> Float[ndarray, "5 2"]:
    """Eye centres (the subject's right one first), tip of the nose, corners of the mouth, of iBUG's 68 points."""
    return np.stack([*(points[eye].mean(0) for eye in _EYES), points[_NOSE], *(points[i] for i in _MOUTH)])


def face_window(head: SkinnedHead, vertices: Float[Tensor, "V 3"], camera: Camera) -> Box:
    """The square around a posed head's face in a camera's picture.

    Raises:
        VultusError: the head model has no iBUG points, or the face is not in front of the camera.
    """
    if "ibug68" not in head.landmark_sets:
        raise VultusError(
            f"the head model {head.name} has no face points (ibug68), so that faces cannot be cropped. Give one with "
            "its landmark embedding, or compare whole pictures with --no-crop"
        )
    with torch.no_grad():
        points = head.landmarks(vertices, "ibug68")
        if float(camera.to_camera(points)[:, 2].min()) <= 0:
            raise VultusError("the face is not in front of the camera")
        five = five_points(camera.project(points).double().numpy())
    low, high = five.min(0), five.max(0)
    middle = (low + high) / 2
    return Box.square_around((float(middle[0]), float(middle[1])), ENLARGED * float((high - low).max()))


def shown_in(picture: Float[Tensor, "H W 3"], window: Box, size: int = FACE_SIZE) -> Float[Tensor, "size size 3"]:
    """A window of a picture, resampled; black where it reaches beyond the picture."""
    return resize(crop(picture, window), size, size)
