"""Which pictures a protocol compares, and with which head parameters the avatar is rendered for them.

Source: the evaluation of GaussianAvatars (Qian et al. 2024): novel views are a held-out camera at trained instants,
rendered with the head parameters that training fine-tuned; self-reenactment is every camera at held-out instants,
rendered with the tracked parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import torch

from vultus.avatars import Avatar
from vultus.captures import Capture, View
from vultus.captures.capture import SplitName
from vultus.motion import Motion

Item = TypeVar("Item")
ProtocolName = Literal["novel-view", "self-reenactment", "training"]
PROTOCOLS: dict[ProtocolName, tuple[SplitName, str]] = {
    "novel-view": ("val", "cameras that were held out, at instants that were trained on"),
    "self-reenactment": ("test", "instants that were held out, in all cameras"),
    "training": ("train", "the pictures that were trained on"),
}
"""By name: the capture's split, and what it is."""


def protocol_views(capture: Capture, protocol: ProtocolName, most: int = 0) -> list[View]:
    """The pictures of a protocol in which the head was found, by camera and then by time.

    most: at most so many, evenly spread; 0: all.
    """
    views = [view for view in capture.split(PROTOCOLS[protocol][0]) if bool(capture.motion.valid[view.timestep])]
    views.sort(key=lambda view: (view.camera, view.timestep))
    return evenly(views, most)


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spread, the first and the last among them; 0: all."""
    if not 0 < most < len(items):
        return list(items)
    return [items[round(index)] for index in torch.linspace(0, len(items) - 1, most).tolist()]


def motion_to_render(avatar: Avatar, capture: Capture, protocol: ProtocolName, *, tracked: bool = False) -> Motion:
    """The head parameters by timestep: those that training fine-tuned, where it saw the instants, else the tracked.

    tracked: take the tracked ones in any case.
    """
    fitted = getattr(avatar, "motion", None)
    if tracked or protocol == "self-reenactment" or not isinstance(fitted, Motion):
        return capture.motion
    return fitted if _of_same_take(fitted, capture.motion) else capture.motion


def was_trained_on(avatar: Avatar, capture: Capture) -> bool:
    """Whether an avatar's training went through the instants of a capture: its motion is a refinement of theirs.

    Avatars that keep no motion were not trained on a capture.
    """
    fitted = getattr(avatar, "motion", None)
    return isinstance(fitted, Motion) and _of_same_take(fitted, capture.motion)


def _of_same_take(fitted: Motion, tracked: Motion) -> bool:
    """Whether an avatar's motion is a refinement of a capture's: training changes neither times nor identity."""
    if fitted.params.model != tracked.params.model or len(fitted) != len(tracked):
        return False
    first, second = fitted.params.identity, tracked.params.identity
    return torch.allclose(fitted.times, tracked.times, atol=1e-4) and (
        first.shape[-1] == second.shape[-1] and torch.allclose(first, second.expand_as(first), atol=1e-4)
    )
