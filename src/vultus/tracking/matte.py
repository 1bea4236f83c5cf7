"""Cutting the head out: the detector's person mask, made sharp along edges of the picture, cut off below the neck."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, UInt8
from scipy import ndimage
from torch import Tensor

from vultus.tracking.detectors import Detector

_SHARP_RADIUS, _SHARP_EPSILON = 0.012, 2e-4
_EDGE = 0.1


def person_matte(
    detector: Detector,
    image: UInt8[np.ndarray, "H W 3"],
    face_center: tuple[float, float],
    *,
    frame: int = 0,
    stored: Float32[np.ndarray, "H W"] | None = None,
) -> Float32[np.ndarray, "H W"]:
    """How much of each pixel of a head crop belongs to the person whose face is at `face_center` (x, y in pixels).

    Only the connected piece with the face is kept. A network's mask is blurry, being made at 256², so a guided filter
    moves its edge to the picture's own (He, Sun, Tang, "Guided image filtering", 2010). `stored` is a mask from a file.
    """
    mask = stored if stored is not None else detector.segment(image, frame=frame)
    if mask is None:
        return np.ones(image.shape[:2], np.float32)
    mask = _piece_with_face(mask, face_center)
    if stored is not None:
        return mask
    radius = max(2, round(_SHARP_RADIUS * max(image.shape[:2])))
    mask = sharpen(mask, image.astype(np.float32) / 255, radius)
    return without_rising_edges(_piece_with_face(mask, face_center))


def _piece_with_face(mask: Float32[np.ndarray, "H W"], face_center: tuple[float, float]) -> Float32[np.ndarray, "H W"]:
    labels, count = cast(tuple[np.ndarray, int], ndimage.label(mask > 0.5))
    if count < 2:
        return mask
    height, width = mask.shape
    x = int(np.clip(face_center[0], 0, width - 1))
    y = int(np.clip(face_center[1], 0, height - 1))
    chosen = labels[y, x] or 1 + int(np.argmax(ndimage.sum_labels(mask, labels, np.arange(1, count + 1))))
    near = ndimage.binary_dilation(labels == chosen, iterations=max(2, max(mask.shape) // 64))
    return np.where(near & ((labels == chosen) | (labels == 0)), mask, 0).astype(np.float32)


def without_rising_edges(mask: Float32[np.ndarray, "H W"], share: float = _EDGE) -> Float32[np.ndarray, "H W"]:
    """The mask less what rises again towards the left and right borders, within `share` of the width from them.

    In a crop around a head its borders cut through shoulders, and shoulders fall. What rises there stands beside the
    person, a flag or the back of a chair, or is a hand, which no head avatar has.
    """
    height, width = mask.shape
    band = max(1, round(share * width))
    rows = np.where((mask > 0.5).any(0), (mask > 0.5).argmax(0), height)
    outline = rows.copy()
    outline[:band] = np.maximum.accumulate(rows[band - 1 :: -1])[::-1]
    outline[-band:] = np.maximum.accumulate(rows[-band:])
    slack = max(2, height // 128)  # soft edges stay
    columns = np.arange(width)
    outer = (columns < band) | (columns >= width - band)
    above = np.arange(height)[:, None] < outline - slack
    return np.where(above & outer, 0, mask).astype(np.float32)


def sharpen(
    mask: Float32[np.ndarray, "H W"], image: Float32[np.ndarray, "H W 3"], radius: int, epsilon: float = _SHARP_EPSILON
) -> Float32[np.ndarray, "H W"]:
    """The mask as a locally affine function of the picture's colours: a colour guided filter (ibid., equation 19).

    `radius` in pixels, `epsilon` is a variance of colours in [0, 1]². Statistics are taken at half resolution, which
    changes nothing visible and takes a quarter of the time. Values are stretched so that 0.1 becomes 0 and 0.9 one.
    """
    height, width = mask.shape
    guide = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    planes = torch.cat([guide, torch.from_numpy(mask)[None, None]], 1)
    small = torch.nn.functional.interpolate(planes, scale_factor=0.5, mode="area")
    side = 2 * max(1, radius // 2) + 1
    color, target = small[0, :3], small[0, 3:]
    products = color[[0, 0, 0, 1, 1, 2]] * color[[0, 1, 2, 1, 2, 2]]
    stack = torch.cat([color, target, color * target, products])
    padded = torch.nn.functional.pad(stack[None], [side // 2] * 4, mode="replicate")
    mean = torch.nn.functional.avg_pool2d(padded, side, stride=1)[0]
    mean_color, mean_target = mean[:3], mean[3:4]
    covariance = mean[4:7] - mean_color * mean_target
    rows, columns = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]
    spread = mean[7:] - mean_color[rows] * mean_color[columns]
    spread[[0, 3, 5]] += epsilon
    rr, rg, rb, gg, gb, bb = spread
    # The inverse of a symmetric 3×3 matrix by its cofactors.
    inverse = torch.stack(
        [
            gg * bb - gb * gb,
            gb * rb - rg * bb,
            rg * gb - gg * rb,
            rr * bb - rb * rb,
            rb * rg - rr * gb,
            rr * gg - rg * rg,
        ]
    ) / (rr * (gg * bb - gb * gb) + rg * (gb * rb - rg * bb) + rb * (rg * gb - gg * rb))
    slope = torch.stack([(inverse[list(row)] * covariance).sum(0) for row in ((0, 1, 2), (1, 3, 4), (2, 4, 5))])
    offset = mean_target - (slope * mean_color).sum(0, keepdim=True)
    lines = torch.nn.functional.pad(torch.cat([slope, offset])[None], [side // 2] * 4, mode="replicate")
    lines = torch.nn.functional.avg_pool2d(lines, side, stride=1)
    lines = torch.nn.functional.interpolate(lines, (height, width), mode="bilinear")[0]
    refined = (lines[:3] * guide[0]).sum(0) + lines[3]
    # Far from the network's edge its word stands: colours alone do not tell a dark suit from a dark background.
    trust = ndimage.gaussian_filter(mask, radius / 2)
    result = torch.where(torch.from_numpy((trust > 0.02) & (trust < 0.98)), refined, torch.from_numpy(mask))
    return ((result - 0.1) / 0.8).clamp(0, 1).numpy()


def crop_box(
    skull: Float64[np.ndarray, "N V 2"], person: Float64[np.ndarray, "4"] | None, margin: float = 0.08
) -> tuple[float, float, float]:
    """Centre x, y and side (pixels) of the square that holds the head in all frames, with a margin.

    `skull` are projected vertices of the head; `person` is left, top, right, bottom of the hair and head in mattes.
    """
    low, high = np.percentile(skull.min(1), 2, axis=0), np.percentile(skull.max(1), 98, axis=0)
    if person is not None:
        low, high = np.minimum(low, person[:2]), np.maximum(high, [person[2], high[1]])
    center, side = (low + high) / 2, float((high - low).max()) * (1 + 2 * margin)
    return float(center[0]), float(center[1]), side


def to_tensor(mask: Float32[np.ndarray, "H W"]) -> Float[Tensor, "H W 1"]:
    return torch.from_numpy(np.ascontiguousarray(mask))[..., None]
