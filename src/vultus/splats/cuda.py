"""The CUDA backend: a thin adapter to gsplat (Apache-2.0), which must be installed beside a CUDA build of PyTorch."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.splats.gaussians import Gaussians
from vultus.splats.rasterize import Raster, RasterInfo, forward_gradients
from vultus.splats.settings import RasterSettings


def rasterize_cuda(
    gaussians: Gaussians,
    camera: Camera,
    background: Float[Tensor, "*#B D"] | None,
    settings: RasterSettings,
    batch: torch.Size,
    depth: bool,
) -> Raster:
    """`rasterize` on gsplat. Its largest alpha and antialiasing floor are fixed by its version: 0.99 and 0.005 since
    1.6, 0.999 and 0 before (the preset GSPLAT_1_5); other settings than these cannot be drawn."""
    if not torch.cuda.is_available() or importlib.util.find_spec("gsplat") is None:
        raise VultusError(
            "the cuda backend needs an NVIDIA GPU, a CUDA build of PyTorch and gsplat: pip install 'vultus[cuda]'"
        )
    import gsplat  # pyright: ignore[reportMissingImports]

    modern = tuple(int(part) for part in gsplat.__version__.split(".")[:2]) >= (1, 6)
    fixed = (0.99, 0.005) if modern else (0.999, 0.0)
    floor_matters = settings.antialiased and settings.compensation_floor != fixed[1]
    if (
        settings.extent != "tight"
        or not settings.normalise_rotations
        or settings.alpha_max != fixed[0]
        or floor_matters
    ):
        raise VultusError(
            f"gsplat {gsplat.__version__} draws only with alpha_max {fixed[0]}, compensation_floor {fixed[1]}, "
            f"extent 'tight' and normalised rotations, but the settings are {settings}; use another gsplat or the cpu"
        )

    def images(tensor: Tensor | None, tail: int) -> list[Any]:
        if tensor is None:
            return [None] * batch.numel()
        shape = tensor.shape[tensor.dim() - tail :]
        return list(tensor.expand(*batch, *shape).reshape(batch.numel(), *shape).unbind(0))

    parts = [images(gaussians.means, 2), images(gaussians.rotations, 2), images(gaussians.scales, 2)]
    parts += [images(gaussians.opacities, 1)]
    parts += [images(gaussians.features, 2) if gaussians.sh is None else images(gaussians.sh, 3)]
    views, Ks, backgrounds = images(camera.world_to_camera, 2), images(camera.K, 2), images(background, 1)
    results = []
    for i in range(batch.numel()):
        results.append(
            gsplat.rasterization(
                *(part[i] for part in parts),
                views[i][None],
                Ks[i][None],
                camera.width,
                camera.height,
                near_plane=settings.near,
                sh_degree=gaussians.active_degree,
                packed=False,
                backgrounds=None if backgrounds[i] is None else backgrounds[i][None],
                render_mode="RGB+D" if depth else "RGB",
                absgrad=settings.absgrad,
                rasterize_mode="antialiased" if settings.antialiased else "classic",
            )
        )

    def stack(tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors).reshape(*batch, *tensors[0].shape[1:])

    color, alpha = stack([r[0] for r in results]), stack([r[1] for r in results])
    projected = [r[2]["means2d"] for r in results]
    means2d = stack([p.detach() for p in projected])
    absgrad = torch.zeros_like(means2d) if settings.absgrad else None
    if any(p.requires_grad for p in projected):
        means2d.requires_grad_()
        forward_gradients(projected, means2d, absgrad)
    radii = stack([r[2]["radii"] for r in results])
    depths = stack([r[2]["depths"].detach() for r in results])
    info = RasterInfo(means2d, radii, depths, absgrad)
    channels = gaussians.channels
    return Raster(color[..., :channels], alpha, color[..., channels:] if depth else None, info)
