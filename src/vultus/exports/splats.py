"""An avatar in one pose as a splat file for other programs."""

from __future__ import annotations

from pathlib import Path

import torch

from vultus.animation import Driver, Retargeting, Sight, retarget_motion
from vultus.avatars import Avatar, SplatAvatar
from vultus.errors import VultusError
from vultus.exports.provenance import provenance
from vultus.motion import HeadParams
from vultus.splats import write_splats
from vultus.splats.formats import Axes, WrittenSplats


def export_splats(
    avatar: Avatar,
    path: str | Path,
    *,
    driver: Driver | None = None,
    at: float = 0.0,
    retargeting: Retargeting | None = None,
    axes: Axes | None = None,
    sh_degree: int | None = None,
    spz_version: int = 3,
) -> WrittenSplats:
    """Write the Gaussians of an avatar, posed, in the format that the file's name says (`write_splats`).

    Args:
        driver: whose pose and expression it takes, relative to the driver's neutral; None: the avatar at rest.
        at: seconds from the driver's start; the nearest instant counts.
        axes, sh_degree, spz_version: see `write_splats`.

    Raises:
        VultusError: an avatar that is not made of coloured splats, a driver of another head model or shorter than
            `at`, or a file that cannot be written.
    """
    if not isinstance(avatar, SplatAvatar) or avatar.appearance != "rgb":
        raise VultusError(
            f"cannot write {path}: an avatar of the kind {avatar.kind} has no splats that other programs could draw; "
            "make a video with `vultus animate` instead"
        )
    params = avatar.rest if driver is None else _posed(avatar, driver, at, retargeting)
    raster = getattr(avatar, "raster", None)
    with torch.no_grad():
        gaussians = avatar.gaussians(params)
    return write_splats(
        path,
        gaussians,
        axes=axes,
        sh_degree=sh_degree,
        antialiased=raster is not None and raster.antialiased,
        spz_version=spz_version,
        metadata=provenance(avatar, driver),
    )


def _posed(avatar: Avatar, driver: Driver, at: float, retargeting: Retargeting | None) -> HeadParams:
    """The avatar's parameters at the driver's instant nearest to `at` seconds."""
    times = driver.motion.times - driver.motion.times[0]
    last = float(times[-1])
    if not 0 <= at <= last + 1 / driver.motion.fps:
        raise VultusError(f"{driver.name}: there is no instant at {at:g} s; it lasts from 0 to {last:.2f} s")
    row = int((times - at).abs().argmin())
    moved = retarget_motion(
        driver.motion,
        avatar.head,
        avatar.rest,
        retargeting,
        source_sight=driver.sight,
        target_sight=Sight.of(avatar.view),
    )
    return moved.params[row]
