"""The compiled rasteriser against the reference in float64, over random scenes, and invariances of both."""

import pytest
import torch
from splat_scenes import draw, random_camera, random_gaussians, settled

from vultus.cameras import Camera
from vultus.splats import GSPLAT_1_5, INRIA, VULTUS, Gaussians, RasterSettings, rasterize

CASES = [
    # seed, channels, degree, settings, with depth
    (0, 3, None, VULTUS, True),
    (1, 3, None, RasterSettings(absgrad=True), False),
    (2, 1, None, RasterSettings(absgrad=True), True),
    (3, 2, None, VULTUS, False),
    (4, 4, None, RasterSettings(antialiased=True), True),
    (5, 5, None, VULTUS, True),
    (6, 6, None, VULTUS, True),
    (7, 7, None, RasterSettings(absgrad=True), False),
    (8, 19, None, RasterSettings(absgrad=True), True),
    (9, 33, None, VULTUS, True),
    (10, 70, None, VULTUS, False),
    (11, 3, 0, VULTUS, True),
    (12, 3, 1, VULTUS, True),
    (13, 3, 2, RasterSettings(antialiased=True, absgrad=True), True),
    (14, 3, 3, VULTUS, False),
    (15, 3, 4, VULTUS, True),
    (16, 3, 3, GSPLAT_1_5, True),
    (17, 3, None, INRIA, True),
    (18, 3, None, RasterSettings(normalise_rotations=False), True),
    (19, 3, None, RasterSettings(antialiased=True, compensation_floor=0.0), True),
    (20, 3, None, RasterSettings(alpha_max=0.9, near=1.3), True),
]


@pytest.mark.parametrize(("seed", "channels", "degree", "settings", "depth"), CASES, ids=lambda v: str(v)[:12])
def test_compiled_equals_reference(seed, channels, degree, settings, depth):
    gaussians = random_gaussians(seed, channels=channels, degree=degree)
    if not settings.normalise_rotations:
        unit = torch.nn.functional.normalize(gaussians.rotations, dim=-1) * 1.02
        gaussians = Gaussians(
            gaussians.means, unit, gaussians.scales, gaussians.opacities, gaussians.sh, gaussians.features
        )
    camera = random_camera(seed)
    background = torch.linspace(-1, 1, gaussians.channels)
    stable = settled(gaussians, camera, settings)
    assert stable.float().mean() > 0.8
    generator = torch.Generator().manual_seed(seed)
    size = (camera.height, camera.width)
    cotangents = [torch.randn(*size, c, generator=generator) * stable[..., None] for c in (gaussians.channels, 1, 1)]
    fast, fast_gradients = draw(gaussians, camera, background, settings, "cpu", torch.float32, cotangents, depth)
    slow, slow_gradients = draw(gaussians, camera, background, settings, "reference", torch.float64, cotangents, depth)
    for name in ("color", "alpha", "depth") if depth else ("color", "alpha"):
        error = (getattr(fast, name) - getattr(slow, name)).detach().abs()[stable].max()
        assert error < 3e-5, name
    assert fast_gradients.keys() == slow_gradients.keys()
    for name, expected in slow_gradients.items():
        assert expected.abs().max() > 0, name
        error = (fast_gradients[name] - expected).abs().max() / expected.abs().max()
        assert error < 3e-4, (name, float(error))
    drawn = (slow.info.radii > 0).all(-1)
    assert torch.equal(drawn, (fast.info.radii > 0).all(-1))
    assert (fast.info.radii - slow.info.radii).abs().max() <= 1
    assert (fast.info.means2d - slow.info.means2d)[drawn].abs().max() < 1e-3


