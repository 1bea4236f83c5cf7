"""Shoulders: what pictures show beside the neck and the head model has no triangle for.

They ride on the nearest triangles of the bust, as the far Gaussians of GaussianAvatars do, but start where they are
seen: upright, in the plane of the bust, facing the camera.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.rigged.frames import TriangleFrames
from vultus.avatars.rigged.model import LocalSplats
from vultus.cameras import Camera
from vultus.heads.model import HeadModel
from vultus.rotations import matrix_to_quaternion
from vultus.splats import rgb_to_sh0

_MOST = 2500
_OVERLAP = 0.7
_OPACITY = 0.95


def shoulder_splats(
    head: HeadModel,
    vertices: Float[Tensor, "V 3"],
    frames: TriangleFrames,
    camera: Camera,
    image: Float[Tensor, "H W 3"],
    missing: Float[Tensor, "H W 1"],
) -> LocalSplats | None:
    """Gaussians that cover the pixels of `missing`, in the frames of the bust's triangles.

    None where nothing is missing, or the head model marks no bust (region `boundary`).
    """
    if "boundary" not in head.regions:
        return None
    pixels = (missing[..., 0] > 0.5).nonzero()
    if len(pixels) < 16:
        return None
    spacing = max(2, math.ceil(math.sqrt(len(pixels) / _MOST)))
    pixels = pixels[(pixels % spacing == 0).all(-1)]
    bust = torch.zeros(len(head.template), dtype=torch.bool)
    bust[head.regions["boundary"]] = True
    faces = bust[head.faces].all(-1).nonzero()[:, 0]
    depth = camera.to_camera(vertices[bust])[:, 2].median()

    centers = torch.stack([pixels[:, 1], pixels[:, 0], torch.zeros(len(pixels))], -1) + 0.5
    centers[:, 2] = 1.0
    seen = centers @ torch.linalg.inv(camera.K).T * depth
    to_world = torch.linalg.inv(camera.world_to_camera)
    points = seen @ to_world[:3, :3].T + to_world[:3, 3]

    binding = faces[torch.cdist(points, frames.center[faces]).argmin(-1)]
    size, turn = frames.scale[binding], frames.rotation[binding].transpose(-1, -2)
    means = (turn @ (points - frames.center[binding])[..., None])[..., 0] / size
    right, down, forward = to_world[:3, :3].unbind(-1)
    facing = torch.stack([right, forward, -down], dim=-1)  # the second axis is the thin one, as on the surface
    wide = _OVERLAP * spacing * depth / camera.K[0, 0]
    scales = torch.stack([wide, 0.1 * wide, wide]).expand(len(points), 3) / size
    count = len(points)
    return LocalSplats(
        means=means,
        log_scales=scales.log(),
        rotations=matrix_to_quaternion(turn @ facing),
        opacities=torch.full((count,), math.log(_OPACITY / (1 - _OPACITY))),
        sh0=rgb_to_sh0(image[pixels[:, 0], pixels[:, 1]])[:, None],
        sh_rest=torch.zeros(count, 0, 3),
        binding=binding,
    )
