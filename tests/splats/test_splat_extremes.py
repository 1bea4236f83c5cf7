"""Inputs at and beyond the edge of what can be drawn."""

import time
from dataclasses import replace

import pytest
import torch
from splat_scenes import draw, random_camera, random_gaussians

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.splats import Gaussians, RasterSettings, rasterize

BACKENDS = pytest.mark.parametrize("backend", ["cpu", "reference"])


@BACKENDS
def test_no_gaussians(backend):
    empty = random_gaussians(0, count=0)
    means = empty.means.clone().requires_grad_()
    background = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
    raster = rasterize(replace(empty, means=means), random_camera(0), background, backend=backend)
    assert torch.allclose(raster.color, background.expand_as(raster.color))
    assert raster.alpha.abs().max() == 0
    assert raster.info.radii.shape == (0, 2)
    raster.color.sum().backward()
    assert torch.allclose(background.grad, torch.full((3,), 45.0 * 39))


@BACKENDS
def test_everything_behind_the_camera(backend):
    gaussians, camera = random_gaussians(1), random_camera(1)
    behind = replace(gaussians, means=(gaussians.means - 100 * camera.world_to_camera[2, :3]).requires_grad_())
    raster = rasterize(behind, camera, backend=backend)
    assert raster.color.abs().max() == 0
    assert (raster.info.radii == 0).all()
    raster.color.sum().backward()
    assert behind.means.grad.abs().max() == 0


@BACKENDS
@pytest.mark.parametrize("field", ["means", "rotations", "scales", "opacities", "features"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_isolated(backend, field, value):
    gaussians, camera = random_gaussians(2), random_camera(2)
    spoiled = getattr(gaussians, field).clone()
    spoiled[7] = value
    if value > 0 and spoiled.dim() > 1:
        spoiled[7, 1:] = 0.5  # one bad component is enough
    without = [i for i in range(60) if i != 7]
    names = ("means", "rotations", "scales", "opacities", "features")
    rest = Gaussians(**{name: getattr(gaussians, name)[without] for name in names})
    cotangents = [torch.ones(39, 45, c) for c in (3, 1, 1)]
    background = torch.zeros(3)
    settings = RasterSettings(absgrad=True)
    arguments = (camera, background, settings, backend, torch.float32, cotangents)
    raster, gradients = draw(replace(gaussians, **{field: spoiled}), *arguments)
    expected, expected_gradients = draw(rest, *arguments)
    assert torch.allclose(raster.color, expected.color, atol=1e-5)
    assert (raster.info.radii[7] == 0).all()
    for name in ("means", "rotations", "scales", "opacities", "colors"):
        assert gradients[name][7].abs().max() == 0, name
        scale = float(expected_gradients[name].abs().max())
        assert torch.allclose(gradients[name][without], expected_gradients[name], atol=1e-5 * scale), name
    assert all(g.isfinite().all() for g in gradients.values())


@BACKENDS
def test_zero_quaternions_scales_and_opacities_at_the_ends(backend):
    gaussians, camera = random_gaussians(3), random_camera(3)
    rotations, scales = gaussians.rotations.clone(), gaussians.scales.clone()
    opacities = gaussians.opacities.clone()
    rotations[0] = 0
    scales[1] = 0
    scales[2, 1:] = 0
    opacities[3], opacities[4] = 0, 1
    odd = replace(gaussians, rotations=rotations, scales=scales, opacities=opacities)
    cotangents = [torch.ones(39, 45, c) for c in (3, 1, 1)]
    for antialiased in (False, True):
        settings = RasterSettings(antialiased=antialiased)
        raster, gradients = draw(odd, camera, torch.zeros(3), settings, backend, torch.float32, cotangents)
        assert raster.color.isfinite().all()
        assert all(g.isfinite().all() for g in gradients.values())
        assert (raster.info.radii[0] == 0).all()
        assert (raster.info.radii[3] == 0).all()
        if not antialiased:
            assert (raster.info.radii[1] > 0).all()  # a point is drawn as the low-pass filter's dot
        for name in ("means", "rotations", "scales", "opacities", "colors"):
            assert gradients[name][0].abs().max() == 0


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 50), (50, 3), (15, 17), (16, 16), (33, 1)])
def test_odd_image_sizes(width, height):
    gaussians, camera = random_gaussians(4), random_camera(4, width, height)
    fast = rasterize(gaussians, camera, backend="cpu")
    slow = rasterize(gaussians, camera, backend="reference")
    assert fast.color.shape == (height, width, 3)
    assert (fast.color - slow.color).abs().max() < 5e-3
    assert (fast.color - slow.color).abs().mean() < 1e-5


@BACKENDS
def test_exactly_on_the_near_plane_is_drawn(backend):
    camera = Camera.from_focal(20.0, 16, 16)
    z = torch.tensor([0.5, 0.49999997, 0.50000006])
    gaussians = Gaussians(
        torch.stack([torch.zeros(3), torch.zeros(3), z], dim=-1),
        torch.tensor([[1.0, 0, 0, 0]]).expand(3, 4),
        torch.full((3, 3), 0.01),
        torch.full((3,), 0.5),
        features=torch.ones(3, 1),
    )
    radii = rasterize(gaussians, camera, None, RasterSettings(near=0.5), backend=backend).info.radii
    assert (radii > 0).all(-1).tolist() == [True, False, True]


