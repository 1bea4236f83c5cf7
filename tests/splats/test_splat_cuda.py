"""The CUDA backend: its adapter against a stand-in for gsplat, and, on a machine with a GPU, gsplat itself."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import gsplat_stand_in
import pytest
import torch
from splat_scenes import random_camera, random_gaussians, settled

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.splats import GSPLAT_1_5, INRIA, VULTUS, Gaussians, rasterize
from vultus.splats.cuda import draw_with

LEAVES = ("means", "rotations", "scales", "opacities", "colors", "pose", "background")


def backend_of(name):
    """`rasterize` of float32 tensors on the adapter's stand-in ("adapter") or on gsplat ("cuda")."""
    if name == "cuda":
        if not torch.cuda.is_available() or importlib.util.find_spec("gsplat") is None:
            pytest.skip("needs an NVIDIA GPU, a CUDA build of PyTorch and gsplat")

        def draw(gaussians, camera, background=None, settings=GSPLAT_1_5, depth=True):
            background = None if background is None else background.cuda()
            view = Camera(camera.world_to_camera.cuda(), camera.K.cuda(), camera.width, camera.height)
            return rasterize(gaussians.to("cuda"), view, background, settings, backend="cuda", depth=depth)

    else:

        def draw(gaussians, camera, background=None, settings=GSPLAT_1_5, depth=True):
            batch = torch.broadcast_shapes(gaussians.batch_shape, camera.batch_shape)
            return draw_with(gsplat_stand_in, gaussians, camera, background, settings, batch, depth)

    return draw


@pytest.fixture(params=["adapter", pytest.param("cuda", marks=pytest.mark.cuda)])
def draw(request):
    return backend_of(request.param)


def reference(gaussians, camera, background=None, settings=GSPLAT_1_5, depth=True):
    return rasterize(gaussians, camera, background, settings, backend="reference", depth=depth)


def with_gradients(function, gaussians, camera, background, settings, depth, dtype, cotangents):
    colors = gaussians.features if gaussians.sh is None else gaussians.sh
    values = [gaussians.means, gaussians.rotations, gaussians.scales, gaussians.opacities, colors]
    leaves = [v.detach().to(dtype).requires_grad_() for v in (*values, camera.world_to_camera, background)]
    kind = "features" if gaussians.sh is None else "sh"
    scene = Gaussians(*leaves[:4], **{kind: leaves[4]}, sh_degree=gaussians.sh_degree)
    view = Camera(leaves[5], camera.K.to(dtype), camera.width, camera.height)
    raster = function(scene, view, leaves[6], settings, depth)
    parts = [raster.color, raster.alpha] + ([raster.depth] if depth else [])
    loss = sum((part * c[..., : part.shape[-1]].to(part)).sum() for part, c in zip(parts, cotangents, strict=False))
    loss.backward()
    gradients = {name: leaf.grad for name, leaf in zip(LEAVES, leaves, strict=True)}
    gradients["means2d"] = raster.info.means2d.grad
    if settings.absgrad:
        gradients["absgrad"] = raster.info.absgrad
    return raster, {name: value.cpu().double() for name, value in gradients.items()}


