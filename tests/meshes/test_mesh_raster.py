"""Mesh rasterisation against brute force, geometry that is known exactly, and finite differences."""

import pytest
import torch
from mesh_shapes import random_camera, random_mesh, sphere

from vultus.cameras import Camera, look_at
from vultus.errors import VultusError
from vultus.meshes import barycentric_at, interpolate, rasterize_mesh


@pytest.mark.parametrize("seed", range(8))
def test_equals_brute_force(seed):
    vertices, faces = random_mesh(seed)
    camera = random_camera(seed)  # some vertices lie behind it
    fast = rasterize_mesh(vertices, faces, camera, backend="cpu")
    slow = rasterize_mesh(vertices, faces, camera, backend="reference")
    assert (slow.face_ids >= 0).float().mean() > 0.3
    same = fast.face_ids == slow.face_ids
    assert same.float().mean() > 0.998  # a pixel centre may fall on an edge within rounding
    assert torch.allclose(fast.depth[same], slow.depth[same], atol=1e-6)
    assert torch.allclose(fast.barycentric[same], slow.barycentric[same], atol=1e-5)


def test_closed_surface_has_no_holes_and_true_depth():
    vertices, faces = sphere()
    camera = Camera.from_focal(150.0, 128, 128, look_at(torch.tensor([0.3, 0.2, 4.0]), torch.zeros(3)))
    raster = rasterize_mesh(vertices, faces, camera)
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    rays = torch.stack([(x - 64) / 150, (y - 64) / 150, torch.ones_like(x)], dim=-1)
    center = camera.to_camera(torch.zeros(1, 3))[0]
    along = (rays @ center) / (rays * rays).sum(-1)
    miss = (rays * along[..., None] - center).norm(dim=-1)
    covered = raster.face_ids >= 0
    assert covered[miss < 0.98].all()
    assert not covered[miss > 1.0].any()
    exact = along - ((1 - miss**2).clamp(min=0) / (rays * rays).sum(-1)).sqrt()
    assert (raster.depth - exact)[miss < 0.9].abs().max() < 0.02
    surface = interpolate(vertices, faces, raster.face_ids, raster.barycentric)
    back = camera.to_camera(surface.reshape(-1, 3)).reshape(128, 128, 3)
    assert (back - rays * raster.depth[..., None])[covered].abs().max() < 2e-5


def test_recomputed_barycentrics_equal_the_rasters():
    vertices, faces = random_mesh(3)
    camera = random_camera(3)
    raster = rasterize_mesh(vertices, faces, camera)
    again = barycentric_at(vertices.double(), faces, camera.to(dtype=torch.float64), raster.face_ids)
    assert (again - raster.barycentric).abs().max() < 1e-4
    assert again[raster.face_ids < 0].abs().max() == 0


def test_gradients_reach_vertices_camera_and_attributes():
    vertices, faces = random_mesh(5, 12, 10)
    camera = random_camera(5, 9, 7).to(dtype=torch.float64)
    ids = rasterize_mesh(vertices, faces, camera).face_ids
    assert (ids >= 0).sum() > 10

    def colors(points, attributes, pose, K):
        view = Camera(pose, K, camera.width, camera.height)
        return interpolate(attributes, faces, ids, barycentric_at(points, faces, view, ids))

    attributes = torch.randn(12, 4, dtype=torch.float64)
    inputs = [t.clone().requires_grad_() for t in (vertices.double(), attributes, camera.world_to_camera, camera.K)]
    assert torch.autograd.gradcheck(colors, inputs, eps=1e-7, atol=1e-4, rtol=1e-3)


