"""The CUDA backend: a front to gsplat (Apache-2.0), which must be installed beside a CUDA build of PyTorch.

What gsplat cannot draw as `RasterSettings` say is refused, never approximated.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.splats.gaussians import Gaussians
from vultus.splats.rasterize import Raster, RasterInfo, forward_gradients
from vultus.splats.reference import covariance, drawable_ones
from vultus.splats.settings import FAR, LOW_PASS, UNUSABLE_CAMERA, RasterSettings

_OLDEST = (1, 5)
_CHANNELS_AT_ONCE = 32


def rasterize_cuda(
    gaussians: Gaussians,
    camera: Camera,
    background: Float[Tensor, "*#B D"] | None,
    settings: RasterSettings,
    batch: torch.Size,
    depth: bool,
) -> Raster:
    """`rasterize` on gsplat, in float32.

    Its largest alpha and antialiasing floor are fixed by its version: 0.999 and 0 in 1.5 (the preset GSPLAT_1_5), 0.99
    and 0.005 since 1.6.
    """
    if not torch.cuda.is_available() or importlib.util.find_spec("gsplat") is None:
        raise VultusError(
            "the cuda backend needs an NVIDIA GPU, a CUDA build of PyTorch and gsplat: pip install 'vultus[cuda]'"
        )
    colors = gaussians.features if gaussians.sh is None else gaussians.sh
    scene = [gaussians.means, gaussians.rotations, gaussians.scales, gaussians.opacities, colors]
    devices = {t.device for t in (*scene, camera.world_to_camera, camera.K, background) if t is not None}
    if len(devices) > 1 or not gaussians.means.is_cuda:
        raise VultusError(
            "the cuda backend draws tensors of one GPU, but Gaussians, camera and background are on "
            f"{', '.join(sorted(map(str, devices)))}; move them with .to('cuda')"
        )
    import gsplat  # pyright: ignore[reportMissingImports]

    return draw_with(gsplat, gaussians, camera, background, settings, batch, depth)


def draw_with(
    gsplat: Any,
    gaussians: Gaussians,
    camera: Camera,
    background: Float[Tensor, "*#B D"] | None,
    settings: RasterSettings,
    batch: torch.Size,
    depth: bool,
) -> Raster:
    """Draw with a gsplat module that is there. Raises VultusError, naming everything that it cannot do as asked."""
    _refuse_impossible(gsplat.__version__, gaussians, camera, settings, depth)
    parts = {"means": 2, "rotations": 2, "scales": 2, "opacities": 1, "sh": 3, "features": 2}
    split = {name: _images(getattr(gaussians, name), tail, batch) for name, tail in parts.items()}
    views, Ks = _images(camera.world_to_camera, 2, batch), _images(camera.K, 2, batch)
    backgrounds = _images(background, 1, batch)
    results, places = [], []
    for i in range(batch.numel()):
        one = replace(gaussians, **{name: values[i] for name, values in split.items()})
        view = replace(camera, world_to_camera=views[i], K=Ks[i])
        results.append(_draw_one(gsplat, one, view, backgrounds[i], settings, depth))
        places.append(_place(one, view, settings))
    if not results:
        raise VultusError("the batch of cameras or Gaussians is empty; there is no image to draw")
    colors, alphas, projected, radii = zip(*results, strict=True)

    def stack(tensors: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(tensors).reshape(*batch, *tensors[0].shape)

    # gsplat leaves the places of what it does not draw as the memory was.
    positions, depths = (stack(part) for part in zip(*places, strict=True))
    absgrad = torch.zeros_like(positions) if settings.absgrad else None
    if any(p.requires_grad for p in projected):
        positions.requires_grad_()
        forward_gradients(projected, positions, absgrad)
    color, channels = stack(colors), gaussians.channels
    info = RasterInfo(positions, stack(radii), depths, absgrad)
    return Raster(color[..., :channels], stack(alphas), color[..., channels:] if depth else None, info)


def _refuse_impossible(
    version: str, gaussians: Gaussians, camera: Camera, settings: RasterSettings, depth: bool
) -> None:
    release = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    alpha_max, floor = (0.999, 0.0) if release < (1, 6) else (0.99, 0.005)
    problems = []
    if release < _OLDEST:
        problems.append("it is older than 1.5, which cuts Gaussians elsewhere")
    if settings.alpha_max != alpha_max:
        problems.append(f"alpha_max is {settings.alpha_max}, its own is {alpha_max}")
    if settings.antialiased and settings.compensation_floor != floor:
        problems.append(f"compensation_floor is {settings.compensation_floor}, its own is {floor}")
    if settings.extent != "tight":
        problems.append(f"extent is {settings.extent!r}, it knows 'tight' only")
    if camera.K.requires_grad and torch.is_grad_enabled():
        problems.append("K requires a gradient, of which it computes none")
    if settings.absgrad and gaussians.channels + depth > _CHANNELS_AT_ONCE:
        problems.append(f"absgrad is asked for with more than {_CHANNELS_AT_ONCE} channels (depth included)")
    if problems:
        raise VultusError(
            f"gsplat {version} cannot draw this: {'; '.join(problems)}. Use the settings it has "
            f"({'GSPLAT_1_5' if release < (1, 6) else 'VULTUS'}), or backend='cpu' with tensors on the CPU"
        )


def _images(tensor: Tensor | None, tail: int, batch: torch.Size) -> list[Any]:
    """One per image of the batch."""
    if tensor is None:
        return [None] * batch.numel()
    shape = tensor.shape[tensor.dim() - tail :]
    return list(tensor.float().expand(*batch, *shape).reshape(batch.numel(), *shape).unbind(0))


def _draw_one(
    gsplat: Any,
    gaussians: Gaussians,
    camera: Camera,
    background: Float[Tensor, "D"] | None,
    settings: RasterSettings,
    depth: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colour (and depth as the last channel), alpha, projected means and radii of one image."""
    view, K = camera.world_to_camera, camera.K
    with torch.no_grad():
        usable = view[:3].isfinite().all() & K.isfinite().all()
        usable &= torch.linalg.det(view[:3, :3]) * K[0, 0] * K[1, 1] != 0
        if not bool(usable):
            raise VultusError(UNUSABLE_CAMERA)
    means = gaussians.means
    if gaussians.count == 0:
        color = means.new_zeros(camera.height, camera.width, gaussians.channels)
        color = color if background is None else color + background
        color = torch.cat([color, color.new_zeros(*color.shape[:2], 1)], dim=-1) if depth else color
        return color, color.new_zeros(*color.shape[:2], 1), means[:, :2], torch.zeros_like(means[:, :2]).int()
    # What cannot be drawn is replaced by something harmless and invisible, so that its gradient is 0.
    drawn = drawable_ones(gaussians, settings)
    unit = means.new_tensor([1.0, 0.0, 0.0, 0.0])
    means = torch.where(drawn[:, None], means, 0.0)
    rotations = torch.where(drawn[:, None], gaussians.rotations, unit)
    scales = torch.where(drawn[:, None], gaussians.scales, 1.0)
    opacities = torch.where(drawn, gaussians.opacities, 0.0)
    colors = gaussians.features if gaussians.sh is None else gaussians.sh
    assert colors is not None
    colors = torch.where(drawn.view(-1, *[1] * (colors.dim() - 1)), colors, 0.0)
    # gsplat normalises quaternions; others reach it as covariances.
    covariances = None if settings.normalise_rotations else covariance(rotations, scales, normalise=False)
    image, alpha, meta = gsplat.rasterization(
        means,
        rotations,
        scales,
        opacities,
        colors,
        view[None],
        K[None],
        camera.width,
        camera.height,
        near_plane=settings.near,
        far_plane=FAR,
        eps2d=LOW_PASS,
        sh_degree=gaussians.active_degree,
        packed=False,
        backgrounds=None if background is None else background[None],
        render_mode="RGB+D" if depth else "RGB",
        absgrad=settings.absgrad,
        rasterize_mode="antialiased" if settings.antialiased else "classic",
        channel_chunk=_CHANNELS_AT_ONCE,
        covars=covariances,
    )
    return image[0], alpha[0], meta["means2d"], meta["radii"][0]


@torch.no_grad()
def _place(
    gaussians: Gaussians, camera: Camera, settings: RasterSettings
) -> tuple[Float[Tensor, "N 2"], Float[Tensor, "N"]]:
    """Projected centres (pixels) and depths (metres) of all Gaussians, drawn or not."""
    points = camera.to_camera(torch.where(drawable_ones(gaussians, settings)[:, None], gaussians.means, 0.0))
    depth = points[:, 2]
    seen = (depth >= settings.near) & (depth <= FAR)
    points = torch.where(seen[:, None], points, points.new_tensor([0.0, 0.0, 1.0]))
    K = camera.K
    return points[:, :2] / points[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2], depth
