"""The loop that plays a motion on an avatar."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars import Avatar, Rendering
from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.motion import Motion


def play(
    avatar: Avatar, motion: Motion, cameras: Camera, *, background: Float[Tensor, "3"] | None = None
) -> Iterator[Rendering]:
    """Render a motion, one instant after the other, handing each image's memory to the next.

    Args:
        motion: parameters of this avatar (a driver's motion goes through `retarget_motion` first).
        cameras: one camera for all instants, or a batch of one per instant.
        background: sRGB; default the avatar's own, else white.

    Raises:
        VultusError: the motion belongs to another head model.
        ValueError: neither one camera nor as many as instants.
    """
    if motion.params.model != avatar.head.fingerprint:
        raise VultusError(
            f"the motion belongs to another head model ({motion.params.model[:12]}) than the avatar's, "
            f"{avatar.head.name} ({avatar.head.fingerprint[:12]}); track the driving video with the avatar's"
        )
    batch = cameras.batch_shape
    if len(batch) > 1 or (len(batch) == 1 and batch[0] != len(motion)):
        raise ValueError(f"{tuple(batch)} cameras do not fit {len(motion)} instants")
    color = default_background(avatar) if background is None else background
    return _frames(avatar, motion, cameras, color)


def default_background(avatar: Avatar) -> Float[Tensor, "3"]:
    """The background an avatar was made on, white where it has none of its own."""
    return torch.ones(3) if avatar.native_background is None else avatar.native_background


def _frames(avatar: Avatar, motion: Motion, cameras: Camera, background: Tensor) -> Iterator[Rendering]:
    memory: object | None = None
    one_each = len(cameras.batch_shape) == 1
    for index in range(len(motion)):
        # Not around the loop: a generator would switch gradients off for its caller, too.
        with torch.no_grad():
            rendering = avatar.render(
                motion.params[index],
                cameras[index] if one_each else cameras,
                background=background,
                memory=memory,
            )
        memory = rendering.memory
        yield rendering
