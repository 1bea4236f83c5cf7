"""Gaussians for what pictures show and the head model does not reach, before training begins."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.rigged.appearance import backproject, merge
from vultus.avatars.rigged.hull import can_carve, hull_shell, shell_splats
from vultus.avatars.rigged.model import LocalSplats, RiggedAvatar
from vultus.avatars.rigged.settings import RiggedSettings
from vultus.avatars.rigged.shoulders import shoulder_splats
from vultus.captures import Capture, View
from vultus.captures.below_line import above_shoulders, neck_border
from vultus.images.masks import dilate, erode
from vultus.splats import rgb_to_sh0

_FEWEST_CARVED, _SHOWN_SHARE = 16, 0.05


def further_splats(
    avatar: RiggedAvatar, capture: Capture, views: list[View], settings: RiggedSettings
) -> list[tuple[LocalSplats, Float[Tensor, "N"]]]:
    """Gaussians to add to `avatar`, each with 1 if it rides on the bust.

    With `settings.hull`, where several cameras have masks, those of the hull; else, with `settings.shoulders`, those of
    the shoulders in some pictures.
    """
    together = _views_at_once(capture, views) if settings.hull else []
    if together:
        carved = _carved(avatar, capture, together)
        return [] if carved is None else [carved]
    found = []
    for view in _views_of_shoulders(capture, views) if settings.shoulders else ():
        extra = _shoulders(avatar, capture, view)
        if extra is not None:
            found.append((extra, torch.ones(len(extra.means))))
            avatar = extended(avatar, extra)
    return found


def extended(avatar: RiggedAvatar, extra: LocalSplats) -> RiggedAvatar:
    """The avatar with further Gaussians at the end of its list; their spherical harmonics start at zero."""
    own = avatar.splats()
    rest = own.sh_rest.new_zeros(len(extra.means), *own.sh_rest.shape[1:])
    extra = replace(extra, sh_rest=rest)
    splats = LocalSplats(**{name: torch.cat([value, getattr(extra, name)]) for name, value in vars(own).items()})
    return RiggedAvatar(
        avatar.head,
        avatar.rest,
        avatar.view,
        splats,
        raster=avatar.raster,
        largest=avatar.largest,
        posture=avatar.posture,
        sh_frame=avatar.sh_frame,
        labels=avatar.labels,
    )


def _views_at_once(capture: Capture, views: list[View]) -> list[View]:
    """The views of the instant nearest to the neutral pose among those that most cameras see; none where these cameras
    stand too close to tell a shape, or have no masks."""
    instants: dict[int, list[View]] = {}
    for view in views:
        instants.setdefault(view.timestep, []).append(view)
    most = max(map(len, instants.values()))
    rest = capture.motion.neutral.translation

    def strangeness(timestep: int) -> float:
        return float((capture.motion.params[timestep].translation - rest).norm())

    chosen = instants[min((t for t, each in instants.items() if len(each) == most), key=strangeness)]
    if not can_carve([capture.camera(view) for view in chosen]):
        return []
    return chosen if all(bool((capture.mask(view) < 0.5).any()) for view in chosen) else []


def _carved(avatar: RiggedAvatar, capture: Capture, views: list[View]) -> tuple[LocalSplats, Float[Tensor, "N"]] | None:
    """Gaussians for what all these views of one instant show and the avatar does not cover, coloured by them; and 1
    for those that ride on the bust."""
    params, head = capture.motion.params[views[0].timestep], avatar.head
    cameras = [capture.camera(view) for view in views]
    with torch.no_grad():
        vertices, frames = avatar.vertices(params), avatar.frames(params)
        gaussians = avatar.gaussians_on(frames)
        masks = [capture.mask(view)[..., 0] > 0.5 for view in views]
        bare = [
            (mask[..., None] & (avatar.draw(gaussians, camera, depth=False).alpha < 0.5)).float()
            for camera, mask in zip(cameras, masks, strict=True)
        ]
        # Strips along outlines, which a Gaussian or two of the model leave open, are not missing.
        missing = [dilate(erode(each, 1), 1)[..., 0] > 0.5 for each in bare]
        points, spacing = hull_shell(cameras, masks, missing, vertices.mean(0))
        if len(points) < _FEWEST_CARVED:
            return None
        extra, low = shell_splats(head, vertices, frames, points, spacing, neck_border(head))
        gaussians = extended(avatar, extra).gaussians_on(frames)
    seen = merge(
        [
            backproject(
                gaussians, camera, capture.image(view), (erode(capture.mask(view), 1) > 0.95).float(), avatar.raster
            )
            for camera, view in zip(cameras, views, strict=True)
        ]
    )
    own = slice(avatar.count, None)
    kept = seen.share[own] > _SHOWN_SHARE
    if not bool(kept.any()):
        return None
    extra = replace(extra, sh0=rgb_to_sh0(seen.color[own].clamp(0.02, 0.98))[:, None])
    return LocalSplats(**{name: value[kept] for name, value in vars(extra).items()}), low[kept].float()


def _views_of_shoulders(capture: Capture, views: list[View]) -> list[View]:
    """The view nearest to the neutral pose first, then those farthest to each side, up and down: they show more."""
    place = torch.stack([capture.motion.params[view.timestep].translation for view in views])
    place = place - capture.motion.neutral.translation
    chosen = [int(place.norm(dim=-1).argmin())]
    for axis in (0, 1):
        chosen += [int(place[:, axis].argmin()), int(place[:, axis].argmax())]
    return [views[index] for index in dict.fromkeys(chosen)]


def _shoulders(avatar: RiggedAvatar, capture: Capture, view: View) -> LocalSplats | None:
    """Gaussians for what a view shows below the mouth and the avatar does not."""
    params, camera, border = capture.motion.params[view.timestep], capture.camera(view), neck_border(avatar.head)
    if border is None:
        return None
    with torch.no_grad():
        vertices, frames = avatar.vertices(params), avatar.frames(params)
        covered = avatar.draw(avatar.gaussians_on(frames), camera, depth=False).alpha > 0.5
        below = ~above_shoulders(avatar.head, camera, vertices, border)
        missing = (capture.mask(view) > 0.5) & below & ~covered
        return shoulder_splats(avatar.head, vertices, frames, camera, capture.image(view), missing.float())
