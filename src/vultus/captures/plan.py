"""A capture's cameras as a drawing, from above and from the side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.cameras import Camera

_SIDE, _SCALE = 900, 2
_PAPER, _INK, _GREY, _BODY = (255, 255, 255), (60, 64, 72), (205, 208, 214), (214, 150, 110)
_LINES = ((200, 60, 50), (60, 120, 190), (70, 150, 90), (150, 90, 170), (200, 140, 30), (50, 150, 160))
# Which world axes go right and down on the paper, and with which sign.
_AXES = {"top": ((0, 1.0), (2, 1.0), "x", "z"), "side": ((2, 1.0), (1, -1.0), "z", "y")}


def draw_cameras(
    cameras: Sequence[tuple[str, Camera]],
    view: Literal["top", "side"],
    *,
    body: Float[Tensor, "N 3"] | None = None,
    title: str = "",
) -> UInt8[np.ndarray, "900 900 3"]:
    """Cameras (unbatched, by name) as small pyramids that open where they look, with their names and a scale.

    `body` are points of what they look at. Seen from above, x goes right and z (out of the face) down; seen from the
    side, z goes right and y up.
    """
    from PIL import Image, ImageDraw, ImageFont

    (right, right_sign), (down, down_sign), right_name, down_name = _AXES[view]
    centers = torch.stack([camera.center.double() for _, camera in cameras])
    points = centers if body is None else torch.cat([centers, body.double()])

    def on_paper(where: Tensor) -> Tensor:
        return torch.stack([where[..., right] * right_sign, where[..., down] * down_sign], dim=-1)

    flat = on_paper(points)
    low, high = flat.min(0).values, flat.max(0).values
    span = max(float((high - low).max()), 1e-6)
    if len(cameras) == 1 and body is None:
        span = 1.0
    middle, scale = (low + high) / 2, 0.72 * _SIDE * _SCALE / span

    def pixel(where: Tensor) -> tuple[float, float]:
        x, y = ((on_paper(where) - middle) * scale + _SIDE * _SCALE / 2).tolist()
        return x, y

    image = Image.new("RGB", (_SIDE * _SCALE, _SIDE * _SCALE), _PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(13 * _SCALE)
    unit = 10.0 ** np.floor(np.log10(span / 2))
    _grid(draw, middle, scale, unit)
    if body is not None:
        for point in body[:: max(1, len(body) // 4000)]:
            x, y = pixel(point)
            draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=_BODY)
    many = len(cameras) > 40
    for number, (name, camera) in enumerate(cameras):
        color = _LINES[number % len(_LINES)]
        tip = camera.center.double()
        corners = [_corner(camera, x, y, 0.09 * span) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
        for one, two in zip(corners, [*corners[1:], corners[0]], strict=True):
            draw.line([pixel(tip), pixel(one), pixel(two)], fill=color, width=_SCALE)
        x, y = pixel(tip)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=color)
        if not many:
            behind = tip - (torch.stack(corners).mean(0) - tip) * 0.35
            draw.text(pixel(behind), name[:20], fill=_INK, font=font, anchor="mm")
    _legend(draw, font, title, right_name, down_name, down_sign, scale * unit, unit)
    return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))


def _corner(camera: Camera, x: float, y: float, depth: float) -> Tensor:
    """Where the ray through a corner of the picture is at a depth."""
    pixel = torch.tensor([x * camera.width, y * camera.height, 1.0], dtype=torch.float64)
    ray = torch.linalg.solve(camera.K.double(), pixel)
    pose = camera.world_to_camera.double()
    return pose[:3, :3].T @ (ray * depth - pose[:3, 3])


def _grid(draw, middle: Tensor, scale: float, unit: float) -> None:
    half = _SIDE * _SCALE / 2
    for axis in range(2):
        first = np.ceil((float(middle[axis]) - half / scale) / unit)
        for step in range(int(min(2 * half / scale / unit + 1, 200))):
            at = ((first + step) * unit - float(middle[axis])) * scale + half
            line = [(at, 0), (at, 2 * half)] if axis == 0 else [(0, at), (2 * half, at)]
            draw.line(line, fill=(240, 241, 244) if first + step else _GREY, width=_SCALE)


def _legend(draw, font, title: str, right: str, down: str, sign: float, bar: float, unit: float) -> None:
    edge, full = 24 * _SCALE, _SIDE * _SCALE
    draw.text((edge, edge), title, fill=_INK, font=font, anchor="lm")
    draw.line([(edge, full - edge), (edge + bar, full - edge)], fill=_INK, width=2 * _SCALE)
    draw.text((edge + bar / 2, full - edge - 10 * _SCALE), f"{unit:g}", fill=_INK, font=font, anchor="mm")
    arrow = "down" if sign > 0 else "up"
    draw.text((full - edge, full - edge), f"{right} right, {down} {arrow}", fill=_INK, font=font, anchor="rm")