def test_values_and_gradients_equal_those_of_the_image_plane():
    # Another way to the same weights: areas in the image, divided by depth.
    vertices, faces = sphere(8, 12)
    camera = Camera.from_focal(40.0, 31, 27, look_at(torch.tensor([0.5, 0.2, 2.5]), torch.zeros(3)))
    camera = camera.to(dtype=torch.float64)
    ids = rasterize_mesh(vertices, faces, camera).face_ids
    y, x = (ids >= 0).nonzero(as_tuple=True)
    attributes = torch.randn(len(vertices), 3, dtype=torch.float64)
    wanted = torch.randn(27, 31, 3, dtype=torch.float64)

    def plane(points):
        corners = faces[ids[y, x]]
        (a, b, c), depth = camera.project(points)[corners].unbind(1), camera.to_camera(points)[corners][..., 2]
        p = torch.stack([x, y], -1) + 0.5
        areas = [(v - u)[:, 0] * (p - u)[:, 1] - (v - u)[:, 1] * (p - u)[:, 0] for u, v in ((b, c), (c, a), (a, b))]
        weights = torch.stack(areas, -1) / depth
        inside = ((weights / weights.sum(-1, keepdim=True))[..., None] * attributes[corners]).sum(1)
        return torch.zeros(27, 31, 3, dtype=torch.float64).index_put((y, x), inside)

    def ours(points):
        return interpolate(attributes, faces, ids, barycentric_at(points, faces, camera, ids))

    results = []
    for image_of in (ours, plane):
        points = vertices.double().requires_grad_()
        image = image_of(points)
        (image * wanted).sum().backward()
        results.append((image.detach(), points.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_gradients_of_a_batch_are_the_sum_of_its_images():
    vertices, faces = sphere(8, 12)
    cameras = Camera.stack([random_camera(seed) for seed in range(3)])
    colors = torch.randn(len(vertices), 2)

    def gradient(camera):
        points, attributes = vertices.clone().requires_grad_(), colors.clone().requires_grad_()
        ids = rasterize_mesh(points, faces, camera).face_ids
        image = interpolate(attributes, faces, ids, barycentric_at(points, faces, camera, ids))
        image.square().sum().backward()
        return torch.cat([points.grad, attributes.grad], dim=-1)

    parts = sum(gradient(cameras[i]) for i in range(3))
    torch.testing.assert_close(gradient(cameras), parts, rtol=1e-3, atol=1e-4 * float(parts.abs().max()))


def test_batches_broadcast():
    vertices, faces = random_mesh(1)
    cameras = Camera.stack([random_camera(s) for s in range(3)])
    many = rasterize_mesh(vertices, faces, cameras)
    assert many.face_ids.shape == (3, 29, 37)
    one = rasterize_mesh(vertices, faces, cameras[1])
    assert torch.equal(many.face_ids[1], one.face_ids)
    pair = rasterize_mesh(torch.stack([vertices, vertices * 0.5, vertices]), faces, cameras)
    assert torch.equal(pair.face_ids[2], many.face_ids[2])
    attributes = torch.randn(40, 2)
    assert interpolate(attributes, faces, many.face_ids, many.barycentric).shape == (3, 29, 37, 2)


def test_same_image_for_any_number_of_threads():
    vertices, faces = sphere()
    camera = Camera.from_focal(100.0, 90, 70, look_at(torch.tensor([0.3, 0.2, 3.0]), torch.zeros(3)))
    before = torch.get_num_threads()
    try:
        images = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            images.append(rasterize_mesh(vertices, faces, camera))
    finally:
        torch.set_num_threads(before)
    for image in images[1:]:
        assert torch.equal(image.face_ids, images[0].face_ids)
        assert torch.equal(image.barycentric, images[0].barycentric)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_nothing_to_draw(backend):
    camera = random_camera(0)
    empty = rasterize_mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.long), camera, backend=backend)
    assert (empty.face_ids == -1).all()
    assert empty.depth.abs().max() == 0
    vertices, faces = random_mesh(0)
    vertices[faces[:, 0]] = float("nan")
    assert (rasterize_mesh(vertices, faces, camera, backend=backend).face_ids == -1).all()


def test_bad_input_is_named():
    camera = random_camera(0)
    with pytest.raises(VultusError, match="vertices 0 to 7"):
        rasterize_mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 7]]), camera)
    broken = Camera(camera.world_to_camera * float("nan"), camera.K, 4, 4)
    for backend in ("cpu", "reference"):
        with pytest.raises(VultusError, match="finite"):
            rasterize_mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), broken, backend=backend)
