"""Outlines against loops, against true coverage, and their gradients against known areas and finite differences."""

from dataclasses import replace

import pytest
import torch
from mesh_shapes import CUBE, CUBE_FACES, random_camera, random_mesh, sphere
from silhouette_reference import antialias_by_loops

from vultus.cameras import Camera, look_at
from vultus.meshes import antialias, barycentric_at, face_neighbors, interpolate, outline_edges, rasterize_mesh
from vultus.meshes.antialias import BORDER, MANY


def mask(vertices, faces, camera):
    raster = rasterize_mesh(vertices, faces, camera)
    return antialias((raster.face_ids >= 0)[..., None].to(vertices.dtype), raster, vertices, faces, camera)


def head_on(size, distance=4.0, focal=1.2):
    return Camera.from_focal(focal * size, size, size, look_at(torch.tensor([0.4, 0.3, distance]), torch.zeros(3)))


def in_double(camera):
    return camera.to(dtype=torch.float64)


def crumpled(seed, rings=7, segments=11):
    """A sphere with dents, so that it hides parts of itself, and a piece cut out: borders, folds, an inside."""
    vertices, faces = sphere(rings, segments)
    generator = torch.Generator().manual_seed(seed)
    vertices = vertices * (1 + 0.35 * torch.randn(len(vertices), 1, generator=generator)).clamp(0.4, 1.6)
    return vertices.double(), faces[torch.rand(len(faces), generator=generator) < 0.9]


def colored(vertices, faces, camera, raster, colors):
    return interpolate(colors, faces, raster.face_ids, barycentric_at(vertices, faces, camera, raster.face_ids))


@pytest.mark.parametrize("seed", range(6))
def test_equals_loops_in_values_and_gradients(seed):
    vertices, faces = crumpled(seed)
    camera = in_double(replace(head_on(22), width=24))
    raster = rasterize_mesh(vertices, faces, camera)
    generator = torch.Generator().manual_seed(seed)
    colors = torch.randn(len(vertices), 3, generator=generator, dtype=torch.float64)
    wanted = torch.randn(22, 24, 3, generator=generator, dtype=torch.float64)
    results = []
    for blend in (antialias, antialias_by_loops):
        leaves = [t.clone().requires_grad_() for t in (vertices, colors, camera.world_to_camera, camera.K)]
        points, attributes, pose, K = leaves
        view = Camera(pose, K, camera.width, camera.height)
        plain = colored(points, faces, view, raster, attributes)
        image = blend(plain, raster, points, faces, view)
        (image * wanted).sum().backward()
        K.grad *= torch.tensor([[1, 0, 1], [0, 1, 1], [0, 0, 0]])  # the others are constants of every pinhole camera
        results.append((image.detach(), *(leaf.grad for leaf in leaves)))
        assert ((image - plain).detach().abs().amax(-1) > 1e-3).sum() > 20
    for fast, slow in zip(*results, strict=True):
        assert (fast - slow).abs().max() < 1e-9 * max(1, float(slow.abs().max()))


