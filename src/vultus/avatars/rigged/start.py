"""The avatar that training starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.avatars.rigged.appearance import Seen, backproject, merge, paint
from vultus.avatars.rigged.beyond import extended, further_splats
from vultus.avatars.rigged.frames import TriangleFrames, local_to_world
from vultus.avatars.rigged.grazing import grazing
from vultus.avatars.rigged.layout import divisions_for, published_splats, surface_splats
from vultus.avatars.rigged.model import LocalSplats, RiggedAvatar
from vultus.avatars.rigged.parts import (
    Parts,
    color_styles,
    importance,
    interpolate,
    lid_weight,
    vertex_colors,
    vertex_parts,
)
from vultus.avatars.rigged.posture import posture_of
from vultus.avatars.rigged.settings import RiggedSettings
from vultus.captures import Capture, View
from vultus.heads.measures import head_height
from vultus.heads.model import HeadModel, SkinnedHead
from vultus.images.masks import erode
from vultus.motion import HeadParams
from vultus.splats import SH_C0, VULTUS, Gaussians, rgb_to_sh0
from vultus.tracking.torso import bust_share
from vultus.training import step_generator

_VIEWS_TO_PAINT_FROM = 8
_OPEN_JAW = 0.35
_LID_HOLD = 6.0
_OUTLINE_HOLD, _HAIR_OUTLINE_HOLD = 20.0, 8.0
_MOST_TRUST = 0.97
"""A colour that was seen may change freely, but not become one that nobody saw."""


@dataclass(frozen=True)
class Start:
    """An initial avatar and, per Gaussian, what `RiggedTask` needs to know."""

    avatar: RiggedAvatar
    anchor: Float[Tensor, "N 3"]
    trust: Float[Tensor, "N"]
    rigid: Float[Tensor, "N"]
    hold: Float[Tensor, "N"]
    bust: Float[Tensor, "N"]
    beyond: Bool[Tensor, "N"]
    skin: Float[Tensor, "N"]
    level: Float[Tensor, "N"]
    extent: float


def start_avatar(capture: Capture, head: HeadModel, views: list[View], settings: RiggedSettings) -> Start:
    """Lay Gaussians on the head and, with the surface layout, colour them from the pictures."""
    rest = capture.motion.neutral
    camera = capture.camera(views[0])
    surface = settings.layout == "surface"
    if surface:
        # Areas of the mean head, so that both halves are divided alike and mirror images exist.
        areas, _ = unfolded(head, head.neutral())
        divisions = divisions_for(areas, importance(head), settings.splats)
        with torch.no_grad():
            vertices = head.pose(rest).vertices
        splats, places = surface_splats(vertices, head.faces, divisions, shapes=unfolded(head, rest)[1])
        rest_coefficients = splats.sh_rest.new_zeros(len(places), (settings.sh_degree + 1) ** 2 - 1, 3)
        splats = replace(splats, sh_rest=rest_coefficients)
        extent = head_height(head, rest)
    else:
        generator = step_generator(settings.seed, 0)
        splats, places = published_splats(head.faces.shape[0], settings.sh_degree, generator), None
        extent = camera_extent(capture, views)
    posture = posture_of(capture, head, views) if settings.posture else None
    largest = None if settings.largest is None else settings.largest * head_height(head, rest)
    raster = replace(VULTUS, antialiased=settings.antialiased)
    about: dict[str, Any] = {"raster": raster, "largest": largest, "posture": posture, "sh_frame": settings.sh_frame}
    avatar = RiggedAvatar(head, rest, camera, splats, **about)
    if surface and settings.inset:
        _sink(avatar, settings.inset * _pixel_size(avatar, capture, views))
    count = avatar.count
    anchor, trust, rigid, hold = torch.full((count, 3), 0.5), *(torch.ones(count) for _ in range(3))
    bust, skin = torch.zeros(count), torch.zeros(count)
    if places is not None and splats.binding is not None:
        corners = head.faces[splats.binding]
        parts = vertex_parts(head).at(corners, places)
        lids = interpolate(lid_weight(head), corners, places)
        if isinstance(head, SkinnedHead):
            bust = interpolate(bust_share(head), corners, places)
        # One view shows neither a closed lid nor the wall of an open mouth.
        folded = torch.maximum(lids, parts.weights["mouth"])
        anchor, trust, facing = _painted(avatar, capture, views, corners, places, parts, 0.9 * folded)
        trust = trust.clamp(max=_MOST_TRUST)
        skin = parts.weights["skin"] * trust
        # The outline mixes with what was behind the head.
        outline = _OUTLINE_HOLD + (_HAIR_OUTLINE_HOLD - _OUTLINE_HOLD) * parts.weights["hair"]
        hold = 1 + _LID_HOLD * folded + outline * grazing(facing)
        # Many views agree on hair that leaves the surface; one makes it ragged, with holes where no picture looks.
        rigid = 1 - (0.95 if len(views) > 1 else 0.6) * parts.weights["hair"]
        # What the mouth hides is stretched when it opens, and every ragged edge with it.
        inside = parts.weights["teeth"] + parts.weights["mouth"]
        rigid = rigid * (1 - 0.6 * lids) * (1 + parts.weights["lips"] + 4 * inside)
        with torch.no_grad():
            avatar.sh0.copy_(rgb_to_sh0(anchor)[:, None])
    for extra, on_bust in further_splats(avatar, capture, views, settings) if surface else ():
        avatar = extended(avatar, extra)
        more = len(extra.means)
        anchor = torch.cat([anchor, extra.sh0[:, 0] * SH_C0 + 0.5])
        trust, hold = (torch.cat([values, torch.ones(more)]) for values in (trust, hold))
        rigid, skin = (torch.cat([values, torch.zeros(more)]) for values in (rigid, skin))
        bust = torch.cat([bust, on_bust])
    beyond = torch.arange(avatar.count) >= count
    if not settings.bind:
        avatar = _unbound(avatar, capture.motion.params[views[0].timestep])
    level = torch.zeros(avatar.count)
    level[:count] = avatar.means.detach()[:count, 1]
    return Start(avatar, anchor, trust, rigid, hold, bust, beyond, skin, level, extent)


def camera_extent(capture: Capture, views: list[View]) -> float:
    """1.1 times the largest distance of a training camera from their mean, metres; 1 where there is one position."""
    centers = torch.stack([capture.camera(view).center for view in views])
    extent = 1.1 * float((centers - centers.mean(0)).norm(dim=-1).max())
    return extent if extent > 1e-3 else 1.0


def _pixel_size(avatar: RiggedAvatar, capture: Capture, views: list[View]) -> float:
    """Median width (metres) of what a pixel shows of the head."""
    sizes = []
    for view in views[:: max(1, len(views) // _VIEWS_TO_PAINT_FROM)]:
        camera = capture.camera(view)
        with torch.no_grad():
            depth = camera.to_camera(avatar.vertices(capture.motion.params[view.timestep]))[:, 2]
        sizes.append(depth.median() / camera.K[0, 0])
    return float(torch.stack(sizes).median())


def _sink(avatar: RiggedAvatar, depth: float) -> None:
    """Move all Gaussians that far (metres) below the surface."""
    assert avatar.binding is not None
    with torch.no_grad():
        size = avatar.frames(avatar.rest).scale[avatar.binding]
        avatar.means[:, 1:2] -= depth / size.clamp_min(1e-6)


def _painted(
    avatar: RiggedAvatar,
    capture: Capture,
    views: list[View],
    corners: Tensor,
    places: Tensor,
    parts: Parts,
    lids: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour of every Gaussian, how far the pictures show it, and how squarely the best view looks at it."""
    step = max(1, len(views) // _VIEWS_TO_PAINT_FROM)
    observations, facing = [], []
    for view in views[::step][:_VIEWS_TO_PAINT_FROM]:
        camera, mask = capture.camera(view), capture.mask(view)
        with torch.no_grad():
            frames = avatar.frames(capture.motion.params[view.timestep])
            gaussians = avatar.gaussians_on(frames)
        # Pixels at the mask's edge are mixtures of head and background.
        sure = (erode(mask, 2) > 0.95).float()
        seen = backproject(gaussians, camera, capture.image(view), sure, avatar.raster)
        observations.append(seen)
        facing.append(_facing(gaussians, frames, avatar, camera.center))
    best = torch.stack(facing).amax(0) if len(facing) > 1 else facing[0]
    seen = merge(observations)
    head = avatar.head
    prior = _closest_prior(head, seen, best, corners, places, parts)
    colors, trust = paint(seen, best, interpolate(head.template, corners, places), prior, parts, lids)
    return colors, trust, best


def _closest_prior(
    head: HeadModel, seen: Seen, facing: Tensor, corners: Tensor, places: Tensor, parts: Parts
) -> Float[Tensor, "N 3"]:
    """The head model's colour style whose skin, lips and hair are nearest to what was seen."""
    chosen = (seen.share > 0.7) & (facing > 0.4) & (parts.weights["eyes"] < 0.5)
    best: tuple[float, Tensor] | None = None
    for style in color_styles(head) or [None]:
        colors = interpolate(vertex_colors(head, style), corners, places)
        distance = float((colors - seen.color)[chosen].abs().mean()) if bool(chosen.any()) else 0.0
        if best is None or distance < best[0]:
            best = distance, colors
    assert best is not None
    return best[1]


def _facing(gaussians: Gaussians, frames: TriangleFrames, avatar: RiggedAvatar, center: Tensor) -> Float[Tensor, "N"]:
    assert avatar.binding is not None
    normal = frames.rotation[avatar.binding][..., 1]
    toward = torch.nn.functional.normalize(center - gaussians.means, dim=-1)
    return (normal * toward).sum(-1)


def _unbound(avatar: RiggedAvatar, params: HeadParams) -> RiggedAvatar:
    """The same Gaussians as plain 3D Gaussians in the world."""
    assert avatar.binding is not None
    with torch.no_grad():
        means, scales, rotations = local_to_world(
            avatar.means, avatar.log_scales.exp(), avatar.rotations, avatar.binding, avatar.frames(params)
        )
    splats = avatar.splats()
    world = LocalSplats(
        means, scales.clamp_min(1e-7).log(), rotations, splats.opacities, splats.sh0, splats.sh_rest, binding=None
    )
    return RiggedAvatar(
        avatar.head, avatar.rest, avatar.view, world, raster=avatar.raster, largest=avatar.largest, labels=avatar.labels
    )


def unfolded(head: HeadModel, params: HeadParams) -> tuple[Float[Tensor, "F"], Float[Tensor, "F 3 3"]]:
    """Area and corners of every triangle, those of the mouth's wall as they are while it is open.

    With the jaw closed they are slivers: Gaussians of that shape leave gaps as soon as it opens.
    """
    with torch.no_grad():
        closed = head.pose(params).vertices
        jaw = params.joints.get("jaw")
        opened = closed
        if jaw is not None:
            turned = {**params.joints, "jaw": jaw + jaw.new_tensor([_OPEN_JAW, 0.0, 0.0])}
            opened = head.pose(replace(params, joints=turned)).vertices
    inside = vertex_parts(head).weights["mouth"][head.faces].amin(-1) > 0.5
    corners = torch.where(inside[:, None, None], opened[head.faces], closed[head.faces])
    a, b, c = corners.unbind(1)
    return torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2, corners
