"""What must hold whatever the scene: symmetries, composition, gradients by finite differences, memory."""

import gc
import threading
from dataclasses import replace

import pytest
import torch
from splat_scenes import draw, random_camera, random_gaussians

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.rotations import matrix_to_quaternion, quaternion_to_matrix
from vultus.splats import Gaussians, RasterSettings, evaluate_sh, rasterize, turn_sh1

BACKENDS = pytest.mark.parametrize("backend", ["cpu", "reference"])
NAMES = ("means", "rotations", "scales", "opacities", "features")


def some(gaussians, index):
    return Gaussians(**{name: getattr(gaussians, name)[index] for name in NAMES})


def images(raster):
    return torch.cat([raster.color, raster.alpha, raster.depth], dim=-1)


def test_turned_coefficients_show_the_same_from_a_turned_direction():
    generator = torch.Generator().manual_seed(2)
    coefficients, directions = (torch.randn(50, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    turn = quaternion_to_matrix(
        torch.nn.functional.normalize(torch.randn(50, 4, generator=generator, dtype=torch.float64), dim=-1)
    )
    whole, changed = (
        torch.cat([torch.ones(50, 1, 3, dtype=torch.float64), each], dim=1)
        for each in (coefficients, turn_sh1(coefficients, turn))
    )
    direction = directions[:, 0]
    there = (turn @ direction[..., None])[..., 0]
    assert torch.allclose(evaluate_sh(there, changed, 1), evaluate_sh(direction, whole, 1))


@BACKENDS
def test_turning_the_world_and_the_camera_together_changes_nothing(backend):
    gaussians, camera = random_gaussians(1, dtype=torch.float64), random_camera(1, dtype=torch.float64)
    turn = quaternion_to_matrix(
        torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8, 0.1], dtype=torch.float64), dim=0)
    )
    shift = torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64)
    pose = camera.world_to_camera.clone()
    pose[:3, :3] = camera.world_to_camera[:3, :3] @ turn.T
    pose[:3, 3] = camera.world_to_camera[:3, 3] - pose[:3, :3] @ shift
    own = quaternion_to_matrix(torch.nn.functional.normalize(gaussians.rotations, dim=-1))
    moved = replace(gaussians, means=gaussians.means @ turn.T + shift, rotations=matrix_to_quaternion(turn @ own))
    before = images(rasterize(gaussians, camera, backend=backend)).double()
    after = images(rasterize(moved, replace(camera, world_to_camera=pose), backend=backend)).double()
    # A decision at a threshold may fall the other way by rounding, at single pixels.
    error = (before - after).abs()
    assert error.quantile(0.99) < (1e-5 if backend == "cpu" else 1e-12)
    assert error.max() < 1e-2


@BACKENDS
def test_near_half_over_far_half_is_the_whole(backend):
    gaussians, camera = random_gaussians(2), random_camera(2)
    gaussians = replace(gaussians, opacities=0.3 * gaussians.opacities)  # no pixel stops early
    whole = rasterize(gaussians, camera, backend=backend)
    order = whole.info.depths.argsort()
    near, far = (rasterize(some(gaussians, half), camera, backend=backend) for half in (order[:30], order[30:]))
    light = 1 - near.alpha
    assert (near.color + light * far.color - whole.color).abs().max() < 2e-6
    assert (near.alpha + light * far.alpha - whole.alpha).abs().max() < 2e-6
    assert (near.depth + light * far.depth - whole.depth).abs().max() < 2e-6


def test_without_gradients_the_picture_is_the_same_bit_by_bit():
    gaussians, camera = random_gaussians(3, count=500, channels=3), random_camera(3, 200, 150)
    for channels in (3, 8, 32):
        features = torch.rand(500, channels, generator=torch.Generator().manual_seed(0))
        scene = replace(gaussians, features=features)
        leaf = replace(scene, means=scene.means.clone().requires_grad_())
        with_gradients = images(rasterize(leaf, camera, backend="cpu")).detach()
        with torch.no_grad():
            assert torch.equal(images(rasterize(leaf, camera, backend="cpu")), with_gradients)
        for _ in range(3):
            assert torch.equal(images(rasterize(scene, camera, backend="cpu")), with_gradients)


def test_ten_splats_on_eight_by_eight_pixels():
    gaussians, camera = random_gaussians(4, count=10), random_camera(4, 8, 8)
    cotangents = [torch.ones(8, 8, c) for c in (3, 1, 1)]
    arguments = (gaussians, camera, torch.zeros(3), RasterSettings())
    fast, fast_gradients = draw(*arguments, "cpu", torch.float32, cotangents)
    slow, slow_gradients = draw(*arguments, "reference", torch.float64, cotangents)
    assert (fast.color - slow.color).abs().max() < 1e-4
    for name, expected in slow_gradients.items():
        assert (fast_gradients[name] - expected).abs().max() < 1e-3 * expected.abs().max(), name


