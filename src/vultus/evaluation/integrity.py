"""Does an avatar hold together: is it opaque where there is skin, and is no splat a spike?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.avatars import SplatAvatar
from vultus.cameras import Camera
from vultus.heads.measures import head_height
from vultus.heads.model import HeadModel
from vultus.images.masks import erode
from vultus.meshes import rasterize_mesh
from vultus.motion import HeadParams

EROSION_PIXELS = 4
SPLAT_LENGTH_SIGMAS = 4.0
"""A splat's length is taken from two standard deviations on one side to two on the other: where it fades out."""


@dataclass(frozen=True)
class Integrity:
    """skin_alpha: mean alpha inside the projected, eroded skin. longest_splat: share of the head's height."""

    skin_alpha: float
    longest_splat: float


@torch.no_grad()
def measure_integrity(avatar: SplatAvatar, params: HeadParams, camera: Camera) -> Integrity:
    """Measure one pose (no batch) in one view.

    Skin is where the first surface a ray meets is the head model's skin (region `skin` without `boundary`, the rim of
    the bust). The head's height is that from chin to crown at rest.
    """
    gaussians = avatar.gaussians(params)
    alpha = avatar.render(params, camera).alpha[..., 0]
    inside = skin_mask(avatar.head, avatar.vertices(params), camera)
    length = SPLAT_LENGTH_SIGMAS * float(gaussians.scales.max())
    return Integrity(
        skin_alpha=float(alpha[inside].mean()) if bool(inside.any()) else float("nan"),
        longest_splat=length / head_height(avatar.head, avatar.rest),
    )


def skin_mask(head: HeadModel, vertices: Float[Tensor, "V 3"], camera: Camera) -> Bool[Tensor, "H W"]:
    """Pixels of a posed mesh's visible skin, eroded by `EROSION_PIXELS`."""
    on_skin = torch.zeros(len(head.template), dtype=torch.bool)
    on_skin[head.regions["skin"]] = True
    if "boundary" in head.regions:
        on_skin[head.regions["boundary"]] = False
    face_is_skin = on_skin[head.faces].all(-1)
    ids = rasterize_mesh(vertices, head.faces, camera).face_ids
    visible = (ids >= 0) & face_is_skin[ids.clamp_min(0)]
    return erode(visible.float()[..., None], EROSION_PIXELS)[..., 0] > 0.5
