"""The head model's surface as a shaded picture, to show what lies under an avatar."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.meshes import interpolate, rasterize_mesh, vertex_normals

_CLAY = (0.80, 0.82, 0.86)


def shaded_mesh(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    color: tuple[float, float, float] = _CLAY,
) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W 1"]]:
    """Colour and coverage of a smooth clay surface lit from the camera, a little from above. Not differentiable."""
    with torch.no_grad():
        double = camera.resized(2 * camera.width, 2 * camera.height)
        raster = rasterize_mesh(vertices, faces, double)
        normals = interpolate(vertex_normals(vertices, faces), faces, raster.face_ids, raster.barycentric)
        inside = (raster.face_ids >= 0)[..., None].to(vertices.dtype)
        normals = torch.nn.functional.normalize(normals, dim=-1)
        axes = camera.world_to_camera[:3, :3]
        light = torch.nn.functional.normalize(-axes[2] - 0.45 * axes[1] - 0.25 * axes[0], dim=-1)
        brightness = 0.30 + 0.70 * (normals @ light).clamp_min(0)[..., None]
        picture = brightness * torch.tensor(color) * inside
        # Averaging four pixels smooths the outline.
        picture, coverage = (
            torch.nn.functional.avg_pool2d(part.permute(2, 0, 1), 2).permute(1, 2, 0) for part in (picture, inside)
        )
        return picture / coverage.clamp_min(1e-6), coverage
