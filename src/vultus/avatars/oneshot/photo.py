"""From tracked photos to an avatar, one forward pass each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus import __version__
from vultus.avatars.avatar import Labels
from vultus.avatars.oneshot.avatar import OneShotAvatar
from vultus.avatars.oneshot.framing import frame_head
from vultus.avatars.oneshot.head_space import require_skinned, without_pose
from vultus.avatars.oneshot.model import OneShotModel
from vultus.avatars.oneshot.weights import About
from vultus.captures import Capture, View
from vultus.errors import VultusError
from vultus.heads.model import HeadModel, SkinnedHead
from vultus.motion import HeadParams


def avatar_of_photo(
    model: OneShotModel,
    about: About,
    capture: Capture | Sequence[Capture],
    head: HeadModel,
    *,
    timestep: int | None = None,
    labels: Labels | None = None,
) -> OneShotAvatar:
    """The avatar of one picture of a capture, which tracking or a reader made, or of one of each of several.

    Several captures are of one person. The shape at rest is the mean of theirs, and the avatar's view that of the
    picture that shows the face most nearly from the front; see `merging` for the splats.

    Args:
        about: what the network's file says of itself. head: the head model of the captures. timestep: which picture;
            None: the one that shows the face most nearly from the front.

    Raises:
        VultusError: the network was trained with another head model, or a picture shows too little of the head.
    """
    if about.fingerprint and about.fingerprint != head.fingerprint:
        raise VultusError(
            f"the network was trained with the head model {about.head} ({about.fingerprint[:12]}), the picture was "
            f"tracked with {head.name} ({head.fingerprint[:12]}); track it with the network's"
        )
    skinned = require_skinned(head)
    captures = [capture] if isinstance(capture, Capture) else list(capture)
    if not captures:
        raise VultusError("an avatar needs at least one photo")
    chosen = [(each, _chosen_view(each, skinned, timestep)) for each in captures]
    chosen.sort(key=lambda pair: -frontality(*pair, skinned))
    size = model.architecture.image_size
    frames = []
    for each, view in chosen:
        image = each.image(view, torch.zeros(3))  # black behind the person
        params = each.motion.params[view.timestep]
        try:
            frames.append(frame_head(image, torch.ones(1), params, each.camera(view), skinned, size))
        except VultusError as error:
            raise VultusError(f"{each.root}: {error}") from error
    first = chosen[0][0].motion
    shapes = [frame.params for frame in frames]
    rest = without_pose(skinned, replace(first.neutral, identity=_mean_identity(shapes), offset=_mean_offset(shapes)))
    given = labels or Labels()
    sources = [each.source for each in captures]
    names = [each.root.name if source is None else source.name for each, source in zip(captures, sources, strict=True)]
    digests = [None if source is None else source.sha256 for source in sources]
    provenance = {
        "method": "oneshot",
        "network": about.training or "published weights",
        "network_license": about.license,
        "source": names[0] if len(names) == 1 else names,
        "source_sha256": digests[0] if len(digests) == 1 else digests,
        "vultus": __version__,
    }
    return model.reconstruct(
        torch.stack([frame.picture.float() / 255 for frame in frames]),
        torch.stack([frame.transform for frame in frames]),
        rest,
        skinned,
        license=about.license,
        labels=replace(given, provenance={**provenance, **given.provenance}),
    )


def _chosen_view(capture: Capture, head: SkinnedHead, timestep: int | None) -> View:
    views = [view for view in capture.views if timestep in (None, view.timestep)]
    views = [view for view in views if bool(capture.motion.valid[view.timestep])]
    if not views:
        raise VultusError(f"{capture.root}: has no picture in which the head was found (timestep {timestep})")
    return max(views, key=lambda view: frontality(capture, view, head))


def frontality(capture: Capture, view: View, head: SkinnedHead) -> float:
    """Cosine of the angle between where the face looks and the way to the camera."""
    with torch.no_grad():
        skull = head.head_to_world(capture.motion.params[view.timestep])
    to_camera = torch.nn.functional.normalize(capture.camera(view).center - skull[:3, 3], dim=0)
    return float(skull[:3, 2] @ to_camera)


def _mean_identity(shapes: Sequence[HeadParams]) -> Float[Tensor, "S"]:
    return torch.stack([shape.identity for shape in shapes]).mean(0)


def _mean_offset(shapes: Sequence[HeadParams]) -> Float[Tensor, "V 3"] | None:
    """The mean of the offsets that there are."""
    offsets = [shape.offset for shape in shapes if shape.offset is not None]
    return torch.stack(offsets).mean(0) if offsets else None
