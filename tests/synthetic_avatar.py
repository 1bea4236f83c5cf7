"""An avatar without training: the built-in head's surface, covered with Gaussians in its own painted colours."""

import torch

from vultus.avatars.rigged import RiggedAvatar
from vultus.avatars.rigged.layout import surface_splats
from vultus.cameras import Camera, look_at
from vultus.heads.builtin import load_builtin
from vultus.motion import HeadParams
from vultus.splats import rgb_to_sh0


def synthetic_avatar(size: int = 96, identity_seed: int | None = None) -> RiggedAvatar:
    """A head 0.9 m before a camera of `size` pixels; with a seed, of a person of its own."""
    head = load_builtin()
    rest = head.neutral()
    if identity_seed is not None:
        generator = torch.Generator().manual_seed(identity_seed)
        identity = 0.7 * torch.randn(len(head.identity_names), generator=generator)
        rest = HeadParams(rest.model, identity, rest.expression, rest.joints, rest.translation, rest.scale)
    vertices = head.pose(rest).vertices
    divisions = torch.ones(len(head.faces), dtype=torch.int64)
    splats, _ = surface_splats(vertices, head.faces, divisions, overlap=1.7)
    colors = head.attributes["color_b"][head.faces].mean(1)
    # A lamp at the upper left, so that shapes can be judged.
    corners = vertices[head.faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.nn.functional.normalize(normals, dim=-1)
    light = torch.nn.functional.normalize(torch.tensor([0.4, 0.5, 1.0]), dim=0)
    shade = 0.55 + 0.5 * (normals @ light).clamp_min(0)
    object.__setattr__(splats, "sh0", rgb_to_sh0((colors * shade[:, None]).clamp(0, 1))[splats.binding][:, None])
    eye = torch.tensor([0.0, -0.03, 0.9])
    view = Camera.from_focal(2.6 * size, size, size, look_at(eye, torch.tensor([0.0, -0.035, 0.0])))
    return RiggedAvatar(head, rest, view, splats)
