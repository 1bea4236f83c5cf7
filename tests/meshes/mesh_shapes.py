"""Shapes and cameras of the mesh tests."""

import torch

from vultus.cameras import Camera, look_at


def random_mesh(seed, vertices=40, faces=60):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(vertices, 3, generator=generator) * torch.tensor([0.4, 0.4, 0.3])
    return points, torch.randint(0, vertices, (faces, 3), generator=generator)


def random_camera(seed, width=37, height=29):
    generator = torch.Generator().manual_seed(1000 + seed)
    eye = torch.randn(3, generator=generator)
    pose = look_at(eye / eye.norm() * 1.2, torch.zeros(3))
    return Camera.from_focal(30.0, width, height, pose, principal=(width / 2 + 1.3, height / 2 - 0.7))


def sphere(rings=24, segments=48):
    """Radius 1, closed: rings of quadrilaterals, with one vertex at each pole."""
    theta = torch.linspace(0, torch.pi, rings + 1)[1:-1, None]
    phi = torch.arange(segments)[None] * (2 * torch.pi / segments)
    points = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos().expand(-1, segments)], dim=-1)
    points = torch.cat([points.reshape(-1, 3), torch.tensor([[0.0, 0, 1], [0, 0, -1]])])
    i, j = torch.meshgrid(torch.arange(rings - 2), torch.arange(segments), indexing="ij")
    a, b, c, d = (r * segments + s % segments for r, s in [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)])
    j = torch.arange(segments)
    top, bottom, last = len(points) - 2, len(points) - 1, (rings - 2) * segments
    caps = [torch.stack([torch.full_like(j, top), j, (j + 1) % segments], -1)]
    caps += [torch.stack([torch.full_like(j, bottom), last + (j + 1) % segments, last + j], -1)]
    sides = [torch.stack([a, b, c], -1).reshape(-1, 3), torch.stack([a, c, d], -1).reshape(-1, 3)]
    return points, torch.cat([*sides, *caps])


CUBE = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
CUBE_FACES = torch.tensor(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]]
)  # fmt: skip
