"""What a pixel of a synthetic picture shows."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from vultus.captures.studio import surface
from vultus.heads.model import HeadModel

LABELS: tuple[str, ...] = (
    "background", "skin", "neck", "ears", "lips", "mouth", "eyes", "brows", "hair", "beard", "glasses", "hat",
    "earrings", "cloth",
)  # fmt: skip
"""Names of the numbers in a label image; `mouth` is teeth, tongue and what is around them."""
NUMBER = {name: number for number, name in enumerate(LABELS)}


def face_labels(head: HeadModel, *, hair_painted: bool, shirt_painted: bool, bald: bool) -> Int[Tensor, "F"]:
    """Label of every triangle of a head model."""
    anatomy = surface.anatomy_of(head)
    part = anatomy.part[head.faces].amax(1)
    middle = anatomy.position[head.faces].mean(1)
    label = torch.full((len(head.faces),), NUMBER["skin"])
    is_skin = part == surface.SKIN
    # Below and behind the jaw.
    below = middle[:, 1] < -112 + 0.55 * (40 - middle[:, 2]).clamp(0, 90)
    label[is_skin & below] = NUMBER["neck"]
    for number, name in ((surface.EAR, "ears"), (surface.LID, "skin"), (surface.MOUTH_BAG, "mouth")):
        label[part == number] = NUMBER[name]
    for number in (surface.TEETH_UPPER, surface.TEETH_LOWER, surface.TONGUE):
        label[part == number] = NUMBER["mouth"]
    label[(part == surface.LEFT_EYE) | (part == surface.RIGHT_EYE)] = NUMBER["eyes"]
    places = anatomy.places()
    from vultus.heads.builtin.sculpt.colours import brow_weight, hair_weight

    def share(values) -> Tensor:
        return torch.from_numpy(values).float()[head.faces].mean(1)

    label[is_skin & (anatomy.lip[head.faces].mean(1) > 0.5)] = NUMBER["lips"]
    if hair_painted:
        label[is_skin & (share(brow_weight(places)) > 0.4)] = NUMBER["brows"]
        if not bald:
            label[is_skin & (share(hair_weight(places)) > 0.5)] = NUMBER["hair"]
    if shirt_painted:
        label[is_skin & (middle[:, 1] < -168)] = NUMBER["cloth"]
    return label
