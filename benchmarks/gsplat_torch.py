"""gsplat's own PyTorch code (`gsplat.cuda._torch_impl`, 1.5) on a CPU, to compare with; for benchmarks/rasterizer.py.

That code is made for tests beside a GPU. Three of its parts run on a CPU as they are: projection, the tile lists (a
Python loop) and the compositing of given pairs of a Gaussian and a pixel. Two things that it takes from elsewhere do
not: the search for those pairs is a CUDA operator, and the products along each pixel's pairs are CUDA operators of
nerfacc. Both are written here in PyTorch. The search is not counted as gsplat's time, the products are.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vultus.cameras import Camera
from vultus.splats import Gaussians

TILE = 16


def missing() -> str:
    """Why gsplat's code cannot be run here; empty if it can."""
    try:
        importlib.import_module("gsplat.cuda._torch_impl")
    except ImportError as error:
        return f"gsplat is not installed ({error}): pip install 'vultus[cuda]' (no GPU needed for this)"
    return ""


def _weights(alphas: Tensor, ray_indices: Tensor, n_rays: int) -> tuple[Tensor, Tensor]:
    """Stands in for nerfacc.render_weight_from_alpha: alpha times the light left before it, pairs sorted by pixel."""
    logs = torch.log1p(-alphas.double())
    before = logs.cumsum(0) - logs
    counts = torch.bincount(ray_indices, minlength=n_rays)
    first = (counts.cumsum(0) - counts).clamp(max=len(alphas) - 1)
    light = torch.exp(before - before[first][ray_indices]).to(alphas)
    return alphas * light, light


def _sums(weights: Tensor, values: Tensor | None, ray_indices: Tensor, n_rays: int) -> Tensor:
    """Stands in for nerfacc.accumulate_along_rays."""
    parts = weights[:, None] if values is None else weights[:, None] * values
    return parts.new_zeros(n_rays, parts.shape[-1]).index_add(0, ray_indices, parts)


class TorchPath:
    """One scene and camera, with the pairs that its picture is made of."""

    def __init__(self, gaussians: Gaussians, camera: Camera) -> None:
        from gsplat.cuda import _torch_impl  # pyright: ignore[reportMissingImports]

        self._code: Any = _torch_impl
        self._operators: Any = types.SimpleNamespace(render_weight_from_alpha=_weights, accumulate_along_rays=_sums)
        self.gaussians, self.camera = gaussians, camera
        with torch.no_grad():
            self.pairs = self._pairs()

    def project(self, gaussians: Gaussians) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Radii, centres, depths and conics of [1, N] Gaussians, by gsplat."""
        covariances, _ = self._code._quat_scale_to_covar_preci(
            gaussians.rotations, gaussians.scales, True, False, triu=False
        )
        camera = self.camera
        view = (camera.world_to_camera[None], camera.K[None], camera.width, camera.height)
        return self._code._fully_fused_projection(gaussians.means, covariances, *view)[:4]

    def tile_lists(self) -> Tensor:
        """The Gaussians of every tile in depth order, by gsplat's Python loop."""
        radii, centres, depths, _ = self.project(self.gaussians)
        across, down = -(-self.camera.width // TILE), -(-self.camera.height // TILE)
        return self._code._isect_tiles(centres, radii, depths, TILE, across, down)[2]

    def _pairs(self) -> tuple[Tensor, Tensor]:
        """Gaussian and pixel of every pair that is seen (alpha at least 1/255, pixel not finished), pixel by pixel."""
        radii, centres, depths, conics = (t[0] for t in self.project(self.gaussians))
        width, height = self.camera.width, self.camera.height
        drawn = torch.nonzero((radii > 0).all(-1))[:, 0]
        order = drawn[depths[drawn].argsort(stable=True)]
        centres, conics, radii = centres[order], conics[order], radii[order]
        opacities = self.gaussians.opacities[order]
        gaussians, pixels = [], []
        for top in range(0, height, TILE):
            in_row = torch.nonzero((centres[:, 1] - top - TILE / 2).abs() < radii[:, 1] + TILE / 2)[:, 0]
            for left in range(0, width, TILE):
                near = in_row[(centres[in_row, 0] - left - TILE / 2).abs() < radii[in_row, 0] + TILE / 2]
                rows, columns = range(top, min(top + TILE, height)), range(left, min(left + TILE, width))
                y, x = torch.meshgrid(torch.tensor(rows), torch.tensor(columns), indexing="ij")
                offset = torch.stack([x, y], dim=-1).reshape(-1, 1, 2) + 0.5 - centres[near]
                a, b, c = conics[near].unbind(-1)
                power = 0.5 * (a * offset[..., 0] ** 2 + c * offset[..., 1] ** 2) + b * offset[..., 0] * offset[..., 1]
                alpha = (opacities[near] * torch.exp(-power)).clamp(max=0.999)
                alpha[alpha < 1 / 255] = 0
                kept = (alpha > 0) & ((1 - alpha).cumprod(dim=1) > 1e-4)
                pixel, place = torch.nonzero(kept, as_tuple=True)
                gaussians.append(order[near[place]])
                pixels.append((y * width + x).flatten()[pixel])
        gaussian, pixel = torch.cat(gaussians), torch.cat(pixels)
        by_pixel = pixel.argsort(stable=True)
        return gaussian[by_pixel], pixel[by_pixel]

    def composite(self, gaussians: Gaussians) -> Tensor:
        """The picture [H, W, D] of the projected Gaussians, by gsplat's compositing of the pairs."""
        _, centres, _, conics = self.project(gaussians)
        assert gaussians.features is not None
        gaussian, pixel = self.pairs
        size = (self.camera.width, self.camera.height)
        before = sys.modules.get("nerfacc")
        sys.modules["nerfacc"] = self._operators  # which gsplat imports when it is called
        try:
            parts = (gaussians.opacities[None], gaussians.features[None], gaussian, pixel, torch.zeros_like(pixel))
            return self._code.accumulate(centres, conics, *parts, *size)[0][0]
        finally:
            sys.modules.pop("nerfacc")
            if before is not None:
                sys.modules["nerfacc"] = before

    def forward(self) -> Callable[[], Tensor]:
        """Projection and compositing without gradients."""

        def run() -> Tensor:
            with torch.no_grad():
                return self.composite(self.gaussians)

        return run

    def forward_and_backward(self) -> Callable[[], Tensor]:
        """Projection and compositing with gradients of all that describes the Gaussians."""
        scene = self.gaussians
        tensors = [scene.means, scene.rotations, scene.scales, scene.opacities, scene.features]
        leaves = [t.detach().requires_grad_() for t in tensors if t is not None]
        cotangent = torch.rand(self.camera.height, self.camera.width, scene.channels)

        def run() -> Tensor:
            color = self.composite(Gaussians(*leaves[:4], features=leaves[4]))
            torch.autograd.grad(color, leaves, cotangent)
            return color

        return run
