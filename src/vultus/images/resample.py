"""Cropping and resizing, of an image together with the camera that took it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cameras import Camera


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels; it may reach beyond the image."""

    left: int
    top: int
    width: int
    height: int

    @staticmethod
    def square_around(center: tuple[float, float], side: float) -> Box:
        """The square of about `side` pixels whose middle is nearest to `center` (x, y in pixels)."""
        size = max(1, round(side))
        return Box(round(center[0] - size / 2), round(center[1] - size / 2), size, size)


def crop(image: Float[Tensor, "*B H W C"], box: Box, *, fill: float = 0.0) -> Float[Tensor, "*B h w C"]:
    """The part of an image inside the box; what lies outside the image is `fill`."""
    height, width = image.shape[-3:-1]
    left, top = max(box.left, 0), max(box.top, 0)
    right, bottom = min(box.left + box.width, width), min(box.top + box.height, height)
    if left == box.left and top == box.top and right == left + box.width and bottom == top + box.height:
        return image[..., top:bottom, left:right, :]
    result = image.new_full((*image.shape[:-3], box.height, box.width, image.shape[-1]), fill)
    if right > left and bottom > top:
        rows = slice(top - box.top, bottom - box.top)
        columns = slice(left - box.left, right - box.left)
        result[..., rows, columns, :] = image[..., top:bottom, left:right, :]
    return result


def resize(image: Float[Tensor, "*B H W C"], width: int, height: int) -> Float[Tensor, "*B height width C"]:
    """Resample to another size: bilinear, anti-aliased when shrinking, corners of the image on corners."""
    if image.shape[-3:-1] == (height, width):
        return image
    flat = image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(flat, (height, width), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).reshape(*image.shape[:-3], height, width, image.shape[-1])


def crop_and_resize(
    image: Float[Tensor, "*B H W C"], camera: Camera, box: Box, width: int, height: int, *, fill: float = 0.0
) -> tuple[Float[Tensor, "*B height width C"], Camera]:
    """The box of an image at another size, and the camera that would have taken exactly that picture."""
    part = crop(image, box, fill=fill)
    seen = camera.cropped(box.left, box.top, box.width, box.height).resized(width, height)
    return resize(part, width, height), seen
