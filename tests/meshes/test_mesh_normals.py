"""Normals and closest points of shapes whose answers are known."""

import numpy as np
import torch
from mesh_shapes import CUBE, CUBE_FACES

from vultus.meshes import closest_points, face_normals, vertex_normals


def test_faces_of_a_cube_point_outward():
    normals = face_normals(CUBE, CUBE_FACES)
    centers = CUBE[CUBE_FACES].mean(dim=1)
    assert torch.allclose((normals * centers).sum(-1), torch.ones(12))
    assert torch.allclose(face_normals(CUBE, CUBE_FACES, unit=False).norm(dim=-1), torch.full((12,), 4.0))


def test_vertex_normals_are_weighted_by_area_and_batched():
    batch = torch.stack([CUBE, 3 * CUBE])
    normals = vertex_normals(batch, CUBE_FACES)
    assert torch.allclose(normals[0], normals[1])
    assert ((normals[0] * CUBE).sum(-1) > 0).all()
    flat = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    tilted = vertex_normals(flat, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    assert torch.allclose(tilted[0], torch.tensor([1.0, 0, 1]) / 2**0.5)


def test_degenerate_faces_and_lonely_vertices_have_normal_zero():
    vertices = torch.zeros(4, 3, requires_grad=True)
    normals = vertex_normals(vertices, torch.tensor([[0, 1, 2]]))
    normals.sum().backward()
    assert normals.abs().max() == 0
    assert vertices.grad.isfinite().all()


def test_closest_points_on_a_cube():
    queries = np.array([[2.0, 0.1, 0.2], [0.0, -5.0, 0.0], [0.9, 0.0, 0.0]])
    found = closest_points(queries, CUBE.numpy(), CUBE_FACES.numpy())
    assert np.allclose(found.points, [[1, 0.1, 0.2], [0, -1, 0], [1, 0, 0]])
    assert np.allclose(found.distances, [1, 4, 0.1])
    corners = CUBE.numpy()[CUBE_FACES.numpy()[found.faces]]
    assert np.allclose((found.barycentric[..., None] * corners).sum(1), found.points)
