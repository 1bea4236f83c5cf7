"""What a pixel of a synthetic picture shows."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from vultus.captures.studio import surface
from vultus.captures.studio.painting import beard_zone, shirt_weight
from vultus.captures.studio.people import Person
from vultus.captures.studio.surface import Surface

LABELS: tuple[str, ...] = (
    "background", "skin", "neck", "ears", "lips", "mouth", "eyes", "brows", "hair", "beard", "glasses", "hat",
    "earrings", "cloth",
)  # fmt: skip
"""Names of the numbers in a label image; `mouth` is teeth, tongue and what is around them."""
NUMBER = {name: number for number, name in enumerate(LABELS)}
_PARTS = (
    (surface.EAR, "ears"), (surface.MOUTH_BAG, "mouth"), (surface.TEETH_UPPER, "mouth"), (surface.TEETH_LOWER, "mouth"),
    (surface.TONGUE, "mouth"), (surface.LEFT_EYE, "eyes"), (surface.RIGHT_EYE, "eyes"),
)  # fmt: skip


def texel_labels(texels: Surface, person: Person, *, shirt_painted: bool) -> Int[Tensor, "N"]:
    """Label of every texel of the head: parts of the mesh, and what is painted on the skin."""
    p, is_skin = texels.position, texels.part == surface.SKIN
    label = torch.full((len(p),), NUMBER["skin"])

    def put(chosen: Tensor, name: str) -> None:
        label[chosen] = NUMBER[name]

    # Below and behind the jaw.
    put(is_skin & (p[:, 1] < -112 + 0.55 * (40 - p[:, 2]).clamp(0, 90)), "neck")
    if person.hair.beard not in ("none", "stubble"):
        put(is_skin & (beard_zone(p, person.hair.beard) > 0.5), "beard")
    put(is_skin & (texels.lip > 0.5), "lips")
    put(is_skin & (texels.brow * person.hair.brow_density > 0.4), "brows")
    if person.hair.style != "bald":
        put(is_skin & (texels.scalp > 0.5), "hair")
    for number, name in _PARTS:
        put(texels.part == number, name)
    if shirt_painted:
        put(shirt_weight(texels) > 0.5, "cloth")
    return label
