"""The training losses of GAGAvatar, as functions of tensors. Images are NCHW in [0, 1], boxes (left, top, right,
bottom) in shares of the image's side."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_LIFT_WEIGHT = 10.0
_BOX_GROWTH = 1.1
_AT_ONCE = 1 << 24
"""Pairs of points compared at once where there is no tree."""


def lifting_distances(vertices: Float[Tensor, "B V 3"], points: Float[Tensor, "B Q 3"]) -> Float[Tensor, "B V"]:
    """Ten times the squared distance of each vertex to its nearest point. Gradients reach that point and the vertex;
    which one is nearest is not differentiated."""
    nearest = torch.stack([_nearest(v, p) for v, p in zip(vertices.detach(), points.detach(), strict=True)])
    chosen = points.gather(1, nearest[..., None].expand(-1, -1, 3))
    return _LIFT_WEIGHT * (vertices - chosen).square().sum(-1)


def lifting_loss(vertices: Float[Tensor, "B V 3"], points: Float[Tensor, "B Q 3"]) -> Float[Tensor, ""]:
    """Mean of `lifting_distances`: every vertex of the head model should have a lifted splat nearby."""
    return lifting_distances(vertices, points).mean()


def image_loss(
    coarse: Float[Tensor, "B 3 H W"], fine: Float[Tensor, "B 3 H W"], target: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, ""]:
    """Half the mean absolute difference of the coarse and of the fine image from the target."""
    return 0.5 * ((coarse - target).abs().mean() + (fine - target).abs().mean())


def expanded_box(box: Float[Tensor, "B 4"]) -> Float[Tensor, "B 4"]:
    """The square of 1.1 times the box's size around its middle, made smaller where it would leave the image."""
    left, top, right, bottom = box.unbind(-1)
    x, y = (left + right) / 2, (top + bottom) / 2
    side = _BOX_GROWTH * ((right - left) * (bottom - top)).clamp_min(0).sqrt()
    side = torch.stack([side, 2 * x, 2 * y, 2 * (1 - x), 2 * (1 - y)]).amin(0)
    half = side / 2
    return torch.stack([x - half, y - half, x + half, y + half], dim=-1).clamp(0, 1)


def pixel_box(box: Float[Tensor, "B 4"], size: int) -> Int[Tensor, "B 4"]:
    """A box in whole pixels, cut off towards zero."""
    return (box * size).long()


def box_crops(
    image: Float[Tensor, "B C H W"], boxes: Int[Tensor, "B 4"], size: int = 512
) -> list[Float[Tensor, "1 C size size"]]:
    """The image in each pixel box, resized; boxes without a pixel are left out."""
    crops = []
    for picture, (left, top, right, bottom) in zip(image, boxes.tolist(), strict=True):
        part = picture[None, :, top:bottom, left:right]
        if part.shape[-1] and part.shape[-2]:
            crops.append(
                torch.nn.functional.interpolate(
                    part, (size, size), mode="bilinear", align_corners=False, antialias=True
                )
            )
    return crops


def box_loss(
    coarse: Float[Tensor, "B 3 H W"],
    fine: Float[Tensor, "B 3 H W"],
    target: Float[Tensor, "B 3 H W"],
    box: Float[Tensor, "B 4"],
    size: int = 512,
) -> Float[Tensor, ""]:
    """`image_loss` of the face boxes, each resized to `size`; 0 where no box has a pixel."""
    pixels = pixel_box(expanded_box(box), target.shape[-1])
    cropped = [box_crops(image, pixels, size) for image in (coarse, fine, target)]
    if not cropped[0]:
        return coarse.new_zeros(())
    return image_loss(*(torch.cat(crops) for crops in cropped))


def _nearest(vertices: Float[Tensor, "V 3"], points: Float[Tensor, "Q 3"]) -> Int[Tensor, "V"]:
    if vertices.device.type == "cpu":
        from scipy.spatial import KDTree

        _, index = KDTree(points.numpy()).query(vertices.numpy())
        return torch.from_numpy(index).long()
    rows = max(1, _AT_ONCE // len(points))
    return torch.cat([torch.cdist(part, points).argmin(-1) for part in vertices.split(rows)])