def test_reference_gradients_by_finite_differences():
    gaussians = random_gaussians(3, count=6, degree=2, dtype=torch.float64, scale=0.15)
    camera = random_camera(3, 7, 6, dtype=torch.float64)
    background = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)

    def image(means, rotations, scales, opacities, sh, pose, K, background):
        scene = Gaussians(means, rotations, scales, opacities, sh=sh)
        settings = RasterSettings(antialiased=True)
        raster = rasterize(scene, Camera(pose, K, 7, 6), background, settings, backend="reference")
        return raster.color, raster.alpha, raster.depth

    opacities = 0.2 + 0.3 * gaussians.opacities  # far from every threshold that matters
    inputs = (gaussians.means, gaussians.rotations, gaussians.scales, opacities, gaussians.sh)
    inputs = [t.clone().requires_grad_() for t in (*inputs, camera.world_to_camera, camera.K, background)]
    analytic = torch.autograd.grad(sum(o.square().sum() for o in image(*inputs)), inputs)
    # The clamp limits of the Jacobian are constants by definition, so K is checked in the middle of the image only
    # through its principal point, and thresholds are avoided by a small step.
    for index, (leaf, gradient) in enumerate(zip(inputs, analytic, strict=True)):
        direction = torch.randn_like(leaf)
        if index == 6:
            direction = torch.zeros_like(leaf)
            direction[:2, 2] = 1
        step = 1e-7
        values = []
        for sign in (1, -1):
            moved = [t.detach() for t in inputs]
            moved[index] = moved[index] + sign * step * direction
            values.append(sum(o.square().sum() for o in image(*moved)))
        numeric = (values[0] - values[1]) / (2 * step)
        assert torch.allclose(numeric, (gradient * direction).sum(), rtol=1e-4, atol=1e-5), index


def images(raster):
    return torch.cat([raster.color, raster.alpha, raster.depth], dim=-1)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_order_and_quaternion_length_do_not_matter(backend):
    gaussians, camera = random_gaussians(1), random_camera(1)
    plain = images(rasterize(gaussians, camera, backend=backend))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    shuffled = Gaussians(
        gaussians.means[order], -3 * gaussians.rotations[order], gaussians.scales[order], gaussians.opacities[order],
        features=gaussians.features[order],
    )  # fmt: skip
    assert (images(rasterize(shuffled, camera, backend=backend)) - plain).abs().max() < 1e-5


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_batches_equal_single_calls_with_summed_gradients(backend):
    scenes = [random_gaussians(s, count=30) for s in (1, 2, 3)]
    cameras = [random_camera(s, 33, 18) for s in (1, 2, 3)]
    stacked = Camera.stack(cameras)
    background = torch.rand(3, 3)
    # One scene and three cameras.
    means = scenes[0].means.clone().requires_grad_()
    shared = Gaussians(means, scenes[0].rotations, scenes[0].scales, scenes[0].opacities, features=scenes[0].features)
    many = rasterize(shared, stacked, background, backend=backend)
    images(many).square().sum().backward()
    total = torch.zeros_like(means)
    for i, camera in enumerate(cameras):
        leaf = scenes[0].means.clone().requires_grad_()
        one = Gaussians(leaf, scenes[0].rotations, scenes[0].scales, scenes[0].opacities, features=scenes[0].features)
        raster = rasterize(one, camera, background[i], backend=backend)
        assert torch.allclose(images(many)[i], images(raster), atol=1e-6)
        images(raster).square().sum().backward()
        total += leaf.grad
        assert torch.allclose(many.info.means2d.grad[i], raster.info.means2d.grad, atol=1e-5, rtol=1e-4)
    assert torch.allclose(means.grad, total, atol=1e-4 * float(total.abs().max()))
    # Three scenes with three cameras, some fields shared.
    pairs = Gaussians(
        torch.stack([s.means for s in scenes]), scenes[0].rotations, scenes[0].scales, scenes[0].opacities[None],
        features=torch.stack([s.features for s in scenes]),
    )  # fmt: skip
    many = rasterize(pairs, stacked, backend=backend)
    assert many.color.shape == (3, 18, 33, 3)
    assert many.info.radii.shape == (3, 30, 2)
    last = Gaussians(
        scenes[2].means, scenes[0].rotations, scenes[0].scales, scenes[0].opacities, features=scenes[2].features
    )
    assert torch.allclose(images(many)[2], images(rasterize(last, cameras[2], backend=backend)), atol=1e-6)
    # A grid of batches.
    grid = rasterize(
        Gaussians(pairs.means[:, None], *(t for t in (pairs.rotations, pairs.scales, scenes[0].opacities)),
                  features=pairs.features[:, None]),
        stacked[:2], backend=backend,
    )  # fmt: skip
    assert grid.alpha.shape == (3, 2, 18, 33, 1)


