"""The mesh rasteriser's Warp kernels: on Warp's CPU device, and, on a machine with a GPU, there."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from mesh_shapes import random_camera, random_mesh, sphere

from vultus.cameras import Camera, look_at
from vultus.errors import VultusError
from vultus.meshes import antialias, barycentric_at, interpolate, rasterize_mesh


@pytest.fixture(scope="session")
def warp(tmp_path_factory):
    if importlib.util.find_spec("warp") is None:
        pytest.skip("needs Warp: pip install 'vultus[cuda]' (its kernels also run without a GPU)")
    if "warp" not in sys.modules:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WARP_CACHE_PATH", str(tmp_path_factory.mktemp("warp")))
            import vultus.meshes.cuda  # noqa: F401


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def draw(request, warp):
    """`rasterize_mesh` by Warp, of CPU tensors and with a result on the CPU."""
    from vultus.meshes.cuda import draw_with_warp

    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs an NVIDIA GPU and a CUDA build of PyTorch")

        def on_gpu(vertices, faces, camera):
            raster = rasterize_mesh(vertices.cuda(), faces.cuda(), camera.to("cuda"), backend="cuda")
            assert raster.face_ids.is_cuda
            return type(raster)(raster.face_ids.cpu(), raster.barycentric.cpu(), raster.depth.cpu())

        return on_gpu

    def on_cpu(vertices, faces, camera):
        batch = torch.broadcast_shapes(vertices.shape[:-2], camera.batch_shape)
        views = camera.world_to_camera.expand(*batch, 4, 4).reshape(-1, 4, 4)
        Ks = camera.K.expand(*batch, 3, 3).reshape(-1, 3, 3)
        points = vertices.expand(*batch, *vertices.shape[-2:]).reshape(-1, *vertices.shape[-2:])
        return draw_with_warp(points, faces, Camera(views, Ks, camera.width, camera.height), batch)

    return on_cpu


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_compiled_and_the_reference_rasteriser(draw, seed):
    vertices, faces = random_mesh(seed)
    camera = random_camera(seed)  # some vertices lie behind it
    found = draw(vertices, faces, camera)
    assert (found.face_ids >= 0).float().mean() > 0.3
    for backend in ("cpu", "reference"):
        wanted = rasterize_mesh(vertices, faces, camera, backend=backend)
        same = found.face_ids == wanted.face_ids
        assert same.float().mean() > 0.998  # a pixel centre may fall on an edge within rounding
        torch.testing.assert_close(found.depth[same], wanted.depth[same], atol=1e-6, rtol=0)
        torch.testing.assert_close(found.barycentric[same], wanted.barycentric[same], atol=1e-5, rtol=0)


def test_arithmetic_is_that_of_the_compiled_rasteriser_to_the_bit(draw):
    vertices, faces = sphere()
    camera = Camera.from_focal(150.0, 129, 77, look_at(torch.tensor([0.3, 0.2, 4.0]), torch.zeros(3)))
    one, other = draw(vertices, faces, camera), rasterize_mesh(vertices, faces, camera, backend="cpu")
    for name in ("face_ids", "depth", "barycentric"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_a_closed_surface_has_no_holes(draw):
    vertices, faces = sphere(60, 120)  # triangles of few pixels: many edges to fall between
    raster = draw(
        vertices, faces, Camera.from_focal(900.0, 256, 256, look_at(torch.tensor([2.0, 1, 4]), torch.zeros(3)))
    )
    assert (raster.face_ids >= 0).all()


def test_equally_near_faces_show_the_first(draw):
    vertices = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    faces = torch.tensor([[1, 2, 0], [0, 1, 2], [2, 0, 1]])
    camera = Camera.from_focal(20.0, 32, 48, look_at(torch.tensor([0.0, 0, 3]), torch.zeros(3)))
    ids = draw(vertices, faces, camera).face_ids
    assert set(ids.unique().tolist()) == {-1, 0}
    assert set(draw(vertices, faces.flip(0), camera).face_ids.unique().tolist()) == {-1, 0}


def test_a_face_that_fills_the_image_and_reaches_behind_the_camera(draw):
    floor = torch.tensor([[-50.0, -0.3, 50], [50, -0.3, 50], [0, -0.3, -90]])
    camera = Camera.from_focal(60.0, 70, 90, look_at(torch.tensor([0.0, 0.2, 2]), torch.zeros(3)))
    found = draw(floor, torch.tensor([[0, 1, 2]]), camera)
    wanted = rasterize_mesh(floor, torch.tensor([[0, 1, 2]]), camera, backend="reference")
    assert torch.equal(found.face_ids, wanted.face_ids)
    assert 0.3 < (found.face_ids == 0).float().mean() < 1
    torch.testing.assert_close(found.depth, wanted.depth)


def test_batches(draw):
    vertices, faces = random_mesh(1)
    cameras = Camera.stack([random_camera(s) for s in range(3)])
    many = draw(vertices, faces, cameras)
    assert many.face_ids.shape == (3, 29, 37)
    for i in range(3):
        assert torch.equal(many.face_ids[i], draw(vertices, faces, cameras[i]).face_ids)
    pair = draw(torch.stack([vertices, vertices * 0.5, vertices]), faces, cameras)
    assert torch.equal(pair.barycentric[2], many.barycentric[2])
    assert not torch.equal(pair.face_ids[1], many.face_ids[1])


def test_nothing_to_draw(draw):
    camera = random_camera(0)
    empty = draw(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.long), camera)
    assert (empty.face_ids == -1).all()
    assert empty.depth.abs().max() == 0
    assert empty.barycentric.abs().max() == 0
    vertices, faces = random_mesh(0)
    vertices[faces[:, 0]] = float("nan")
    assert (draw(vertices, faces, camera).face_ids == -1).all()
    assert (draw(torch.zeros(3, 3), torch.tensor([[0, 1, 1]]), camera).face_ids == -1).all()


@pytest.mark.parametrize("part", ["K", "world_to_camera"])
def test_a_broken_camera_is_refused(draw, part):
    camera = random_camera(0)
    values = {"world_to_camera": camera.world_to_camera, "K": camera.K}
    values[part] = values[part] * float("nan")
    with pytest.raises(VultusError, match="finite"):
        draw(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), Camera(**values, width=4, height=4))


def test_the_public_function_draws_on_gpus_only(warp):
    vertices, faces = random_mesh(0)
    with pytest.raises(VultusError, match="vertices are on cpu"):
        rasterize_mesh(vertices, faces, random_camera(0), backend="cuda")


def test_without_warp_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    vertices, faces = random_mesh(0)
    with pytest.raises(VultusError, match=r"pip install 'vultus\[cuda\]'"):
        rasterize_mesh(vertices, faces, random_camera(0), backend="cuda")


@pytest.mark.cuda
def test_values_and_gradients_on_a_gpu_equal_those_on_the_cpu(warp):
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU and a CUDA build of PyTorch")
    results = []
    for device in ("cpu", "cuda"):
        vertices, faces = (t.to(device) for t in sphere(12, 20))
        camera = Camera.from_focal(60.0, 64, 48, look_at(torch.tensor([0.5, 0.2, 2.5]), torch.zeros(3))).to(device)
        points = vertices.clone().requires_grad_()
        raster = rasterize_mesh(points, faces, camera)  # chooses by the device
        image = interpolate(points, faces, raster.face_ids, barycentric_at(points, faces, camera, raster.face_ids))
        image = antialias(image, raster, points, faces, camera)
        image.square().sum().backward()
        assert image.device == points.device
        results.append((image.detach().cpu(), points.grad.cpu()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
