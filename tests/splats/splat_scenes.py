"""Random scenes for tests of the rasteriser."""

import torch

from vultus.cameras import Camera, look_at
from vultus.splats import Gaussians, RasterSettings, rasterize


def random_gaussians(seed, count=60, channels=3, degree=None, dtype=torch.float32, scale=0.08):
    """Splats around the origin, within about 0.5 m, with opacities from invisible to opaque."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    colors = {}
    if degree is None:
        colors["features"] = normal(count, channels).to(dtype)
    else:
        colors["sh"] = (0.6 * normal(count, (degree + 1) ** 2, 3)).to(dtype)
    return Gaussians(
        means=(0.25 * normal(count, 3)).to(dtype),
        rotations=normal(count, 4).to(dtype),
        scales=(scale * torch.exp(0.7 * normal(count, 3))).to(dtype),
        opacities=torch.rand(count, generator=g, dtype=torch.float64).to(dtype),
        **colors,
    )


def random_camera(seed, width=45, height=39, dtype=torch.float32):
    g = torch.Generator().manual_seed(5000 + seed)
    eye = torch.nn.functional.normalize(torch.randn(3, generator=g), dim=0) * 1.4
    pose = look_at(eye, torch.zeros(3)).to(dtype)
    focal = 0.9 * width
    K = torch.tensor([[focal, 0, width / 2 + 2.1], [0, 1.1 * focal, height / 2 - 1.7], [0, 0, 1]], dtype=dtype)
    return Camera(pose, K, width, height)


def settled(gaussians, camera, settings=None):
    """Mask of pixels where no threshold decision is close, so that float32 and float64 must take the same one."""
    settings = settings or RasterSettings()
    wiggled = []
    for factor in (1 - 1e-4, 1 + 1e-4):
        scene = Gaussians(
            gaussians.means, gaussians.rotations, gaussians.scales, gaussians.opacities * factor,
            gaussians.sh, gaussians.features, gaussians.sh_degree,
        ).to(dtype=torch.float64)  # fmt: skip
        with torch.no_grad():
            wiggled.append(rasterize(scene, camera.to(dtype=torch.float64), None, settings, backend="reference").alpha)
    return ((wiggled[0] - wiggled[1]).abs() < 1e-3)[..., 0]


LEAVES = ("means", "rotations", "scales", "opacities", "colors", "pose", "K", "background")


def draw(gaussians, camera, background, settings, backend, dtype, cotangents=None, depth=True):
    """The raster and, with cotangents, the gradients of all eight inputs by name."""
    colors = gaussians.features if gaussians.sh is None else gaussians.sh
    values = [gaussians.means, gaussians.rotations, gaussians.scales, gaussians.opacities, colors]
    values += [camera.world_to_camera, camera.K, background]
    leaves = [v.detach().to(dtype).requires_grad_(cotangents is not None) for v in values]
    kind = "features" if gaussians.sh is None else "sh"
    scene = Gaussians(*leaves[:4], **{kind: leaves[4]}, sh_degree=gaussians.sh_degree)
    view = Camera(leaves[5], leaves[6], camera.width, camera.height)
    raster = rasterize(scene, view, leaves[7], settings, backend=backend, depth=depth)
    if cotangents is None:
        return raster, {}
    loss = (raster.color * cotangents[0].to(dtype)).sum() + (raster.alpha * cotangents[1].to(dtype)).sum()
    if depth:
        loss = loss + (raster.depth * cotangents[2].to(dtype)).sum()
    loss.backward()
    gradients = {name: leaf.grad for name, leaf in zip(LEAVES, leaves, strict=True)}
    gradients["means2d"] = raster.info.means2d.grad
    if raster.info.absgrad is not None:
        gradients["absgrad"] = raster.info.absgrad
    return raster, gradients
