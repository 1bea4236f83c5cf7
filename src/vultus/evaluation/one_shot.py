"""A one-shot network against pictures: avatars of source frames, driven by other frames of the same or of others.

Source: GAGAvatar (Chu and Harada 2024): the head model with the source's shape and the driving frame's expression, jaw
and eyes, through the driving frame's camera.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.oneshot import (
    About,
    FrameLike,
    NamedFrames,
    OneShotAvatar,
    OneShotModel,
    require_skinned,
)
from vultus.avatars.oneshot.geometry import transform_to_camera
from vultus.avatars.oneshot.head_space import at_rest, head_vertices, network_offset, network_vertices
from vultus.avatars.oneshot.options import FOCAL, UNITS
from vultus.errors import VultusError
from vultus.evaluation.faces import Faces, face_window, shown_in
from vultus.evaluation.pairs import Pair
from vultus.evaluation.session import Comparison
from vultus.evaluation.temporal import Shown
from vultus.heads.model import SkinnedHead
from vultus.images import resize
from vultus.motion import HeadParams


def network_comparisons(
    model: OneShotModel, about: About, frames: NamedFrames, pairs: Sequence[Pair], *, face_size: int = 512
) -> list[Comparison]:
    """Pairs as comparisons, each with the source's avatar rendered through the target's camera, over black.

    Args:
        about: what the network's file says of itself. face_size: pixels of a side of the faces that are compared beside
            the whole pictures; 0: none are.

    Raises:
        VultusError: the network was made for another head model. Reading a comparison raises it for broken pictures.
    """
    head = require_skinned(frames.head)
    if about.fingerprint and about.fingerprint != head.fingerprint:
        raise VultusError(
            f"the network was trained with the head model {about.head} ({about.fingerprint[:12]}), {frames.name} was "
            f"tracked with {head.name} ({head.fingerprint[:12]}). Evaluate it with pictures tracked with the network's "
            "(`vultus track --head`, `vultus convert`)"
        )
    if network_vertices(head) != model.architecture.vertices:
        raise VultusError(
            f"the network was made for head models of {model.architecture.vertices} vertices; {frames.name} was "
            f"tracked with {head.name}, which has {network_vertices(head)}. Published weights need FLAME: --head PATH"
        )
    sources = _Sources(model, frames, head)
    return [
        Comparison(
            pair.protocol,
            {"source": pair.source_name, "target": pair.target_name},
            _showing(sources, pair, face_size),
            groups={"source_clip": pair.source_clip, "target_clip": pair.target_clip},
        )
        for pair in pairs
    ]


class _Sources:
    """The avatars of source frames; the latest is kept, since pairs come by source."""

    def __init__(self, model: OneShotModel, frames: NamedFrames, head: SkinnedHead) -> None:
        self.model, self.frames, self.head = model, frames, head
        self._latest: tuple[int, FrameLike, OneShotAvatar] | None = None

    def avatar(self, index: int) -> tuple[FrameLike, OneShotAvatar]:
        if self._latest is None or self._latest[0] != index:
            frame = self.frames.frame(index)
            rest = at_rest(self.head, frame.params)
            avatar = self.model.reconstruct(colors(frame), frame.transform, rest, self.head)
            self._latest = index, frame, avatar
        return self._latest[1:]

    def driven(self, source: HeadParams, target: FrameLike) -> HeadParams:
        """The source's person with what the target's face does."""
        own = {"identity": source.identity, "offset": source.offset, "scale": source.scale}
        if self.model.picture_driver is None:
            return replace(target.params, **own)
        # Networks that are driven by pictures take displacements of the vertices in place of coefficients.
        size, still = self.model.architecture.image_size, head_vertices(self.head, at_rest(self.head, target.params))
        picture = resize(colors(target), size, size).movedim(-1, 0)[None]
        moved = self.model.driven(picture, target.transform[None], still[None] * UNITS)[0] / UNITS - still
        offset = network_offset(self.head, moved)
        rest = replace(at_rest(self.head, target.params), **own)
        return replace(rest, offset=offset if source.offset is None else source.offset + offset)


def _showing(sources: _Sources, pair: Pair, face_size: int) -> Callable[[], Shown]:
    @torch.no_grad()
    def show() -> Shown:
        source, avatar = sources.avatar(pair.source)
        target = sources.frames.frame(pair.target)
        picture, truth = colors(target), colors(source)
        camera = transform_to_camera(target.transform, picture.shape[0])
        params = sources.driven(source.params, target)
        prediction = avatar.render(params, camera).color.clamp(0, 1)
        faces = None
        if face_size:
            head = sources.head
            seen = transform_to_camera(source.transform, truth.shape[0])
            window = face_window(head, head.pose(target.params).vertices, camera)
            own = face_window(head, head.pose(source.params).vertices, seen)
            faces = Faces(
                shown_in(prediction, window, face_size),
                shown_in(picture, window, face_size),
                shown_in(truth, own, face_size),
                (source.params, target.params),
                head,
                FOCAL * picture.shape[0] / 2 * face_size / window.width,
            )
        return Shown(prediction, picture, source=truth, faces=faces, truth=pair.protocol == "self-reenactment")

    return show


def colors(frame: FrameLike) -> Float[Tensor, "H W 3"]:
    """A frame's picture, sRGB in [0, 1]."""
    return frame.picture.float() / 255
