"""From a tracked photo to an avatar in one forward pass."""

from __future__ import annotations

from dataclasses import replace

import torch

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


def avatar_of_photo(
    model: OneShotModel,
    about: About,
    capture: Capture,
    head: HeadModel,
    *,
    timestep: int | None = None,
    labels: Labels | None = None,
) -> OneShotAvatar:
    """The avatar of one picture of a capture, which tracking or a reader made.

    Args:
        about: what the network's file says of itself. head: the head model of the capture. timestep: which picture;
            None: the one that shows the face most nearly from the front.

    Raises:
        VultusError: the network was trained with another head model, or the picture shows too little of the head.
    """
    if about.fingerprint and about.fingerprint != head.fingerprint:
        raise VultusError(
            f"the network was trained with the head model {about.head} ({about.fingerprint[:12]}), the picture was "
            f"tracked with {head.name} ({head.fingerprint[:12]}); track it with the network's"
        )
    skinned = require_skinned(head)
    views = [view for view in capture.views if timestep in (None, view.timestep)]
    views = [view for view in views if bool(capture.motion.valid[view.timestep])]
    if not views:
        raise VultusError(f"{capture.root}: has no picture in which the head was found (timestep {timestep})")
    view = max(views, key=lambda view: _frontality(capture, view, skinned))
    params = capture.motion.params[view.timestep]
    size = model.architecture.image_size
    image = capture.image(view, torch.zeros(3))  # black behind the person
    frame = frame_head(image, torch.ones(1), params, capture.camera(view), skinned, size)
    rest = without_pose(skinned, replace(capture.motion.neutral, identity=params.identity, offset=params.offset))
    given = labels or Labels()
    source = capture.source
    provenance = {
        "method": "oneshot",
        "network": about.training or "published weights",
        "network_license": about.license,
        "source": source.name if source is not None else capture.root.name,
        "source_sha256": source.sha256 if source is not None else None,
        "vultus": __version__,
    }
    return model.reconstruct(
        frame.picture.float() / 255,
        frame.transform,
        rest,
        skinned,
        license=about.license,
        labels=replace(given, provenance={**provenance, **given.provenance}),
    )


def _frontality(capture: Capture, view: View, head: SkinnedHead) -> float:
    """Cosine of the angle between where the face looks and the way to the camera."""
    with torch.no_grad():
        skull = head.head_to_world(capture.motion.params[view.timestep])
    to_camera = torch.nn.functional.normalize(capture.camera(view).center - skull[:3, 3], dim=0)
    return float(skull[:3, 2] @ to_camera)
