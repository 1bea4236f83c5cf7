"""The soft mask of mesh fitting against its formula, pixel by pixel and face by face."""

from dataclasses import replace

import pytest
import torch
from mesh_shapes import random_camera, random_mesh, sphere

from vultus.cameras import Camera, look_at
from vultus.meshes import face_normals, rasterize_mesh, soft_mask


def by_formula(vertices, faces, camera, sharpness=7000.0, margin=0.02, most=30):
    """One image of a mesh in front of the camera, with loops; autograd."""
    points = camera.to_camera(vertices)
    front = faces[face_normals(points, faces)[:, 2] <= 0]
    covered = rasterize_mesh(vertices.detach(), front, camera).face_ids >= 0
    size = points.new_tensor([camera.width, camera.height])
    ndc = 2 * camera.project(vertices) / size - 1
    rows = []
    for row in range(camera.height):
        for column in range(camera.width):
            if covered[row, column]:
                rows.append(points.new_ones(()))
                continue
            center = points.new_tensor([(2 * column + 1) / camera.width - 1, (2 * row + 1) / camera.height - 1])
            factors = []
            for face in faces:
                corners = ndc[face]
                low, high = corners.amin(0) - margin, corners.amax(0) + margin
                if len(factors) == most or not ((center >= low) & (center <= high)).all():
                    continue
                distances = [to_segment(center, corners[k - 2], corners[k - 1]) for k in range(3)]
                factors.append(1 - torch.exp(-sharpness * torch.stack(distances).amin() ** 2))
            rows.append(1 - torch.stack(factors).prod() if factors else points.new_zeros(()))
    return torch.stack(rows).reshape(camera.height, camera.width, 1)


def to_segment(point, start, end):
    along = end - start
    place = ((point - start) @ along / (along @ along)).clamp(0, 1)
    return (point - start - place * along).norm()


def before(size=24, distance=4.0):
    camera = Camera.from_focal(1.2 * size, size, size, look_at(torch.tensor([0.4, 0.3, distance]), torch.zeros(3)))
    return camera.to(dtype=torch.float64)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((7, 9), {}),
        ((7, 9), {"sharpness": 300.0, "margin": 0.1}),
        ((9, 14), {"sharpness": 300.0, "margin": 0.3, "most": 4}),  # more faces near a pixel than are counted
    ],
)
def test_equals_the_formula_in_values_and_gradients(shape, options):
    vertices, faces = sphere(*shape)
    vertices, camera = vertices.double(), replace(before(20), width=22)
    wanted = torch.randn(20, 22, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for function in (soft_mask, by_formula):
        points, pose = vertices.clone().requires_grad_(), camera.world_to_camera.clone().requires_grad_()
        mask = function(points, faces, replace(camera, world_to_camera=pose), **options)
        (mask * wanted).sum().backward()
        results.append((mask.detach(), points.grad, pose.grad))
    mask = results[1][0]
    assert ((mask > 1e-3) & (mask < 0.999)).sum() > 5
    for fast, slow in zip(*results, strict=True):
        assert (fast - slow).abs().max() < 1e-9 * max(1, float(slow.abs().max()))


def test_the_number_of_faces_is_limited_in_the_order_of_their_indices():
    corners = torch.tensor([[-0.5, -0.5, 2.0], [-0.5, 0.5, 2], [0.5, 0, 2]], dtype=torch.float64)
    camera = Camera.from_focal(20.0, 40, 40).to(dtype=torch.float64)
    shifted = corners + torch.tensor([0.004, 0.0, 0.0])
    vertices, faces = torch.cat([corners, shifted]), torch.arange(6).reshape(2, 3)
    options = {"sharpness": 300.0, "margin": 0.2}
    first, second = (soft_mask(vertices, faces[i : i + 1], camera, **options) for i in range(2))
    both, limited = (soft_mask(vertices, faces, camera, most=most, **options) for most in (2, 1))
    outside = (first < 1) & (second < 1)
    torch.testing.assert_close(limited[outside], first[outside])
    torch.testing.assert_close(both[outside], 1 - (1 - first[outside]) * (1 - second[outside]))


def test_faces_turned_away_by_their_camera_space_normal_cover_nothing_but_still_glow():
    face = torch.tensor([[-0.5, -0.5, 2.0], [0.5, 0, 2], [-0.5, 0.5, 2]], dtype=torch.float64)
    camera = Camera.from_focal(20.0, 40, 40).to(dtype=torch.float64)
    away, toward = (soft_mask(face, torch.tensor([order]), camera) for order in ([0, 1, 2], [0, 2, 1]))
    outside = toward < 1
    assert torch.equal(away[outside], toward[outside])
    assert float(toward[20, 19]) == 1
    assert float(away[20, 19]) < 1e-6  # deep inside: far from every edge
    # Far from the viewing axis a face may show its back although its normal's z says front: the normal decides.
    grazing = torch.tensor([[1.0, -0.2, 2.0], [1.0, 0.2, 2.0], [1.3, 0.0, 3.0]], dtype=torch.float64)
    normal = torch.linalg.cross(grazing[1] - grazing[0], grazing[2] - grazing[0])
    assert normal[2] * (normal @ grazing[0]) < 0
    order = [0, 1, 2] if normal[2] <= 0 else [0, 2, 1]
    wide = Camera.from_focal(60.0, 40, 40, principal=(-10.0, 20.0)).to(dtype=torch.float64)
    assert (soft_mask(grazing, torch.tensor([order]), wide) == 1).any()
    assert not (soft_mask(grazing, torch.tensor([order[::-1]]), wide) == 1).any()


def test_a_pixel_centre_on_an_edge_is_no_trouble():
    vertices = torch.tensor([[-0.5, -0.5, 2.0], [0.5, -0.5, 2], [-0.5, 0.5, 2]])  # turned away: covers nothing
    vertices.requires_grad_()
    camera = Camera.from_focal(20.0, 41, 41)
    mask = soft_mask(vertices, torch.tensor([[0, 1, 2]]), camera)
    assert float(mask[15, 20].detach()) == pytest.approx(1, abs=1e-6)
    mask.sum().backward()
    assert vertices.grad.isfinite().all()


def test_gradient_pulls_a_sphere_to_its_size():
    vertices, faces = sphere(10, 16)
    camera = before(32).to(dtype=torch.float32)
    target = (rasterize_mesh(1.15 * vertices, faces, camera).face_ids >= 0)[..., None].float()
    size = torch.tensor(1.0, requires_grad=True)
    adam = torch.optim.Adam([size], lr=0.01)
    for _ in range(40):
        mask = soft_mask(vertices * size, faces, camera)
        loss = 1 - (mask * target).sum() / (mask + target - mask * target).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(size.detach()) == pytest.approx(1.15, abs=0.06)


def test_batches_equal_single_images_and_soups_are_survived():
    vertices, faces = random_mesh(4)  # some vertices lie behind the cameras
    vertices[7] = float("nan")
    cameras = Camera.stack([random_camera(seed) for seed in range(2)])
    leaf = vertices.clone().requires_grad_()
    many = soft_mask(leaf, faces, cameras, sharpness=300.0, margin=0.2)
    assert many.shape == (2, 29, 37, 1)
    for i in range(2):
        assert torch.equal(soft_mask(vertices, faces, cameras[i], sharpness=300.0, margin=0.2), many[i])
    many.sum().backward()
    assert many.isfinite().all()
    assert leaf.grad[torch.arange(40) != 7].isfinite().all()
    empty = soft_mask(vertices, torch.zeros(0, 3, dtype=torch.long), cameras)
    assert empty.abs().max() == 0
