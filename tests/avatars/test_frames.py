"""Triangle frames and rigging against independent formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vultus.avatars.rigged.frames import local_to_world, triangle_frames
from vultus.avatars.rigged.layout import divisions_for, subdivision, surface_splats
from vultus.rotations import axis_angle_to_matrix, quaternion_to_matrix

FACES = torch.tensor([[0, 1, 2], [2, 1, 3]])


def corners(seed):
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 10_000))
def test_frames_are_gram_schmidt_bases(seed):
    vertices = corners(seed)
    frames = triangle_frames(vertices, FACES)
    for face, (i, j, k) in enumerate(FACES.tolist()):
        a, b, c = (vertices[index].numpy() for index in (i, j, k))
        # QR of (edge, side) has the edge's direction and the in-plane perpendicular as its columns, up to signs.
        q, r = np.linalg.qr(np.stack([b - a, c - a], axis=1))
        q, r = q * np.sign(np.diag(r)), r * np.sign(np.diag(r))[:, None]
        found = frames.rotation[face].numpy()
        np.testing.assert_allclose(found[:, 0], q[:, 0], atol=1e-8)
        np.testing.assert_allclose(found[:, 2], -q[:, 1], atol=1e-8)
        np.testing.assert_allclose(found[:, 1], np.cross(q[:, 0], q[:, 1]), atol=1e-8)
        np.testing.assert_allclose(frames.scale[face].numpy(), (r[0, 0] + r[1, 1]) / 2, atol=1e-8)


@given(st.integers(0, 10_000))
def test_gaussians_follow_a_rigid_motion_and_a_change_of_size(seed):
    generator = torch.Generator().manual_seed(seed)
    vertices = corners(seed)
    means, scales, rotations = (torch.randn(5, size, generator=generator, dtype=torch.float64) for size in (3, 3, 4))
    binding = torch.randint(0, 2, (5,), generator=generator)
    turn = axis_angle_to_matrix(torch.randn(3, generator=generator, dtype=torch.float64))
    shift, size = torch.randn(3, generator=generator, dtype=torch.float64), 1.7
    before = local_to_world(means, scales.exp(), rotations, binding, triangle_frames(vertices, FACES))
    moved = triangle_frames(size * vertices @ turn.T + shift, FACES)
    after = local_to_world(means, scales.exp(), rotations, binding, moved)
    torch.testing.assert_close(after[0], size * before[0] @ turn.T + shift)
    torch.testing.assert_close(after[1], size * before[1])
    torch.testing.assert_close(quaternion_to_matrix(after[2]), turn @ quaternion_to_matrix(before[2]))


def test_gradients_reach_every_head_parameter(head):
    params = head.neutral()
    leaves = {
        "identity": params.identity.clone().requires_grad_(),
        "expression": (params.expression + 0.1).requires_grad_(),
        "translation": params.translation.clone().requires_grad_(),
    }
    jaw = torch.tensor([0.1, 0.0, 0.0], requires_grad=True)
    params = replace(params, **leaves, joints={**params.joints, "jaw": jaw})
    frames = triangle_frames(head.pose(params).vertices, head.faces)
    count = len(head.faces)
    local = torch.randn(3, count, 3, generator=torch.Generator().manual_seed(0))
    quaternion = torch.tensor([1.0, 0.2, 0.1, 0.0]).repeat(count, 1)
    means, scales, rotations = local_to_world(local[0], local[1].exp(), quaternion, torch.arange(count), frames)
    (means.square().sum() + scales.square().sum() + (rotations * rotations.roll(1, 1)).sum()).backward()
    for leaf in (*leaves.values(), jaw):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert (leaf.grad != 0).any()


def test_degenerate_triangles_have_finite_gradients():
    vertices = torch.zeros(4, 3, requires_grad=True)
    frames = triangle_frames(vertices, FACES)
    (frames.center.sum() + frames.scale.sum() + frames.rotation.sum()).backward()
    assert frames.quaternion.isfinite().all()
    assert vertices.grad.isfinite().all()


@given(st.integers(1, 6))
def test_subdivisions_tile_the_triangle(divisions):
    places = subdivision(divisions)
    assert places.shape == (divisions**2, 3)
    torch.testing.assert_close(places.sum(-1), torch.ones(divisions**2))
    torch.testing.assert_close(places.mean(0), torch.full((3,), 1 / 3))
    assert (places > 0).all()
    distances = torch.cdist(places, places) + torch.eye(len(places))
    assert distances.min() > 0.4 / divisions


def test_surface_splats_have_the_moments_of_their_triangles(head):
    faces = head.faces
    divisions = torch.ones(len(faces), dtype=torch.int64)
    splats, places = surface_splats(head.template, faces, divisions, overlap=1.0, thickness=0.0)
    means, scales, rotations = local_to_world(
        splats.means, splats.log_scales.exp(), splats.rotations, splats.binding, triangle_frames(head.template, faces)
    )
    points = head.template[faces]
    torch.testing.assert_close(means, points.mean(1), atol=1e-6, rtol=0)
    centered = (points - points.mean(1, keepdim=True)).double()
    expected = centered.transpose(1, 2) @ centered / 12
    basis = quaternion_to_matrix(rotations.double()) * scales.double()[:, None]
    found = basis @ basis.transpose(1, 2)
    size = expected.flatten(1).norm(dim=1)
    assert ((found - expected).flatten(1).norm(dim=1) / size).quantile(0.99) < 1e-3
    assert places.shape == (len(faces), 3)


@settings(max_examples=20)
@given(st.integers(100, 900))
def test_divisions_keep_the_budget(budget):
    areas = torch.rand(100, generator=torch.Generator().manual_seed(budget)) + 0.01
    divisions = divisions_for(areas, torch.ones(100), budget)
    assert divisions.min() >= 1
    assert int((divisions**2).sum()) <= max(budget, 100)
