"""A small head in FLAME's layout with random bases, so that the fitting mathematics is tested without any data file."""

from __future__ import annotations

import pytest
import torch

from vultus.heads import LandmarkSet, SkinnedHead
from vultus.heads.builtin import load_builtin


@pytest.fixture(scope="session")
def toy_head() -> SkinnedHead:
    """A bumpy ellipsoid, 80 identity and 20 expression components, one corrective, all five joints, 68 landmarks."""
    generator = torch.Generator().manual_seed(7)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    rows, columns = 24, 32
    latitude = torch.linspace(-1.2, 1.2, rows)[:, None].expand(rows, columns)
    longitude = torch.linspace(-2.6, 2.6, columns)[None].expand(rows, columns)
    template = torch.stack(
        [0.07 * longitude.sin() * latitude.cos(), 0.11 * latitude.sin(), 0.09 * longitude.cos() * latitude.cos()], -1
    ).reshape(-1, 3)
    template = template + 0.003 * random(len(template), 3)
    grid = torch.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    faces = torch.cat([torch.stack([a, b, d], -1).reshape(-1, 3), torch.stack([a, d, c], -1).reshape(-1, 3)])

    def smooth_basis(count: int, size: float) -> torch.Tensor:
        waves = 40 * random(3, count * 3)
        return (size * torch.sin(template @ waves + 3 * random(count * 3))).unflatten(-1, (3, count)).contiguous()

    vertices = len(template)
    jaw = torch.sigmoid(-(template[:, 1] + 0.03) / 0.01) * torch.sigmoid(template[:, 2] / 0.01)
    weights = torch.stack([0.1 * torch.ones(vertices), 0.9 - 0.85 * jaw, 0.85 * jaw, 0 * jaw, 0 * jaw], -1)
    left = (template - torch.tensor([0.032, 0.0, 0.08])).norm(dim=-1) < 0.012
    right = (template - torch.tensor([-0.032, 0.0, 0.08])).norm(dim=-1) < 0.012
    weights[left], weights[right] = torch.eye(5)[3], torch.eye(5)[4]
    regressor = torch.softmax(3 * random(5, vertices), -1)
    front = torch.where(template[faces].mean(1)[:, 2] > 0.02)[0]
    chosen = front[torch.randperm(len(front), generator=generator)[:68]]
    barycentric = torch.softmax(random(68, 3), -1)
    return SkinnedHead(
        name="toy",
        license="none",
        v_template=template,
        faces=faces,
        identity_basis=smooth_basis(80, 0.0008),
        expression_basis=smooth_basis(20, 0.002),
        pose_basis=0.004 * torch.randn(vertices, 3, 36, generator=torch.Generator().manual_seed(1)),
        joint_regressor=regressor,
        weights=weights,
        parents=(-1, 0, 1, 1, 1),
        correctives=smooth_basis(1, 0.001),
        corrective_drivers=torch.tensor([2]),
        landmark_sets={"ibug68": LandmarkSet(torch.arange(68), chosen, barycentric)},
    )


@pytest.fixture(scope="session")
def builtin() -> SkinnedHead:
    return load_builtin()