def test_channels_are_independent():
    gaussians, camera = random_gaussians(4, channels=9), random_camera(4)
    whole = rasterize(gaussians, camera, backend="cpu").color
    for start in range(0, 9, 3):
        part = Gaussians(
            gaussians.means, gaussians.rotations, gaussians.scales, gaussians.opacities,
            features=gaussians.features[:, start : start + 3],
        )  # fmt: skip
        assert torch.allclose(rasterize(part, camera, backend="cpu").color, whole[..., start : start + 3], atol=2e-6)
    depths = rasterize(gaussians, camera, backend="cpu").info.depths
    as_feature = Gaussians(
        gaussians.means, gaussians.rotations, gaussians.scales, gaussians.opacities, features=depths[:, None]
    )
    raster = rasterize(as_feature, camera, backend="cpu")
    assert torch.allclose(raster.color, raster.depth, atol=1e-6)


def test_background_gradient_is_the_light_that_passes():
    gaussians, camera = random_gaussians(5), random_camera(5)
    background = torch.zeros(3, requires_grad=True)
    raster = rasterize(gaussians, camera, background, backend="cpu")
    raster.color.sum().backward()
    assert torch.allclose(background.grad, (1 - raster.alpha).sum().expand(3), rtol=1e-5)


def test_active_degree_ignores_higher_coefficients():
    full, camera = random_gaussians(6, degree=3), random_camera(6)
    low = Gaussians(full.means, full.rotations, full.scales, full.opacities, sh=full.sh[:, :4].contiguous())
    sh = full.sh.clone().requires_grad_()
    limited = Gaussians(full.means, full.rotations, full.scales, full.opacities, sh=sh, sh_degree=1)
    raster = rasterize(limited, camera, backend="cpu")
    assert torch.allclose(raster.color, rasterize(low, camera, backend="cpu").color, atol=1e-6)
    raster.color.sum().backward()
    assert sh.grad[:, 4:].abs().max() == 0
    assert sh.grad[:, :4].abs().max() > 0


def test_presets_differ_where_they_should():
    camera = random_camera(7)
    wide = Gaussians(
        torch.zeros(1, 3),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.full((1, 3), 0.3),
        torch.ones(1),
        features=torch.ones(1, 1),
    )
    ours, older = (rasterize(wide, camera, None, s, backend="cpu").alpha.max() for s in (VULTUS, GSPLAT_1_5))
    assert ours == pytest.approx(0.99)
    assert 0.99 < older <= 0.999
    # Three standard deviations cut off at most an alpha of exp(-4.5) = 0.0111 per Gaussian.
    single = Gaussians(torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.1), torch.ones(1),
                       features=torch.ones(1, 1))  # fmt: skip
    cut = rasterize(single, camera, None, INRIA, backend="cpu").alpha
    whole = rasterize(single, camera, None, RasterSettings(near=0.2, normalise_rotations=False), backend="cpu").alpha
    assert (whole - cut).max() <= 0.0112
    assert ((cut == whole) | (cut == 0)).all()


def test_gradients_are_accumulated_like_autograd_does():
    gaussians, camera = random_gaussians(8), random_camera(8)
    means = gaussians.means.clone().requires_grad_()
    scene = Gaussians(means, gaussians.rotations, gaussians.scales, gaussians.opacities, features=gaussians.features)
    raster = rasterize(scene, camera, backend="cpu")
    first = torch.autograd.grad(raster.color.sum(), means, retain_graph=True)[0]
    second = torch.autograd.grad(raster.alpha.sum(), means, retain_graph=True)[0]
    both = torch.autograd.grad(raster.color.sum() + raster.alpha.sum(), means)[0]
    assert torch.allclose(first + second, both, atol=1e-4 * float(both.abs().max()))
    with torch.no_grad():
        assert not rasterize(scene, camera, backend="cpu").color.requires_grad