@BACKENDS
def test_negative_sizes(backend):
    # The covariance holds squares: the sign of a standard deviation means nothing.
    gaussians, camera = random_gaussians(5), random_camera(5)
    mirrored = replace(gaussians, scales=-gaussians.scales)
    assert torch.equal(
        images(rasterize(gaussians, camera, backend=backend)), images(rasterize(mirrored, camera, backend=backend))
    )
    hidden = replace(gaussians, opacities=-gaussians.opacities)
    assert rasterize(hidden, camera, backend=backend).alpha.abs().max() == 0
    with pytest.raises(VultusError, match="image size is 45 x -3"):
        rasterize(gaussians, replace(camera, height=-3), backend=backend)


def test_splats_that_cover_the_whole_image_many_times():
    # 2000 splats on each of 256 tiles: the lists hold every one of them in every tile, and nothing more.
    gaussians, camera = random_gaussians(6, count=2000), random_camera(6, 256, 256)
    wide = replace(gaussians, scales=gaussians.scales * 100, opacities=0.004 + 0.001 * gaussians.opacities)
    raster = rasterize(wide, camera, backend="cpu")
    drawn = int((raster.info.radii > 0).all(-1).sum())
    assert 0 < raster.info.work.entries <= 256 * drawn
    assert raster.color.isfinite().all()


@pytest.mark.parametrize("channels", [3, 32])
def test_pictures_keep_their_memory_as_long_as_they_live(channels):
    # Large images come from memory that is used again once they are gone, and not before.
    camera = random_camera(7, 320, 240)
    scenes = [random_gaussians(seed, count=200, channels=channels) for seed in range(4)]
    kept = [rasterize(scene, camera, backend="cpu") for scene in scenes]
    part = rasterize(scenes[0], camera, backend="cpu").color[100:140]  # a view outlives its tensor
    copies = [images(raster).clone() for raster in kept]
    wanted = part.clone()
    for _ in range(5):
        for scene in scenes:
            rasterize(scene, camera, backend="cpu")
    gc.collect()
    assert all(torch.equal(images(raster), copy) for raster, copy in zip(kept, copies, strict=True))
    assert torch.equal(part, wanted)


def test_pictures_may_be_dropped_by_any_thread():
    scene, camera = random_gaussians(8, count=100, channels=16), random_camera(8, 256, 256)
    expected = rasterize(scene, camera, backend="cpu").color.clone()
    wrong = []

    def work():
        for _ in range(10):
            raster = rasterize(scene, camera, backend="cpu")
            if not torch.equal(raster.color, expected):
                wrong.append(1)
            del raster

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


@pytest.mark.parametrize("kind", ["sh", "features"])
def test_every_gradient_of_the_reference_by_finite_differences(kind):
    # Opacities well inside their range keep away from kinks, and so do centres on the image: the limits of the
    # Jacobian outside it depend on K, and count as constants.
    degree = 2 if kind == "sh" else None
    scene = random_gaussians(9, count=5, degree=degree, channels=4, dtype=torch.float64, scale=0.15)
    camera = random_camera(9, 6, 5, dtype=torch.float64)
    opacities = 0.2 + 0.3 * scene.opacities
    background = torch.tensor([0.2, 0.5, 0.7, 0.1][: 3 if kind == "sh" else 4], dtype=torch.float64)
    colors = getattr(scene, kind)
    inputs = [
        0.4 * scene.means,
        scene.rotations,
        scene.scales,
        opacities,
        colors,
        camera.world_to_camera,
        camera.K,
        background,
    ]
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    weights = torch.Generator().manual_seed(1)
    weight = torch.randn(5, 6, len(background) + 2, generator=weights, dtype=torch.float64)

    def loss(*values):
        gaussians = Gaussians(*values[:4], **{kind: values[4]})
        raster = rasterize(gaussians, Camera(values[5], values[6], 6, 5), values[7], backend="reference")
        return (images(raster) * weight).sum()

    analytic = torch.autograd.grad(loss(*inputs), inputs)
    generator = torch.Generator().manual_seed(2)
    names = ("means", "rotations", "scales", "opacities", kind, "pose", "K", "background")
    for index, (name, leaf, gradient) in enumerate(zip(names, inputs, analytic, strict=True)):
        assert gradient.abs().max() > 0, name
        for _ in range(3):
            direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
            if name == "pose":
                direction[3] = 0  # the last row is no parameter of a rigid motion
            if name == "K":
                direction *= torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]], dtype=torch.float64)
            values = []
            for step in (1e-6, -1e-6):
                moved = [t.detach() for t in inputs]
                moved[index] = moved[index] + step * direction
                values.append(loss(*moved))
            numeric = (values[0] - values[1]) / 2e-6
            assert torch.allclose(numeric, (gradient * direction).sum(), rtol=1e-5, atol=1e-6), name
