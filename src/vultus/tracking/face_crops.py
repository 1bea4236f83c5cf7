"""Small grey pictures of the face, cut out of footage, and what of them a surface is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped, UInt8
from torch import Tensor

from vultus.cameras import Camera
from vultus.heads import SkinnedHead
from vultus.images import Box, crop_and_resize, to_float
from vultus.images.masks import soften
from vultus.progress import Progress, counted, silent
from vultus.tracking.footage import Footage
from vultus.tracking.landmark_fit import Fit
from vultus.tracking.rig import Rig

_CHUNK = 8
"""Pictures that are worked on at once."""
CROP_SIDE, RIG_CROP_SIDE = 256, 384
"""Of a video's crops, and of those of several cameras: there, what is learnt is finer than a pixel."""


@dataclass(frozen=True)
class Crops:
    """Small pictures around the face in N frames of C cameras, of side S: grey bytes, or local contrast.

    Pixel (x, y) is at `origin + scale · (x, y)` in the footage, in pixels there. `masks` say, as bytes, what of it is
    the person, where that is known.
    """

    images: Shaped[Tensor, "N C S S"]
    origin: Float64[Tensor, "N C 2"]
    scale: Float64[Tensor, "N C"]
    masks: UInt8[Tensor, "N C S S"] | None = None

    def select(self, frames: np.ndarray) -> Crops:
        chosen = torch.from_numpy(frames)
        masks = None if self.masks is None else self.masks[chosen]
        return Crops(self.images[chosen], self.origin[chosen], self.scale[chosen], masks)

    def camera(self, rig: Rig, log_focal: float, frame: int, view: int) -> Camera:
        """The camera of one of these pictures."""
        scale, origin, side = self.scale[frame, view], self.origin[frame, view], self.images.shape[-1]
        fx, fy = (rig.focal[frame, view] * float(np.exp(log_focal)) / scale).tolist()
        cx, cy = ((rig.principal[frame, view] - origin) / scale).tolist()
        whole = rig.camera(frame, view, log_focal, side, side)
        return replace(whole, K=torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]))

    def contrast(self, fine: float, coarse: float) -> Crops:
        """What lies between two blurs (standard deviations in pixels) of grey bytes, brightness 1 being white."""

        def between(gray: Tensor, mask: Tensor | None) -> Tensor:
            difference = _blurred(gray, mask, fine) - _blurred(gray, mask, coarse)
            return difference if mask is None else mask * difference

        return self._filtered(between)

    def brightness(self, sigma: float) -> Crops:
        """Blurred grey (standard deviation in pixels), brightness 1 being white."""
        return self._filtered(lambda gray, mask: _blurred(gray, mask, sigma))

    def _filtered(self, change: Callable[[Tensor, Tensor | None], Tensor]) -> Crops:
        result = torch.empty(self.images.shape, dtype=torch.float16)
        given, made = (pictures.flatten(0, 1).split(_CHUNK) for pictures in (self.images, result))
        masks = [None] * len(given) if self.masks is None else self.masks.flatten(0, 1).split(_CHUNK)
        for images, mask, part in zip(given, masks, made, strict=True):
            gray = images[..., None].float() / 255
            part.copy_(change(gray, None if mask is None else mask[..., None].float() / 255)[..., 0])
        return replace(self, images=result)


def _blurred(gray: Tensor, mask: Tensor | None, sigma: float) -> Tensor:
    """A blur that with a mask is a mean over the person only: else the outline's contrast with what is behind would
    outdo all that is on the surface, and it is another in every picture."""
    if mask is None:
        return soften(gray, sigma)
    return soften(gray * mask, sigma) / soften(mask, sigma).clamp_min(1e-3)


def crops_of(footage: Footage, head: SkinnedHead, fit: Fit, progress: Progress = silent) -> Crops:
    """The face of every frame, grey. Frames where no face was fitted get the nearest pose's box."""
    face = head.regions["face"]
    images, boxes = [], []
    for frame in counted(footage, "cutting out faces", len(fit.seen), progress):
        points = fit.camera.project(head.pose(fit.params[frame.index]).vertices[face])
        image, place = face_crop(to_float(frame.image), fit.camera, points)
        images.append(image[None])
        boxes.append([place])
    placed = torch.tensor(boxes, dtype=torch.float64)
    return Crops(torch.stack(images), placed[..., :2], placed[..., 2])


def face_crop(
    image: Float[Tensor, "H W 3"], camera: Camera, face: Float[Tensor, "K 2"], side: int = CROP_SIDE
) -> tuple[UInt8[Tensor, "S S"], tuple[float, float, float]]:
    """A grey square with room around a face that is at these pixels; its left and top, and the size of its pixels."""
    low, high = face.amin(0), face.amax(0)
    box = Box.square_around(tuple(((low + high) / 2).tolist()), 1.7 * float((high - low).max()))
    part, _ = crop_and_resize(image, camera, box, side, side)
    gray = part @ torch.tensor([0.299, 0.587, 0.114])
    return (gray * 255).round().clamp(0, 255).to(torch.uint8), (box.left, box.top, box.width / side)
