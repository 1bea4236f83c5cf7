"""Going on with the training of an avatar that is there: ours, or a published one."""

from __future__ import annotations

from dataclasses import replace

import torch

from vultus.avatars.rigged.model import RiggedAvatar
from vultus.avatars.rigged.settings import RiggedSettings
from vultus.avatars.rigged.start import Start, camera_extent
from vultus.captures import Capture, View
from vultus.errors import VultusError
from vultus.splats import SH_C0


def continued_settings(avatar: RiggedAvatar, settings: RiggedSettings) -> RiggedSettings:
    """The settings with what suits an avatar that is nearly finished.

    Positions move at the rate that training ends with, all degrees of spherical harmonics are in use from the first
    step, Gaussians are neither copied, split nor removed (the strategy `mcmc` moves them as ever), opacities are not
    reset, and nothing pulls towards the initial values, which are the avatar's own.
    """
    degree = round((avatar.sh_rest.shape[-2] + 1) ** 0.5) - 1
    return replace(
        settings,
        layout="published",
        bind=avatar.binding is not None,
        sh_degree=degree,
        sh_every=0,
        coarse=0.0,
        shoulders=False,
        posture=False,
        rates=replace(settings.rates, position=settings.rates.position_end),
        weights=replace(settings.weights, anchor=0.0, drift=0.0, normal=0.0, stretch=0.0, turned=0.0),
        densify=replace(settings.densify, every=0, reset_every=0, reset_at=0),
    )


def continued_start(avatar: RiggedAvatar, capture: Capture, views: list[View]) -> Start:
    """The avatar as the start of training on a capture of the same person and head model.

    Raises:
        VultusError: the capture's parameters are of another head model.
    """
    if capture.motion.params.model != avatar.head.fingerprint:
        raise VultusError(
            f"{capture.root}: its head parameters belong to another head model than the avatar to go on with, which is "
            f"on {avatar.head.name}"
        )
    count = avatar.count
    own = RiggedAvatar(
        avatar.head,
        avatar.rest,
        avatar.view,
        avatar.splats(),
        raster=avatar.raster,
        motion=avatar.motion,
        largest=avatar.largest,
        posture=avatar.posture,
        sh_frame=avatar.sh_frame,
    )
    ones = torch.ones(count)
    return Start(
        own,
        anchor=own.sh0.detach()[:, 0] * SH_C0 + 0.5,
        trust=ones,
        rigid=ones,
        hold=ones,
        bust=torch.zeros(count),
        beyond=torch.zeros(count, dtype=torch.bool),
        skin=torch.zeros(count),
        level=own.means.detach()[:, 1].clone(),
        extent=camera_extent(capture, views),
    )


def continued_capture(avatar: RiggedAvatar, capture: Capture) -> Capture:
    """The capture with the head parameters that the avatar's training arrived at, where they are of the same take:
    going on with the tracked ones would undo that part of the training."""
    fitted, tracked = avatar.motion, capture.motion
    if fitted is None or fitted.params.model != tracked.params.model or len(fitted) != len(tracked):
        return capture
    first, second = fitted.params.identity, tracked.params.identity
    if first.shape[-1] != second.shape[-1] or not torch.allclose(first, second.expand_as(first), atol=1e-4):
        return capture
    params = replace(
        tracked.params,
        expression=fitted.params.expression,
        joints=fitted.params.joints,
        translation=fitted.params.translation,
    )
    return replace(capture, motion=replace(tracked, params=params))
