"""What `gsplat.rasterization` (1.5.3) takes and gives without packing, computed by the reference rasteriser.

It checks the adapter on machines without a GPU: names and shapes of arguments and results. It is not gsplat.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from vultus.cameras import Camera
from vultus.rotations import matrix_to_quaternion
from vultus.splats import GSPLAT_1_5, Gaussians
from vultus.splats.reference import rasterize_one

__version__ = "1.5.3"


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane=0.01, far_plane=1e10,
    radius_clip=0.0, eps2d=0.3, sh_degree=None, packed=True, tile_size=16, backgrounds=None, render_mode="RGB",
    sparse_grad=False, absgrad=False, rasterize_mode="classic", channel_chunk=32, distributed=False,
    camera_model="pinhole", segmented=False, covars=None, with_ut=False, with_eval3d=False,
):  # fmt: skip
    n, views = means.shape[0], viewmats.shape[0]
    assert n > 0, "not known to draw nothing"
    assert means.shape == (n, 3)
    assert opacities.shape == (n,)
    assert viewmats.shape == (views, 4, 4)
    assert Ks.shape == (views, 3, 3)
    assert views == 1
    assert not packed
    assert radius_clip == 0
    assert eps2d == 0.3
    assert (tile_size, sparse_grad, distributed, camera_model) == (16, False, False, "pinhole")
    assert not any((segmented, with_ut, with_eval3d))
    for tensor in (means, opacities, colors, quats, scales, viewmats, Ks):
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all(), "gsplat does not look for such numbers"
    if covars is None:
        assert quats.shape == (n, 4)
        assert scales.shape == (n, 3)
        assert (quats.norm(dim=-1) > 0).all(), "a zero quaternion would give NaN"
    else:
        assert covars.shape == (n, 3, 3)
        values, axes = torch.linalg.eigh(covars)
        axes = axes * torch.linalg.det(axes).sign()[:, None, None]
        quats, scales = matrix_to_quaternion(axes), values.clamp_min(0).sqrt()
    if backgrounds is not None:
        assert backgrounds.shape == (views, 3 if sh_degree is not None else colors.shape[-1])
    kind = {"features": colors} if sh_degree is None else {"sh": colors, "sh_degree": sh_degree}
    antialiased = {"classic": False, "antialiased": True}[rasterize_mode]
    settings = replace(GSPLAT_1_5, near=near_plane, antialiased=antialiased, absgrad=absgrad)
    slot = torch.zeros(n, 2) if absgrad else None
    color, alpha, depth, means2d, radii, depths = rasterize_one(
        Gaussians(means, quats, scales, opacities, **kind),
        Camera(viewmats[0], Ks[0].detach(), width, height),
        None if backgrounds is None else backgrounds[0],
        settings,
        slot,
    )
    if absgrad:
        means2d.absgrad = slot
    image = {"RGB": color, "RGB+D": torch.cat([color, depth], dim=-1)}[render_mode]
    # Like memory that was never written.
    garbage = torch.where((radii > 0).all(-1), depths.detach(), torch.nan)
    meta = {"means2d": means2d, "radii": radii[None], "depths": garbage[None]}
    return image[None], alpha[None], meta
