"""Pictures that show how well a fit sits: beside the picture, the shaded mesh and the landmarks over it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, UInt8
from torch import Tensor

from vultus.cameras import Camera
from vultus.heads import SkinnedHead
from vultus.images import Box, VideoWriter, crop_and_resize, to_uint8
from vultus.meshes import interpolate, rasterize_mesh, vertex_normals
from vultus.progress import Progress, counted, silent

if TYPE_CHECKING:
    from vultus.tracking.landmark_fit import Fit
    from vultus.tracking.rig_footage import RigFootage

_CLAY = (0.80, 0.86, 0.92)
_SKIN_PART = 0
_DETECTED, _FITTED = (255, 40, 40), (255, 235, 60)
_OPACITY = 0.6
_MOST_SIDE_BY_SIDE, _STRIP_HEIGHT = 4, 320


def draw_overlay(
    image: UInt8[np.ndarray, "H W 3"],
    head: SkinnedHead,
    vertices: Float[Tensor, "V 3"],
    camera: Camera,
    detected: Float64[np.ndarray, "L 2"] | None,
    fitted: Float64[np.ndarray, "M 2"] | None,
) -> UInt8[np.ndarray, "H 2W 3"]:
    """The picture, and beside it the posed mesh in clay with detected points in red and the model's in yellow.

    Points are pixels of the picture; eyeballs stay uncovered, so that the gaze can be compared.
    """
    raster = rasterize_mesh(vertices, head.faces, camera)
    normals = vertex_normals(vertices, head.faces)
    shading = interpolate(normals, head.faces, raster.face_ids, raster.barycentric)
    light = torch.nn.functional.normalize(torch.tensor([0.35, 0.45, 0.85]), dim=0)
    brightness = (0.3 + 0.75 * (torch.nn.functional.normalize(shading, dim=-1) @ light).clamp(0, 1))[..., None]
    covered = raster.face_ids >= 0
    part = head.attributes.get("part")
    if part is not None:
        corner = head.faces[raster.face_ids.clamp_min(0), 0]
        covered &= part[corner] == _SKIN_PART
    opacity = _OPACITY * covered[..., None].float()
    picture = torch.from_numpy(image).float() / 255
    mixed = picture * (1 - opacity) + (brightness * torch.tensor(_CLAY)).clamp(0, 1) * opacity
    drawn = (mixed * 255).round().to(torch.uint8).numpy()
    size = max(1, round(image.shape[1] / 400))
    for points, color in ((fitted, _FITTED), (detected, _DETECTED)):
        if points is not None:
            _dots(drawn, points, color, size)
    return np.concatenate([image, drawn], axis=1)


def _dots(
    image: UInt8[np.ndarray, "H W 3"], points: Float64[np.ndarray, "L 2"], color: tuple[int, ...], size: int
) -> None:
    """Paint squares of `size` pixels into the image; points outside or not finite are left out."""
    corners = np.floor(points[np.isfinite(points).all(-1)] - (size - 1) / 2).astype(int)
    height, width = image.shape[:2]
    for dx in range(size):
        for dy in range(size):
            x, y = corners[:, 0] + dx, corners[:, 1] + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            image[y[inside], x[inside]] = color


def write_rig_overlay(
    path: Path,
    footage: RigFootage,
    head: SkinnedHead,
    fit: Fit,
    points: Float64[np.ndarray, "N C L 2"],
    valid: Bool[np.ndarray, "N"],
    progress: Progress = silent,
) -> None:
    """A video of a few cameras side by side, from one end of the rig to the other, with mesh and detected points."""
    columns = np.unique(np.linspace(0, len(footage.cameras) - 1, _MOST_SIDE_BY_SIDE).round().astype(int)).tolist()
    instants = np.flatnonzero(valid).tolist()
    with VideoWriter(path, fps=footage.capture.fps, quality=23) as video:
        for instant in counted(instants, "drawing the fit", len(instants), progress):
            vertices = head.pose(fit.params[instant]).vertices
            strip = []
            for column in columns:
                camera = footage.camera(instant, column)
                width = round(camera.width * _STRIP_HEIGHT / camera.height)
                view = footage.views.get((instant, column))
                if view is None:
                    strip.append(np.full((_STRIP_HEIGHT, width, 3), 255, np.uint8))
                    continue
                box = Box(0, 0, camera.width, camera.height)
                image, small = crop_and_resize(footage.capture.image(view), camera, box, width, _STRIP_HEIGHT)
                detected = points[instant, column] * (_STRIP_HEIGHT / camera.height)
                drawn = draw_overlay(to_uint8(image), head, vertices, small, detected, None)
                strip.append(drawn[:, width:])
            video.write(np.concatenate(strip, axis=1))
