"""Pictures that show how well a fit sits: the mesh's outline and features and the landmarks over the footage."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, UInt8

from vultus.cameras import Camera
from vultus.heads import SkinnedHead
from vultus.motion import HeadParams

_MESH, _DETECTED, _FITTED = (70, 255, 150, 90), (255, 60, 40, 255), (255, 235, 60, 255)


def draw_overlay(
    image: UInt8[np.ndarray, "H W 3"],
    head: SkinnedHead,
    params: HeadParams,
    camera: Camera,
    detected: Float64[np.ndarray, "L 2"] | None,
    fitted: Float64[np.ndarray, "M 2"] | None,
) -> UInt8[np.ndarray, "H W 3"]:
    """The front of the posed mesh as a wire, detected points red, the model's landmarks yellow, over the picture.

    `params` has no batch dimension; points are pixels of the picture.
    """
    from PIL import Image, ImageDraw

    vertices = head.pose(params).vertices
    projected = camera.project(vertices).numpy()
    seen = camera.to_camera(vertices).numpy()
    faces = head.faces.numpy()
    a, b, c = (seen[faces[:, corner]] for corner in range(3))
    front = (np.cross(b - a, c - a) * (a + b + c)).sum(-1) < 0
    # The overlay is drawn at twice the size, so that thin lines stay thin.
    canvas = Image.fromarray(image).resize((image.shape[1] * 2, image.shape[0] * 2), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas, "RGBA")
    for triangle in projected[faces[front]] * 2:
        draw.polygon([(float(x), float(y)) for x, y in triangle], outline=_MESH)
    for points, color, size in ((fitted, _FITTED, 3.0), (detected, _DETECTED, 2.0)):
        if points is not None:
            for x, y in points[np.isfinite(points).all(-1)] * 2:
                draw.ellipse((x - size, y - size, x + size, y + size), fill=color)
    return np.asarray(canvas.convert("RGB").resize((image.shape[1], image.shape[0]), Image.Resampling.LANCZOS))


def landmark_pixels(
    head: SkinnedHead, params: HeadParams, camera: Camera, landmark_set: str
) -> Float64[np.ndarray, "M 2"]:
    """The model's own landmarks in the picture."""
    points = head.landmarks(head.pose(params).vertices, landmark_set)
    return camera.project(points).double().numpy()
