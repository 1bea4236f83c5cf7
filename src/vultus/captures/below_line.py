"""Cutting a picture off below the neck, where the head model ends.

Source: the masking of GaussianAvatars' published captures: a line in the direction of the two neck points, through the
frontmost point of the mesh's lower border, with a blurred edge.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.heads import HeadModel

_POINTS = ("neck_left_point", "neck_right_point", "front_bottom_point")
_EDGE = 0.03


def below_line_mask(
    head: HeadModel, vertices: Float[Tensor, "V 3"], camera: Camera, *, lower: float = 0.0
) -> Float[Tensor, "H W"]:
    """What to keep of a picture: 1 above the line where the head model ends, 0 below it, a narrow ramp between.

    `vertices` are the posed head's, `camera` is unbatched, `lower` (metres) moves the line down. Multiply the
    picture's mask by the result.

    Raises:
        VultusError: the head model does not name its neck and border points, or they are behind the camera.
    """
    missing = [name for name in _POINTS if name not in head.regions]
    if missing:
        raise VultusError(f"the head model {head.name} has no point {missing[0]!r}, so that the neck cannot be cut off")
    indices = torch.stack([head.regions[name][0] for name in _POINTS]).to(vertices.device)
    points = vertices.detach()[indices]
    if bool((camera.to_camera(points)[:, 2] <= 0).any()):
        raise VultusError("the neck is behind the camera, so that it cannot be cut off; the head's pose is wrong")
    left, right, bottom = camera.project(points)
    along = left - right
    # The normal that points up in the picture (y is down), also if the head is upside down relative to its neck line.
    normal = torch.stack([along[1], -along[0]])
    normal = normal / normal.norm().clamp_min(1e-6)
    inside = camera.project(vertices.detach().mean(dim=-2, keepdim=True))[0]
    normal = torch.where(((inside - bottom) * normal).sum() < 0, -normal, normal)
    x = torch.arange(camera.width, device=points.device) + 0.5
    y = torch.arange(camera.height, device=points.device) + 0.5
    bottom = bottom - normal * lower * camera.K[0, 0] / camera.to_camera(points[2][None])[0, 2]
    distance = (x[None, :] - bottom[0]) * normal[0] + (y[:, None] - bottom[1]) * normal[1]
    # The published edge is blurred by a window of this width under a Gaussian far wider than it: in effect a ramp.
    ramp = max(_EDGE * camera.width, 1.0)
    return (distance / ramp + 0.5).clamp(0, 1)


def neck_border(head: HeadModel) -> Tensor | None:
    """The vertices along which the neck meets the bust, for models that mark their bust as `boundary`."""
    if "boundary" not in head.regions:
        return None
    below = torch.zeros(head.template.shape[0], dtype=torch.bool)
    below[head.regions["boundary"].long()] = True
    count = below[head.faces].sum(-1)
    border = head.faces[(count > 0) & (count < 3)].flatten().unique()
    border = border[below[border]]
    return border if border.numel() >= 3 else None


def above_shoulders(head: HeadModel, camera: Camera, vertices: Float[Tensor, "V 3"], border: Tensor) -> Tensor:
    """Pixels above the lower lip, seen along the neck: beside the neck, shoulders rise above the chin.

    `border` as of `neck_border`.
    """
    return above_plane(camera, vertices[border], vertices, lowest=vertices[head.regions["lips"].long()])


def above_plane(
    camera: Camera, ring: Float[Tensor, "R 3"], vertices: Tensor, lowest: Float[Tensor, "N 3"] | None = None
) -> Tensor:
    """Pixels whose rays, at the ring's depth, pass on the head's side of the plane through a ring of points.

    With `lowest`, the plane is moved along until the first of these points lies on it.
    """
    center = ring.mean(0)
    _, _, axes = torch.linalg.svd(ring - center, full_matrices=False)
    normal = axes[2] * torch.sign((vertices.mean(0) - center) @ axes[2])
    if lowest is not None:
        center = center + normal * ((lowest - center) @ normal).min()
    y, x = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(camera.K).T
    depth = camera.to_camera(center[None])[0, 2]
    turned = camera.world_to_camera[:3, :3] @ normal
    at_center = camera.to_camera(center[None])[0]
    return (((rays * depth - at_center) * turned).sum(-1) > 0)[..., None]
