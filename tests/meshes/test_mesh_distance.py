"""Nearest points and signed distances against shapes whose answers are known, and against brute force."""

import numpy as np
import pytest
from mesh_shapes import CUBE, CUBE_FACES, random_mesh, sphere

from vultus.errors import VultusError
from vultus.meshes import closest_points, signed_distance
from vultus.meshes.closest import winding_numbers

CORNERS, SIDES = CUBE.numpy(), CUBE_FACES.numpy()


def random_points(count, size, seed=0):
    return np.random.default_rng(seed).uniform(-size, size, (count, 3))


def torus(radius=1.0, tube=0.4, around=60, across=40):
    u, v = np.meshgrid(np.arange(around), np.arange(across), indexing="ij")
    a, b = u * 2 * np.pi / around, v * 2 * np.pi / across
    ring = radius + tube * np.cos(b)
    points = np.stack([ring * np.cos(a), ring * np.sin(a), tube * np.sin(b)], axis=-1).reshape(-1, 3)
    p, q, r, s = ((i % around) * across + j % across for i, j in ((u, v), (u + 1, v), (u + 1, v + 1), (u, v + 1)))
    return points, np.concatenate([np.stack([p, q, r], -1).reshape(-1, 3), np.stack([p, r, s], -1).reshape(-1, 3)])


def distance_by_parts(point, triangle):
    """To a triangle: to its plane where the foot is inside, else to the nearest of its edges."""
    a, b, c = triangle
    normal = np.cross(b - a, c - a)
    normal = normal / np.linalg.norm(normal)
    foot = point - ((point - a) @ normal) * normal
    inside = all(np.cross(v - u, foot - u) @ normal >= 0 for u, v in ((a, b), (b, c), (c, a)))
    if inside:
        return abs((point - a) @ normal)
    ends = []
    for u, v in ((a, b), (b, c), (c, a)):
        place = np.clip((point - u) @ (v - u) / ((v - u) @ (v - u)), 0, 1)
        ends.append(np.linalg.norm(point - u - place * (v - u)))
    return min(ends)


def test_a_cube_has_the_distance_that_its_formula_says():
    queries = random_points(3000, 2.5)
    outside = np.maximum(np.abs(queries) - 1, 0)
    exact = np.linalg.norm(outside, axis=1) + np.minimum((np.abs(queries) - 1).max(axis=1), 0)
    np.testing.assert_allclose(signed_distance(queries, CORNERS, SIDES), exact, atol=1e-12)


def test_a_sphere_and_a_torus_within_their_facets():
    vertices, faces = (tensor.numpy() for tensor in sphere(60, 90))
    queries = random_points(300, 1.6, 1)
    exact = np.linalg.norm(queries, axis=1) - 1
    measured = signed_distance(queries, vertices, faces)
    assert np.abs(measured - exact).max() < 1.1 * (1 - np.cos(np.pi / 60))
    vertices, faces = torus()
    exact = np.hypot(np.hypot(queries[:, 0], queries[:, 1]) - 1, queries[:, 2]) - 0.4
    measured = signed_distance(queries, vertices, faces)
    assert np.abs(measured - exact).max() < 0.01
    assert (exact < -0.02).sum() > 15


@pytest.mark.parametrize("seed", range(3))
def test_nearest_points_of_soups_equal_brute_force(seed):
    vertices, faces = (tensor.numpy() for tensor in random_mesh(seed, 60, 90))
    vertices = vertices * np.where(np.arange(60) % 7 == 0, 20.0, 1.0)[:, None]  # huge triangles beside small ones
    faces = faces[[len(set(face)) == 3 for face in faces.tolist()]]
    queries = random_points(60, 3.0, seed)
    found = closest_points(queries, vertices, faces)
    each = np.array([[distance_by_parts(query, vertices[face]) for face in faces] for query in queries])
    np.testing.assert_allclose(found.distances, each.min(axis=1), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(found.points - queries, axis=1), found.distances, atol=1e-12)
    np.testing.assert_allclose(each[np.arange(60), found.faces], found.distances, atol=1e-9)
    again = (found.barycentric[..., None] * vertices[faces[found.faces]]).sum(1)
    np.testing.assert_allclose(again, found.points, atol=1e-6)
    assert found.barycentric.min() > -1e-9


def test_equally_near_faces_give_the_lowest_index():
    found = closest_points(np.array([[2.0, 2.0, 2.0], [-3.0, -3.0, -3.0]]), CORNERS, SIDES)
    at = [np.flatnonzero(np.isin(SIDES, corner).any(axis=1))[0] for corner in (7, 0)]
    assert found.faces.tolist() == at


def test_the_middle_of_a_sphere_where_every_face_is_as_near():
    vertices, faces = (tensor.numpy() for tensor in sphere(30, 40))
    found = closest_points(np.zeros((3, 3)), vertices, faces)
    assert np.abs(found.distances - np.cos(np.pi / 30)).max() < 0.01


def test_overlapping_parts_are_one_solid_and_holes_are_closed():
    vertices = np.concatenate([CORNERS, CORNERS + np.array([1.0, 0, 0])])
    faces = np.concatenate([SIDES, SIDES + 8])
    both = np.array([[0.5, 0.0, 0.0], [-0.9, 0, 0], [1.9, 0, 0], [2.1, 0, 0]])
    np.testing.assert_allclose(winding_numbers(both, vertices, faces), [2, 1, 1, 0], atol=1e-9)
    assert (signed_distance(both, vertices, faces) < 0).tolist() == [True, True, True, False]
    open_box = SIDES[2:]  # without the side at x = -1
    queries = np.array([[0.0, 0, 0], [0.9, 0.9, -0.9], [-0.8, 0, 0], [-1.5, 0, 0], [-0.8, 1.1, 0]])
    assert (signed_distance(queries, CORNERS, open_box) < 0).tolist() == [True, True, True, False, False]
    assert (signed_distance(queries, CORNERS, SIDES[:, ::-1]) > 0).all(), "inside out: nothing is inside"


def test_many_queries_are_worked_on_in_parts():
    queries = random_points(10_000, 1.5)
    whole = closest_points(queries, CORNERS, SIDES)
    for start in (0, 4000, 9990):
        part = closest_points(queries[start : start + 10], CORNERS, SIDES)
        np.testing.assert_array_equal(part.distances, whole.distances[start : start + 10])
    assert closest_points(np.zeros((0, 3)), CORNERS, SIDES).faces.shape == (0,)
    assert signed_distance(np.zeros((0, 3)), CORNERS, SIDES).shape == (0,)


def test_faces_without_area_are_left_out_and_bad_input_is_named():
    faces = np.concatenate([[[0, 0, 1], [2, 2, 2]], SIDES])
    queries = random_points(50, 2.0)
    clean, dirty = closest_points(queries, CORNERS, SIDES), closest_points(queries, CORNERS, faces)
    np.testing.assert_array_equal(dirty.faces - 2, clean.faces)
    with pytest.raises(VultusError, match="no face with an area"):
        closest_points(queries, CORNERS, faces[:2])
    for points, corners in ((queries * np.nan, CORNERS), (queries, CORNERS * np.inf)):
        with pytest.raises(VultusError, match="finite"), np.errstate(all="ignore"):
            signed_distance(points, corners, SIDES)