@BACKENDS
def test_unusable_arguments_are_named(backend):
    gaussians, camera = random_gaussians(5), random_camera(5)
    with pytest.raises(VultusError, match="image size is 0 x 39"):
        rasterize(gaussians, replace(camera, width=0), backend=backend)
    with pytest.raises(VultusError, match="number of channels, 3"):
        rasterize(gaussians, camera, torch.zeros(4), backend=backend)
    many = replace(gaussians, means=gaussians.means.expand(2, -1, -1))
    with pytest.raises(VultusError, match="do not fit"):
        rasterize(many, Camera.stack([camera] * 3), backend=backend)
    broken = camera.world_to_camera.clone()
    broken[1, 3] = float("nan")
    with pytest.raises(VultusError, match="camera cannot be used"):
        rasterize(gaussians, replace(camera, world_to_camera=broken), backend=backend)
    with pytest.raises(VultusError, match="camera cannot be used"):
        rasterize(gaussians, replace(camera, world_to_camera=torch.zeros(4, 4)), backend=backend)


def test_malformed_gaussians_are_named():
    good = random_gaussians(6)
    with pytest.raises(VultusError, match="exactly one"):
        replace(good, sh=torch.zeros(60, 1, 3))
    with pytest.raises(VultusError, match="scales has shape"):
        replace(good, scales=good.scales[:50])
    with pytest.raises(VultusError, match="5 coefficients"):
        replace(good, features=None, sh=torch.zeros(60, 5, 3))
    with pytest.raises(VultusError, match="sh_degree is 2"):
        replace(good, features=None, sh=torch.zeros(60, 4, 3), sh_degree=2)
    with pytest.raises(VultusError, match="alpha_max"):
        RasterSettings(alpha_max=1.0)
    with pytest.raises(VultusError, match="unknown rasteriser backend"):
        rasterize(good, random_camera(0), backend="fast")  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_says_what_it_needs():
    with pytest.raises(VultusError, match=r"pip install 'vultus\[cuda\]'"):
        rasterize(random_gaussians(0), random_camera(0), backend="cuda")


def test_enormous_splats_have_finite_images_and_gradients():
    gaussians, camera = random_gaussians(7, count=300), random_camera(7, 200, 150)
    huge = replace(gaussians, scales=gaussians.scales * 1e4, opacities=gaussians.opacities * 0.1)
    cotangents = [torch.ones(150, 200, c) for c in (3, 1, 1)]
    raster, gradients = draw(huge, camera, torch.zeros(3), RasterSettings(), "cpu", torch.float32, cotangents)
    assert raster.alpha.min() > 0.5
    assert all(g.isfinite().all() for g in gradients.values())
    extreme = replace(gaussians, scales=gaussians.scales * 1e15)
    assert rasterize(extreme, camera, backend="cpu").color.isfinite().all()


@pytest.mark.slow
def test_lists_longer_than_one_band_give_the_same_image():
    # 60,000 splats on all of 32 x 32 tiles make more list entries than are kept at once. All pixels are finished long
    # before the last splat, so that without the farther half, which fits into one band, nothing may change.
    gaussians = random_gaussians(8, count=60_000)
    gaussians = replace(gaussians, scales=gaussians.scales * 50, opacities=gaussians.opacities * 0.02)
    camera = random_camera(8, 512, 512)
    cotangents = [torch.ones(512, 512, c) for c in (3, 1, 1)]
    arguments = (camera, torch.zeros(3), RasterSettings(), "cpu", torch.float32, cotangents)
    whole, gradients = draw(gaussians, *arguments)
    assert whole.info.work.entries > 1 << 25
    order = torch.where(whole.info.radii[:, 0] > 0, whole.info.depths, torch.inf).argsort()
    near, far = order[:30_000].sort().values, order[30_000:]
    names = ("means", "rotations", "scales", "opacities", "features")
    half, half_gradients = draw(Gaussians(**{n: getattr(gaussians, n)[near] for n in names}), *arguments)
    assert half.info.work.entries < 1 << 25
    assert torch.equal(whole.color, half.color)
    for name in ("means", "rotations", "scales", "opacities", "colors"):
        assert torch.equal(gradients[name][near], half_gradients[name]), name
        assert gradients[name][far].abs().max() == 0


@pytest.mark.slow
def test_a_million_splats():
    gaussians = random_gaussians(9, count=1_000_000, scale=0.002)
    camera = random_camera(9, 1024, 1024)
    cotangents = [torch.ones(1024, 1024, c) for c in (3, 1, 1)]
    start = time.process_time()
    raster, gradients = draw(gaussians, camera, torch.zeros(3), RasterSettings(), "cpu", torch.float32, cotangents)
    assert time.process_time() - start < 60
    assert raster.alpha.mean() > 0.2
    assert all(g.isfinite().all() for g in gradients.values())