@pytest.mark.parametrize(
    ("scene", "settings", "depth"),
    [
        ({}, GSPLAT_1_5, True),
        ({}, GSPLAT_1_5, False),
        ({"channels": 1}, GSPLAT_1_5, True),
        ({"channels": 40}, GSPLAT_1_5, True),
        ({"degree": 0}, GSPLAT_1_5, True),
        ({"degree": 4}, GSPLAT_1_5, False),
        ({"scale": 0.01}, replace(GSPLAT_1_5, antialiased=True), True),
        ({"degree": 2}, replace(GSPLAT_1_5, absgrad=True, near=1.2), True),
        ({}, replace(GSPLAT_1_5, normalise_rotations=False), True),
    ],
    ids=["rgbd", "rgb", "one channel", "40 channels", "sh0", "sh4", "antialiased", "absgrad", "covariances"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_reference_in_values_and_gradients(draw, scene, settings, depth, seed):
    gaussians, camera = random_gaussians(seed, **scene), random_camera(seed)
    background = torch.rand(gaussians.channels, generator=torch.Generator().manual_seed(seed))
    calm = settled(gaussians, camera, settings)[..., None]
    generator = torch.Generator().manual_seed(9)
    shapes = [gaussians.channels, 1, 1]
    cotangents = [calm * torch.randn(39, 45, c, generator=generator, dtype=torch.float64) for c in shapes]
    arguments = (gaussians, camera, background, settings, depth)
    exact, wanted = with_gradients(reference, *arguments, torch.float64, cotangents)
    found, gradients = with_gradients(draw, *arguments, torch.float32, cotangents)
    for name in ("color", "alpha", "depth"):
        one, other = getattr(exact, name), getattr(found, name)
        if one is None:
            assert other is None
            continue
        assert other.shape == one.shape
        assert ((other.cpu() - one) * calm).abs().max() < 5e-5 * max(1, float(one.detach().abs().max()))
    same = (found.info.radii.cpu() > 0).all(-1) == (exact.info.radii > 0).all(-1)
    assert same.float().mean() > 0.95  # an opacity may lie on the threshold
    torch.testing.assert_close(found.info.depths.cpu().double(), exact.info.depths, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        found.info.means2d.detach().cpu().double(), exact.info.means2d.detach(), rtol=1e-4, atol=1e-3
    )
    for name, value in gradients.items():
        assert (value - wanted[name]).abs().max() < 2e-3 * max(1e-3, float(wanted[name].abs().max())), name


def test_batches_of_scenes_and_cameras(draw):
    gaussians = random_gaussians(0)
    cameras = Camera.stack([random_camera(seed) for seed in range(3)])
    many = draw(gaussians, cameras)
    assert many.color.shape == (3, 39, 45, 3)
    assert many.info.means2d.shape == (3, 60, 2)
    for i in range(3):
        torch.testing.assert_close(draw(gaussians, cameras[i]).color, many.color[i])
    pair = replace(gaussians, opacities=torch.stack([gaussians.opacities, 0.5 * gaussians.opacities]))
    both = draw(pair, random_camera(0))
    torch.testing.assert_close(both.color[0], many.color[0])
    assert not torch.equal(both.color[1], both.color[0])


def test_what_is_broken_is_left_out_and_the_others_are_unaffected(draw):
    whole = random_gaussians(3, count=20)
    camera = random_camera(3)
    broken = [value.clone() for value in (whole.means, whole.rotations, whole.scales, whole.opacities, whole.features)]
    broken[0][0], broken[1][1], broken[2][2, 1] = torch.nan, 0.0, torch.inf
    broken[3][3], broken[4][4, 0] = torch.nan, -torch.inf
    leaves = [value.requires_grad_() for value in broken]
    raster = draw(Gaussians(*leaves[:4], features=leaves[4]), camera)
    raster.color.sum().backward()
    rest = Gaussians(*(t[5:] for t in (whole.means, whole.rotations, whole.scales, whole.opacities)),
                     features=whole.features[5:])  # fmt: skip
    torch.testing.assert_close(raster.color.detach(), draw(rest, camera).color)
    assert (raster.info.radii[:5] == 0).all()
    for leaf in leaves:
        assert leaf.grad.isfinite().all()
        assert (leaf.grad[:5] == 0).all()


def test_nothing_to_draw_shows_the_background(draw):
    empty = random_gaussians(0, count=0)
    background = torch.tensor([0.2, 0.4, 0.6])
    raster = draw(empty, random_camera(0), background)
    assert (raster.color.cpu() == background).all()
    assert raster.alpha.abs().max() == 0
    assert raster.info.radii.shape == (0, 2)
    behind = replace(random_gaussians(0), means=random_gaussians(0).means + 100)
    assert draw(behind, random_camera(0), background).alpha.abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (VULTUS, r"alpha_max is 0\.99, its own is 0\.999"),
        (replace(GSPLAT_1_5, antialiased=True, compensation_floor=0.005), r"compensation_floor is 0\.005"),
        (INRIA, "extent is 'inria'"),
        (replace(VULTUS, extent="inria"), "alpha_max.*; extent"),
    ],
)
def test_settings_it_does_not_have_are_refused_by_name(draw, settings, words):
    with pytest.raises(VultusError, match=words):
        draw(random_gaussians(0), random_camera(0), None, settings)


def test_gradients_of_intrinsics_are_refused(draw):
    camera = random_camera(0)
    camera = replace(camera, K=camera.K.clone().requires_grad_())
    with pytest.raises(VultusError, match="K requires a gradient"):
        draw(random_gaussians(0), camera)
    with torch.no_grad():
        draw(random_gaussians(0), camera)


def test_absolute_gradients_of_many_channels_are_refused(draw):
    settings = replace(GSPLAT_1_5, absgrad=True)
    draw(random_gaussians(0, channels=31), random_camera(0), None, settings)
    with pytest.raises(VultusError, match="32 channels"):
        draw(random_gaussians(0, channels=32), random_camera(0), None, settings)
    draw(random_gaussians(0, channels=32), random_camera(0), None, settings, depth=False)


def test_a_broken_camera_is_refused(draw):
    camera = random_camera(0)
    with pytest.raises(VultusError, match="camera cannot be used"):
        draw(random_gaussians(0), replace(camera, K=camera.K * torch.nan))


@pytest.mark.parametrize(("version", "settings"), [("1.6.0", VULTUS), ("1.5.3+pt24cu121", GSPLAT_1_5)])
def test_the_version_decides_which_settings_it_has(monkeypatch, version, settings):
    monkeypatch.setattr(gsplat_stand_in, "__version__", version)
    draw = backend_of("adapter")
    draw(random_gaussians(0), random_camera(0), None, settings)
    with pytest.raises(VultusError, match=f"gsplat {version.replace('+', '.')}"):
        draw(random_gaussians(0), random_camera(0), None, VULTUS if settings == GSPLAT_1_5 else GSPLAT_1_5)


def test_an_old_gsplat_is_refused(monkeypatch):
    monkeypatch.setattr(gsplat_stand_in, "__version__", "1.4.0")
    with pytest.raises(VultusError, match=r"older than 1\.5"):
        backend_of("adapter")(random_gaussians(0), random_camera(0))


@pytest.mark.cuda
def test_tensors_elsewhere_are_refused():
    backend_of("cuda")
    with pytest.raises(VultusError, match="of one GPU"):
        rasterize(random_gaussians(0), random_camera(0), None, GSPLAT_1_5, backend="cuda")


@pytest.mark.cuda
def test_tensors_on_a_gpu_are_drawn_there():
    backend_of("cuda")
    gaussians, camera = random_gaussians(0).to("cuda"), random_camera(0).to("cuda")
    assert rasterize(gaussians, camera, None, GSPLAT_1_5).color.is_cuda
