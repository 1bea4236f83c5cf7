"""Where a view looks along the skin instead of at it, and a picture says little about it.

Near the outline of a face one pixel holds a wide strip of skin, mixed with what lies before and behind it: hair, the
shade of the jaw, the background. Learned from, it becomes dark spots that show as soon as the head is turned.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.rigged.parts import vertex_parts
from vultus.cameras import Camera
from vultus.heads.model import HeadModel
from vultus.images.masks import dilate, soften
from vultus.meshes import rasterize_mesh

_SPREAD = 3
"""Pixels by which the doubtful strip is widened: SSIM compares windows, so that its neighbours would pay for it."""


def grazing(facing: Float[Tensor, "*N"], none: float = 0.5, full: float = 0.15) -> Float[Tensor, "*N"]:
    """How far a surface is seen from the side, 0 to 1, by the cosine between its normal and the direction to the view.

    none, full: the cosines from which on it is 0 and down to which it is 1.
    """
    return ((none - facing) / (none - full)).clamp(0, 1)


def grazing_skin(head: HeadModel, vertices: Float[Tensor, "V 3"], camera: Camera) -> Float[Tensor, "H W 1"]:
    """Pixels in which a posed head shows its skin from the side, 0 to 1.

    Hair is ragged anyway and counts as 0, and so do nose and eyes: they lie within the face, where nothing mixes in.
    """
    faces = head.faces
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    toward = torch.nn.functional.normalize(camera.center - (a + b + c) / 3, dim=-1)
    weights = vertex_parts(head).weights
    skin = weights["skin"] + weights["neck"]
    for name in ("nose", "left_eye_region", "right_eye_region"):
        if name in head.regions:
            skin[head.regions[name].long()] = 0.0
    skin = (2 * skin[faces].mean(-1)).clamp(max=1)
    amount = skin * grazing((normal * toward).sum(-1), 0.55, 0.3)
    ids = rasterize_mesh(vertices, faces, camera).face_ids
    shown = torch.where(ids >= 0, amount[ids.clamp_min(0)], 0.0)[..., None]
    return soften(dilate(shown, _SPREAD), 1.0).clamp(0, 1)
