"""What is compared: an avatar's renders with a capture's pictures, or one sequence of pictures with another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vultus.avatars import Avatar
from vultus.captures import Capture, View, below_line_mask
from vultus.errors import VultusError
from vultus.evaluation.measures import counted_pixels
from vultus.evaluation.protocols import ProtocolName, evenly, motion_to_render, protocol_views
from vultus.evaluation.session import Comparison
from vultus.evaluation.temporal import Shown
from vultus.images.sequences import open_sequence
from vultus.motion import HeadParams


@dataclass(frozen=True)
class MaskRule:
    """Which pixels count. dilation: pixels by which the capture's mask grows. cut_neck: only what lies above the line
    at which the head model ends."""

    dilation: int = 8
    cut_neck: bool = False


def avatar_comparisons(
    avatar: Avatar,
    capture: Capture,
    protocols: Sequence[ProtocolName],
    *,
    mask: MaskRule | None = None,
    most: int = 0,
    tracked: bool = False,
) -> list[Comparison]:
    """The pictures of protocols, each with the avatar rendered by the picture's own camera over white.

    most: at most so many pictures per protocol, evenly spread; 0: all. tracked: see `motion_to_render`.
    """
    comparisons: list[Comparison] = []
    for protocol in protocols:
        params = motion_to_render(avatar, capture, protocol, tracked=tracked).params
        last: tuple[View, Comparison] | None = None
        for view in protocol_views(capture, protocol, most):
            follows = last[1] if last is not None and _consecutive(capture, last[0], view) else None
            show = _showing(avatar, capture, view, params, mask or MaskRule())
            place = {"camera": str(view.camera), "timestep": view.timestep}
            comparison = Comparison(protocol, place, show, follows)
            comparisons.append(comparison)
            last = view, comparison
    return comparisons


def picture_comparisons(pictures: str | Path, targets: str | Path, *, most: int = 0) -> list[Comparison]:
    """Two folders of pictures, or two videos, picture by picture in order.

    Raises:
        VultusError: not pictures, or not the same number of them. Reading one raises it for different sizes.
    """
    first, second = open_sequence(pictures), open_sequence(targets)
    if len(first) != len(second):
        raise VultusError(f"{pictures} has {len(first)} pictures, {targets} {len(second)}; they cannot be compared")

    def showing(index: int) -> Callable[[], Shown]:
        def show() -> Shown:
            picture, target = first[index], second[index]
            if picture.shape != target.shape:
                sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (picture, target)]
                raise VultusError(
                    f"picture {index} of {pictures} has {sizes[0]} pixels, of {targets} {sizes[1]}; pictures of "
                    "different sizes cannot be compared"
                )
            return Shown(picture, target)

        return show

    comparisons: list[Comparison] = []
    for index in evenly(range(len(first)), most):
        before = comparisons[-1] if comparisons and comparisons[-1].place["timestep"] == index - 1 else None
        comparisons.append(Comparison("pictures", {"camera": "0", "timestep": index}, showing(index), before))
    return comparisons


def _showing(avatar: Avatar, capture: Capture, view: View, params: HeadParams, rule: MaskRule) -> Callable[[], Shown]:
    @torch.no_grad()
    def show() -> Shown:
        camera = capture.camera(view)
        color = avatar.render(params[view.timestep], camera, background=torch.ones(3)).color
        mask, weight = capture.mask(view), None
        if bool((mask < 1).any()) or rule.cut_neck:
            weight = counted_pixels(mask, rule.dilation)
            if rule.cut_neck:
                vertices = avatar.head.pose(capture.motion.params[view.timestep]).vertices
                weight = weight * (below_line_mask(avatar.head, vertices, camera)[..., None] > 0.5)
            weight = weight if bool(weight.any()) else None
        return Shown(color.clamp(0, 1), capture.image(view), weight)

    return show


def _consecutive(capture: Capture, before: View, view: View) -> bool:
    shots = capture.shots
    return (
        before.camera == view.camera
        and before.timestep + 1 == view.timestep
        and int(shots[before.timestep]) == int(shots[view.timestep])
    )
