"""`rasterize`: Gaussians seen by cameras, with the same meaning on every backend."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus import kernels
from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.splats.gaussians import Gaussians, broadcast
from vultus.splats.settings import RasterSettings

Backend = Literal["auto", "cpu", "cuda", "reference"]

_log = logging.getLogger("vultus")


@dataclass(frozen=True)
class Work:
    """What the compiled backend did: (tile, Gaussian) list entries, those visited before the pixels of their tile were
    finished, and pixels tested against a Gaussian; the seconds it spent on projecting, on sorting by depth, on the tile
    lists and on compositing."""

    entries: int
    visited: int
    evaluated: int
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class RasterInfo:
    """What densification and debugging need besides the image.

    means2d: projected centres, pixels. When gradients are recorded it is a tensor whose `.grad` holds, after
        `backward`, the gradient through the compositing (pixels); a loss on means2d itself does not reach the splats.
    radii: half the size of the drawn box in x and y, whole pixels; 0 where the Gaussian is not drawn at all.
    depths: camera-space z of the centres, metres.
    absgrad: with RasterSettings.absgrad, the sum over pixels of the absolute gradient, filled by `backward`.
    work: counters of the compiled backend.
    """

    means2d: Float[Tensor, "*B N 2"]
    radii: Int[Tensor, "*B N 2"]
    depths: Float[Tensor, "*B N"]
    absgrad: Float[Tensor, "*B N 2"] | None = None
    work: Work | None = None


@dataclass(frozen=True)
class Raster:
    """An image of Gaussians: colour with the background blended in, alpha = 1 - transmittance, and accumulated depth
    (sum of blending weight times camera z, metres; divide by alpha for the expected depth; None when not asked for)."""

    color: Float[Tensor, "*B H W D"]
    alpha: Float[Tensor, "*B H W 1"]
    depth: Float[Tensor, "*B H W 1"] | None
    info: RasterInfo


def rasterize(
    gaussians: Gaussians,
    camera: Camera,
    background: Float[Tensor, "*#B D"] | None = None,
    settings: RasterSettings | None = None,
    *,
    backend: Backend = "auto",
    depth: bool = True,
) -> Raster:
    """Draw Gaussians through a camera; differentiable in every tensor argument.

    Batches broadcast pairwise: one scene with C cameras gives C images, B scenes with B cameras give B images.
    Gaussians behind the near plane, off the image, with opacity below 1/255, with a zero quaternion or with any number
    that is not finite are left out: their radii and gradients are 0 and the others are unaffected. Gradients treat
    the decisions to skip, to clamp and to stop as constants. depth=False saves the time of the depth image.

    Raises VultusError for shapes that do not fit together, cameras that are not finite, and backends that cannot run
    here.
    """
    settings = settings or RasterSettings()
    if camera.width <= 0 or camera.height <= 0:
        raise VultusError(f"the camera's image size is {camera.width} x {camera.height}; both must be at least 1")
    if background is not None and background.shape[-1:] != (gaussians.channels,):
        raise VultusError(
            f"the background has shape {tuple(background.shape)}; its last size must be the number of channels, "
            f"{gaussians.channels}"
        )
    try:
        shapes = [gaussians.batch_shape, camera.batch_shape] + ([] if background is None else [background.shape[:-1]])
        batch = broadcast(shapes)
    except RuntimeError as error:
        raise VultusError(f"batches of Gaussians, cameras and background do not fit together: {error}") from None
    return _implementation(backend, gaussians)(gaussians, camera, background, settings, batch, depth)


Implementation = Callable[
    [Gaussians, Camera, Float[Tensor, "*#B D"] | None, RasterSettings, torch.Size, bool],
    Raster,
]


def _implementation(backend: Backend, gaussians: Gaussians) -> Implementation:
    if backend == "auto":
        backend = _choose(gaussians)
    if backend == "reference":
        return _rasterize_reference
    if backend == "cpu":
        from vultus.splats.cpu import rasterize_cpu

        return rasterize_cpu
    if backend == "cuda":
        from vultus.splats.cuda import rasterize_cuda

        return rasterize_cuda
    raise VultusError(f"unknown rasteriser backend {backend!r}; choose auto, cpu, cuda or reference")


def _choose(gaussians: Gaussians) -> Backend:
    if gaussians.means.device.type == "cuda":
        return "cuda"
    if gaussians.means.dtype == torch.float64:
        return "reference"
    if kernels.status().available:
        return "cpu"
    _warn_slow()
    return "reference"


@functools.cache
def _warn_slow() -> None:
    _log.warning("The compiled rasteriser is not available, drawing will be very slow. %s", kernels.status().message)


def _rasterize_reference(
    gaussians: Gaussians,
    camera: Camera,
    background: Float[Tensor, "*#B D"] | None,
    settings: RasterSettings,
    batch: torch.Size,
    depth: bool,
) -> Raster:
    from vultus.splats.reference import rasterize_one

    def images(tensor: Tensor | None, tail: int) -> list[Tensor | None]:
        if tensor is None:
            return [None] * batch.numel()
        shape = tensor.shape[tensor.dim() - tail :]
        return list(tensor.expand(*batch, *shape).reshape(batch.numel(), *shape).unbind(0))

    parts = {"means": 2, "rotations": 2, "scales": 2, "opacities": 1, "sh": 3, "features": 2}
    split = {name: images(getattr(gaussians, name), tail) for name, tail in parts.items()}
    views, Ks, backgrounds = images(camera.world_to_camera, 2), images(camera.K, 2), images(background, 1)
    dtype, n = gaussians.means.dtype, gaussians.count
    absgrad = torch.zeros(*batch, n, 2, dtype=dtype) if settings.absgrad else None
    slots = images(absgrad, 2)
    results = []
    for i in range(batch.numel()):
        one = replace(gaussians, **{name: values[i] for name, values in split.items()})
        view = replace(camera, world_to_camera=views[i], K=Ks[i])
        results.append(rasterize_one(one, view, backgrounds[i], settings, slots[i]))
    if not results:
        raise VultusError("the batch of cameras or Gaussians is empty; there is no image to draw")
    color, alpha, depth_image, means2d, radii, depths = zip(*results, strict=True)

    def stack(tensors: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(tensors).reshape(*batch, *tensors[0].shape)

    positions = stack(tuple(m.detach() for m in means2d))
    if any(m.requires_grad for m in means2d):
        positions.requires_grad_()
        forward_gradients(means2d, positions)
    info = RasterInfo(positions, stack(radii), stack(depths).detach(), absgrad)
    return Raster(stack(color), stack(alpha), stack(depth_image) if depth else None, info)


def forward_gradients(parts: Sequence[Tensor], whole: Tensor, absgrad: Tensor | None = None) -> None:
    """Add the gradients that reach the projected means of each image to `whole.grad`, so that it can be read there
    whatever the backend; with `absgrad` also collect what gsplat leaves in the attribute of that name."""

    def forward(i: int, gradient: Tensor) -> None:
        if whole.grad is None:
            whole.grad = torch.zeros_like(whole)
        shape = (len(parts), *whole.shape[-2:])
        whole.grad.view(shape)[i] += gradient.reshape(shape[1:])
        if absgrad is not None:
            absgrad.view(shape)[i] += parts[i].absgrad.reshape(shape[1:])  # type: ignore[attr-defined]

    for i, part in enumerate(parts):
        if part.requires_grad:
            part.register_hook(functools.partial(forward, i))
