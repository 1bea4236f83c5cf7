"""The rasteriser written as plain tensor algebra: every pixel against every Gaussian, any dtype, autograd.

It defines what the compiled backends must compute. Elliptical weighted averaging: Zwicker et al., "EWA splatting"
(2002); compositing: Kerbl et al., "3D Gaussian Splatting" (2023); antialiasing: Yu et al., "Mip-Splatting" (2024).
Work is pixels x Gaussians: practical to about 1e8 pairs per image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.splats.gaussians import Gaussians
from vultus.splats.settings import (
    ALPHA_CUTOFF,
    FAR,
    LOW_PASS,
    MIN_TRANSMITTANCE,
    TIGHT_SIGMAS,
    TILE,
    UNUSABLE_CAMERA,
    RasterSettings,
)
from vultus.splats.sh import sh_to_rgb

_PAIRS_AT_ONCE = 4_000_000


def covariance(
    rotations: Float[Tensor, "*N 4"], scales: Float[Tensor, "*N 3"], normalise: bool = True
) -> Float[Tensor, "*N 3 3"]:
    """World-space covariances R diag(s)² Rᵀ of quaternions wxyz and standard deviations."""
    if normalise:
        rotations = torch.nn.functional.normalize(rotations, dim=-1)
    w, x, y, z = rotations.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    factor = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2) * scales[..., None, :]
    return factor @ factor.transpose(-1, -2)


def projection_jacobian(
    points: Float[Tensor, "N 3"], K: Float[Tensor, "3 3"], width: int, height: int
) -> Float[Tensor, "N 2 3"]:
    """Derivative of the pixel position at camera-space `points`.

    The direction is clamped to 0.15 image sizes outside the image, where the linear approximation breaks down.
    """
    x, y, z = points.unbind(-1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    with torch.no_grad():
        left, right = -cx / fx - 0.15 * width / fx, (width - cx) / fx + 0.15 * width / fx
        top, bottom = -cy / fy - 0.15 * height / fy, (height - cy) / fy + 0.15 * height / fy
    u = torch.minimum(torch.maximum(x / z, left), right)
    v = torch.minimum(torch.maximum(y / z, top), bottom)
    zero = torch.zeros_like(z)
    return torch.stack(
        [torch.stack([fx / z, zero, -fx * u / z], dim=-1), torch.stack([zero, fy / z, -fy * v / z], dim=-1)], dim=-2
    )


class Projection(NamedTuple):
    """Gaussians on the image plane, pixels."""

    means2d: Float[Tensor, "N 2"]
    sharp: Float[Tensor, "N 2 2"]
    """Projected covariance."""
    blurred: Float[Tensor, "N 2 2"]
    """The same with `LOW_PASS` added to both variances."""

    @property
    def determinant(self) -> Float[Tensor, "N"]:
        return self.blurred[:, 0, 0] * self.blurred[:, 1, 1] - self.blurred[:, 0, 1] ** 2

    @property
    def conic(self) -> Float[Tensor, "N 3"]:
        """Entries 00, 01 and 11 of the inverse of `blurred`."""
        adjugate = torch.stack([self.blurred[:, 1, 1], -self.blurred[:, 0, 1], self.blurred[:, 0, 0]], dim=-1)
        return adjugate / self.determinant[:, None]

    def compensation(self, floor: float) -> Float[Tensor, "N"]:
        """The antialiasing factor for opacities: sqrt(det sharp / det blurred), at least `floor`."""
        sharp = self.sharp[:, 0, 0] * self.sharp[:, 1, 1] - self.sharp[:, 0, 1] ** 2
        ratio = sharp / self.determinant
        return ratio.clamp(min=max(floor**2, torch.finfo(ratio.dtype).tiny)).sqrt()


def project(
    points: Float[Tensor, "N 3"],
    rotations: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    world_to_camera: Float[Tensor, "3 3"],
    K: Float[Tensor, "3 3"],
    width: int,
    height: int,
    normalise: bool = True,
) -> Projection:
    """Project Gaussians with camera-space centres `points` and world-space rotations and scales."""
    to_pixels = projection_jacobian(points, K, width, height) @ world_to_camera
    sharp = to_pixels @ covariance(rotations, scales, normalise) @ to_pixels.transpose(-1, -2)
    focal, center = torch.stack([K[0, 0], K[1, 1]]), torch.stack([K[0, 2], K[1, 2]])
    means2d = focal * points[:, :2] / points[:, 2:] + center
    return Projection(means2d, sharp, sharp + LOW_PASS * torch.eye(2, dtype=sharp.dtype))


def rasterize_one(
    gaussians: Gaussians,
    camera: Camera,
    background: Float[Tensor, "D"] | None,
    settings: RasterSettings,
    absgrad: Float[Tensor, "N 2"] | None,
) -> tuple[
    Float[Tensor, "H W D"],
    Float[Tensor, "H W 1"],
    Float[Tensor, "H W 1"],
    Float[Tensor, "N 2"],
    Int[Tensor, "N 2"],
    Float[Tensor, "N"],
]:
    """Colour, alpha, accumulated depth, projected means, radii and depths of unbatched Gaussians seen by one camera."""
    width, height = camera.width, camera.height
    with torch.no_grad():
        usable = camera.world_to_camera[:3].isfinite().all() and camera.K.isfinite().all()
        usable = usable and torch.linalg.det(camera.world_to_camera[:3, :3]) * camera.K[0, 0] * camera.K[1, 1] != 0
    if not usable:
        raise VultusError(UNUSABLE_CAMERA)
    drawable = drawable_ones(gaussians, settings)
    # Gaussians that cannot be drawn are replaced by harmless ones before any arithmetic, so that their gradient is 0.
    means = torch.where(drawable[:, None], gaussians.means, torch.zeros_like(gaussians.means))
    unit = torch.zeros_like(gaussians.rotations)
    unit[:, 0] = 1
    rotations = torch.where(drawable[:, None], gaussians.rotations, unit)
    scales = torch.where(drawable[:, None], gaussians.scales, torch.ones_like(gaussians.scales))
    opacities = torch.where(drawable, gaussians.opacities, torch.zeros_like(gaussians.opacities))

    view = camera.world_to_camera
    points = means @ view[:3, :3].T + view[:3, 3]
    depth = points[:, 2]
    near_enough = drawable & (depth >= settings.near) & (depth <= FAR)
    points = torch.where(near_enough[:, None], points, points.new_tensor([0.0, 0.0, 1.0]))

    projection = project(points, rotations, scales, view[:3, :3], camera.K, width, height, settings.normalise_rotations)
    means2d, blurred, conic = projection.means2d, projection.blurred, projection.conic
    det = projection.determinant.detach()
    if settings.antialiased:
        opacities = opacities * projection.compensation(settings.compensation_floor)

    radii, low, high = _extent(means2d, blurred, opacities, settings)
    on_image = (high[:, 0] > 0) & (high[:, 1] > 0) & (low[:, 0] < width) & (low[:, 1] < height)
    visible = near_enough & (opacities >= ALPHA_CUTOFF) & (det > 0) & det.isfinite() & on_image
    radii = torch.where(visible[:, None], radii, torch.zeros_like(radii))

    if gaussians.sh is not None:
        center = torch.linalg.inv(view)[:3, 3]
        sh = torch.where(drawable[:, None, None], gaussians.sh, torch.zeros_like(gaussians.sh))
        features = sh_to_rgb(means - center, sh, gaussians.active_degree or 0)
    else:
        assert gaussians.features is not None
        features = torch.where(drawable[:, None], gaussians.features, torch.zeros_like(gaussians.features))

    index = visible.nonzero()[:, 0]
    index = index[torch.argsort(depth[index].detach(), stable=True)]
    channels = torch.cat([features[index], depth[index, None]], dim=-1)
    splat = (means2d[index], conic[index], opacities[index], channels, low[index], high[index])
    slot = None if absgrad is None else (absgrad, index)
    rows_at_once = max(1, _PAIRS_AT_ONCE // max(1, width * len(index)))
    strips = []
    for top in range(0, height, rows_at_once):
        bottom = min(height, top + rows_at_once)
        if rows_at_once < height and torch.is_grad_enabled():
            strips.append(checkpoint(_composite, top, bottom, width, *splat, settings, slot, use_reentrant=False))
        else:
            strips.append(_composite(top, bottom, width, *splat, settings, slot))
    image, transmittance = (torch.cat(parts) for parts in zip(*strips, strict=True))
    color, depth_image = image[..., :-1], image[..., -1:]
    if background is not None:
        color = color + transmittance * background
    return color, 1 - transmittance, depth_image, means2d, radii, depth


def drawable_ones(gaussians: Gaussians, settings: RasterSettings) -> Bool[Tensor, "N"]:
    """Gaussians made of finite numbers with a usable quaternion."""
    colors = gaussians.features if gaussians.sh is None else gaussians.sh.flatten(-2)
    assert colors is not None
    finite = gaussians.opacities.isfinite()
    for part in (gaussians.means, gaussians.rotations, gaussians.scales, colors):
        finite = finite & part.isfinite().all(dim=-1)
    if settings.normalise_rotations:
        finite = finite & (gaussians.rotations.norm(dim=-1) > 1e-12)
    return finite


@torch.no_grad()
def _extent(
    means2d: Float[Tensor, "N 2"],
    covariances: Float[Tensor, "N 2 2"],
    opacities: Float[Tensor, "N"],
    settings: RasterSettings,
) -> tuple[Int[Tensor, "N 2"], Float[Tensor, "N 2"], Float[Tensor, "N 2"]]:
    """Radii in whole pixels, and the corners of the box outside which a Gaussian is not drawn."""
    variances = covariances.diagonal(dim1=-2, dim2=-1)
    if settings.extent == "inria":
        middle = variances.mean(dim=-1)
        det = covariances[:, 0, 0] * covariances[:, 1, 1] - covariances[:, 0, 1] ** 2
        largest = middle + (middle * middle - det).clamp(min=0.1).sqrt()
        radius = (3 * largest.sqrt()).ceil()[:, None].expand(-1, 2)
        corner = means2d - 0.5  # that rasteriser puts pixel centres at whole numbers
        low = ((corner - radius) / TILE).trunc() * TILE
        high = ((corner + radius + TILE - 1) / TILE).trunc() * TILE
        return radius.int(), low, high
    sigmas = (2 * (opacities / ALPHA_CUTOFF).clamp(min=1.0).log()).sqrt().clamp(max=TIGHT_SIGMAS)
    radius = (sigmas[:, None] * variances.clamp(min=0.0).sqrt()).ceil()
    return radius.clamp(max=2**30).int(), means2d - radius, means2d + radius


def _composite(
    top: int,
    bottom: int,
    width: int,
    means2d: Float[Tensor, "M 2"],
    conic: Float[Tensor, "M 3"],
    opacities: Float[Tensor, "M"],
    channels: Float[Tensor, "M C"],
    low: Float[Tensor, "M 2"],
    high: Float[Tensor, "M 2"],
    settings: RasterSettings,
    absgrad: tuple[Float[Tensor, "N 2"], Int[Tensor, "M"]] | None,
) -> tuple[Float[Tensor, "h W C"], Float[Tensor, "h W 1"]]:
    """Front-to-back blending of depth-sorted Gaussians over the image rows top ... bottom - 1."""
    y, x = torch.meshgrid(
        torch.arange(top, bottom, dtype=means2d.dtype) + 0.5,
        torch.arange(width, dtype=means2d.dtype) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)
    positions = means2d.expand(len(pixels), -1, -1)
    if absgrad is not None and positions.requires_grad:
        total, index = absgrad
        positions = positions.clone()  # one copy per pixel, whose gradients are seen before they are summed

        def collect(gradient: Tensor) -> None:
            total.index_add_(0, index, gradient.abs().sum(dim=0).to(total))

        positions.register_hook(collect)
    offset = positions - pixels
    dx, dy = offset.unbind(-1)
    exponent = 0.5 * (conic[:, 0] * dx * dx + conic[:, 2] * dy * dy) + conic[:, 1] * dx * dy
    exponent = exponent.clamp(min=0.0)  # negative only by rounding
    alpha = (opacities * torch.exp(-exponent)).clamp(max=settings.alpha_max)
    drawn = alpha >= ALPHA_CUTOFF
    if settings.extent == "inria":
        drawn = drawn & ((pixels > low) & (pixels < high)).all(dim=-1)
    alpha = torch.where(drawn, alpha, torch.zeros_like(alpha))
    # Once a pixel stops it stays stopped: the running product never grows again.
    alpha = torch.where(torch.cumprod(1 - alpha, dim=1) > MIN_TRANSMITTANCE, alpha, torch.zeros_like(alpha))
    remaining = torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([torch.ones_like(remaining[:, :1]), remaining[:, :-1]], dim=1) if len(means2d) else remaining
    image = (alpha * before) @ channels
    transmittance = remaining[:, -1:] if len(means2d) else torch.ones_like(x).reshape(-1, 1)
    return image.reshape(bottom - top, width, -1), transmittance.reshape(bottom - top, width, 1)