@pytest.mark.parametrize("seed", range(4))
def test_gradients_equal_finite_differences(seed):
    vertices, faces = crumpled(seed, 5, 7)
    camera = in_double(head_on(11))
    raster = rasterize_mesh(vertices, faces, camera)
    image = torch.randn(11, 11, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def blended(image, points, pose, K):
        return antialias(image, raster, points, faces, Camera(pose, K, 11, 11))

    inputs = [t.clone().requires_grad_() for t in (image, vertices, camera.world_to_camera, camera.K)]
    assert torch.autograd.gradcheck(blended, inputs, eps=1e-7, atol=1e-5, rtol=1e-4, nondet_tol=0)


@pytest.mark.parametrize(("rings", "segments"), [(16, 24), (60, 90)])  # larger and smaller than pixels at the outline
def test_nearer_to_true_coverage_than_a_hard_mask(rings, segments):
    vertices, faces = sphere(rings, segments)
    camera = head_on(48)
    soft = mask(vertices, faces, camera)[..., 0]
    fine = (rasterize_mesh(vertices, faces, camera.resized(48 * 16, 48 * 16)).face_ids >= 0).float()
    exact = fine.reshape(48, 16, 48, 16).mean((1, 3))
    hard = (rasterize_mesh(vertices, faces, camera).face_ids >= 0).float()
    assert (soft - exact).abs().max() < 0.3
    assert (soft - exact).abs().mean() < 0.15 * (hard - exact).abs().mean()
    assert float(soft.min()) >= 0
    assert float(soft.max()) <= 1
    assert float(soft.sum()) == pytest.approx(float(exact.sum()), rel=0.002)


@pytest.mark.parametrize(("rings", "segments"), [(16, 24), (60, 90)])
def test_area_changes_as_it_should(rings, segments):
    vertices, faces = sphere(rings, segments)
    camera, size = head_on(96), torch.tensor(0.9, requires_grad=True)
    mask(vertices * size, faces, camera).sum().backward()
    areas = [float(mask(vertices * scale, faces, camera.resized(960, 960)).sum()) / 100 for scale in (0.88, 0.92)]
    assert float(size.grad) == pytest.approx((areas[1] - areas[0]) / 0.04, rel=0.02)


def test_edges_of_every_direction_are_counted_once():
    # A turning square: whatever its angle, its area grows by 4 times its side where its half side grows.
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    camera = in_double(Camera.from_focal(100.0, 80, 80, look_at(torch.tensor([0.0, 0.0, -4.0]), torch.zeros(3))))
    for degrees in range(0, 90, 7):
        angle = torch.tensor(degrees * torch.pi / 180, dtype=torch.float64)
        turn = torch.eye(3, dtype=torch.float64)
        turn[0, 0] = turn[1, 1] = angle.cos()
        turn[0, 1], turn[1, 0] = -angle.sin(), angle.sin()
        size = torch.tensor(0.83, dtype=torch.float64, requires_grad=True)
        area = mask(corners @ turn.T * size, faces, camera).sum()
        area.backward()
        assert float(area.detach()) == pytest.approx((2 * 0.83 * 25) ** 2, rel=0.01)
        assert float(size.grad) == pytest.approx(8 * 0.83 * 25**2, rel=0.05)


def test_an_upright_edge_is_exact():
    left = torch.tensor([[-3.0, -1, 0], [0, -1, 0], [0, 1, 0], [-3, 1, 0]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    camera = in_double(Camera.from_focal(20.0, 30, 20))
    for shift in torch.linspace(-0.15, 0.15, 31, dtype=torch.float64):
        moved = left + torch.tensor([0.0, 0.0, 2.0]) + torch.tensor([1.0, 0.0, 0.0]) * shift
        row = mask(moved, faces, camera)[10, :, 0]
        assert float(row.sum()) == pytest.approx(15 + 10 * float(shift), abs=1e-5)


def test_a_hidden_body_is_found_by_its_outline():
    vertices, faces = sphere(12, 18)
    camera = head_on(48)
    true = mask(vertices * 0.7 + torch.tensor([0.25, -0.2, 0.1]), faces, camera)
    place, size = torch.zeros(3, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    adam = torch.optim.Adam([place, size], lr=0.03)
    neighbors = face_neighbors(faces)
    for step in range(120):
        adam.param_groups[0]["lr"] = 0.03 * (1 - step / 120) ** 0.5
        points = vertices * size + torch.cat([place[:2], place[2:] * 0])
        raster = rasterize_mesh(points, faces, camera)
        now = antialias((raster.face_ids >= 0)[..., None].float(), raster, points, faces, camera, neighbors=neighbors)
        adam.zero_grad()
        ((now - true) ** 2).mean().backward()
        adam.step()
    final = mask((vertices * size + torch.cat([place[:2], place[2:] * 0])).detach(), faces, camera)
    assert float((final - true).abs().sum() / true.sum()) < 0.01


def test_inner_edges_are_left_as_they_are():
    vertices, faces = sphere(20, 30)
    camera = Camera.from_focal(400.0, 60, 60, look_at(torch.tensor([0.3, 0.2, 4.0]), torch.zeros(3)))  # no outline
    raster = rasterize_mesh(vertices, faces, camera)
    assert len(raster.face_ids.unique()) > 20
    image = torch.randn(60, 60, 3)
    assert torch.equal(antialias(image, raster, vertices, faces, camera), image)


def test_batches_equal_single_images():
    vertices, faces = random_mesh(2)
    cameras = Camera.stack([random_camera(seed) for seed in range(3)])
    points = torch.stack([vertices, 0.7 * vertices, 1.1 * vertices])
    raster = rasterize_mesh(points, faces, cameras)
    image = torch.randn(3, 29, 37, 2)
    many = antialias(image, raster, points, faces, cameras)
    shared = antialias(image[:, None], rasterize_mesh(points[:, None], faces, cameras[:1]), points[:, None], faces,
                       cameras[:1])  # fmt: skip
    assert shared.shape == (3, 1, 29, 37, 2)
    for i in range(3):
        one = rasterize_mesh(points[i], faces, cameras[i])
        assert torch.equal(antialias(image[i], one, points[i], faces, cameras[i]), many[i])
    assert torch.equal(shared[0, 0], many[0])


def test_random_soups_give_finite_images_and_gradients():
    for seed in range(6):
        vertices, faces = random_mesh(seed)  # some vertices lie behind the camera, some faces have an edge in common
        vertices[3] = vertices[4]
        vertices.requires_grad_()
        camera = random_camera(seed)
        raster = rasterize_mesh(vertices, faces, camera)
        image = antialias(torch.rand(29, 37, 3), raster, vertices, faces, camera)
        image.square().sum().backward()
        assert image.isfinite().all()
        assert vertices.grad.isfinite().all()


def test_nothing_to_blend():
    camera = random_camera(0)
    faces = torch.zeros(0, 3, dtype=torch.long)
    raster = rasterize_mesh(torch.zeros(3, 3), faces, camera)
    image = torch.randn(29, 37, 3)
    assert torch.equal(antialias(image, raster, torch.zeros(3, 3), faces, camera), image)


def test_neighbors_of_faces():
    neighbors = face_neighbors(CUBE_FACES)
    assert (neighbors >= 0).all()
    for face in range(12):
        for k in range(3):
            edge = set(CUBE_FACES[face].tolist()) - {int(CUBE_FACES[face, k])}
            assert edge <= set(CUBE_FACES[neighbors[face, k]].tolist())
            assert neighbors[face, k] != face
    assert CUBE.shape == (8, 3)
    fan = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4], [5, 6, 6], [2, 1, 5]])
    assert face_neighbors(fan).tolist() == [
        [4, BORDER, MANY], [BORDER, BORDER, MANY], [BORDER, BORDER, MANY], [BORDER] * 3, [BORDER, BORDER, 0]
    ]  # fmt: skip


def test_points_of_an_outline_lie_on_it_and_nowhere_else() -> None:
    vertices, faces = sphere()
    camera = Camera.from_focal(200.0, 128, 128, look_at(torch.tensor([0.3, 0.2, 4.0]), torch.zeros(3)))
    raster = rasterize_mesh(vertices, faces, camera)
    edges, share = outline_edges(raster, vertices, faces, camera)
    points = torch.lerp(vertices[edges[:, 0]], vertices[edges[:, 1]], share[:, None])
    # The outline of a ball is where rays touch it.
    sine = vertices.norm(dim=-1).max() / camera.center.norm()
    away = torch.nn.functional.normalize(points - camera.center, dim=-1)
    angle = torch.acos((away @ torch.nn.functional.normalize(-camera.center, dim=-1)).clamp(-1, 1))
    off = (angle - torch.asin(sine)) * 200.0
    assert float(off.abs().max()) < 1.0
    # Every row and column that the ball reaches has two.
    shown = raster.face_ids >= 0
    assert len(edges) >= 1.2 * (shown.any(0).sum() + shown.any(1).sum())
    pixels = camera.project(points)
    column, row = (pixels - 0.5).round().long().unbind(-1)
    nearby = torch.nn.functional.max_pool2d((~shown).float()[None, None], 3, stride=1, padding=1)[0, 0] > 0
    assert bool(nearby[row, column].all())
