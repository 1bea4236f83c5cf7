"""Which part of a head a surface belongs to, from the regions and masks that a head model ships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.heads.model import HeadModel

PART_NAMES = ("skin", "hair", "lips", "eyes", "teeth", "mouth", "neck")

# Used where a head model has no colours of its own: sRGB, an average that recolouring replaces.
_PLAIN = {
    "skin": (0.80, 0.62, 0.53),
    "hair": (0.22, 0.16, 0.12),
    "lips": (0.74, 0.46, 0.43),
    "eyes": (0.88, 0.85, 0.82),
    "teeth": (0.90, 0.87, 0.80),
    "mouth": (0.30, 0.13, 0.12),
    "neck": (0.80, 0.62, 0.53),
}
_IRIS = (0.25, 0.17, 0.10)


@dataclass(frozen=True)
class Parts:
    """Membership (0 to 1, sums to 1) of surface points in `PART_NAMES`."""

    weights: Mapping[str, Float[Tensor, "N"]]

    def at(self, corners: Int[Tensor, "N 3"], places: Float[Tensor, "N 3"]) -> Parts:
        """Of points on triangles, from parts of vertices."""
        return Parts({name: interpolate(weight, corners, places) for name, weight in self.weights.items()})


def vertex_parts(head: HeadModel) -> Parts:
    """The parts of a head model's vertices. Regions a model lacks are empty; what belongs to none is skin."""
    count = head.template.shape[0]

    def region(*names: str) -> Tensor:
        mask = torch.zeros(count)
        for name in names:
            if name in head.regions:
                mask[head.regions[name].long()] = 1.0
        return mask

    attributes: Mapping[str, Tensor] = getattr(head, "attributes", {})
    eyes = region("left_eyeball", "right_eyeball")
    teeth = region("teeth")
    mouth = region("mouth_bag", "tongue") * (1 - teeth)
    inside = (eyes + teeth + mouth).clamp(max=1)
    lips = attributes["lip_weight"].float() if "lip_weight" in attributes else region("lips")
    lips = lips.clamp(0, 1) * (1 - inside)
    if "hair_weight" in attributes:
        hair = attributes["hair_weight"].float().clamp(0, 1)
    else:
        hair = region("scalp") * (1 - region("face", "neck", "forehead"))
    hair = hair * (1 - inside) * (1 - lips)
    skin = (1 - inside - lips - hair).clamp(0, 1)
    neck = region("neck", "boundary") * skin
    weights = (skin - neck, hair, lips, eyes, teeth, mouth, neck)
    return Parts(dict(zip(PART_NAMES, weights, strict=True)))


def vertex_colors(head: HeadModel, style: str | None = None) -> Float[Tensor, "V 3"]:
    """Likely colours of a head's vertices: a style of its own (`color_<style>`), else one plain colour per part.

    Where the model knows how deep its surface lies in folds and cavities, that darkening is part of the colour.
    """
    attributes: Mapping[str, Tensor] = getattr(head, "attributes", {})
    styles = sorted(name for name in attributes if name.startswith("color_"))
    if styles:
        name = f"color_{style}" if style is not None else styles[0]
        light = 0.35 + 0.65 * attributes["occlusion"].float()
        # An eyelid is in its fold's shade only while the eye is open.
        lids = lid_weight(head)
        light = lids + (1 - lids) * light
        return attributes[name].float() * light[:, None]
    parts = vertex_parts(head)
    colors = sum(weight[:, None] * torch.tensor(_PLAIN[name]) for name, weight in parts.weights.items())
    assert isinstance(colors, Tensor)
    for name in ("left_iris", "right_iris"):
        if name in head.regions:
            colors[head.regions[name].long()] = torch.tensor(_IRIS)
    return colors


def lid_weight(head: HeadModel) -> Float[Tensor, "V"]:
    """Membership of vertices in the skin of the upper eyelids, which an open eye shows folded; not the lashes."""
    weight, height = torch.zeros(head.template.shape[0]), head.template[:, 1]
    for side in ("left", "right"):
        if f"{side}_eyelid" in head.regions and f"{side}_eyeball" in head.regions:
            lid = head.regions[f"{side}_eyelid"].long()
            upper = height[lid] > height[head.regions[f"{side}_eyeball"].long()].mean()
            weight[lid[upper]] = 1.0
    attributes: Mapping[str, Tensor] = getattr(head, "attributes", {})
    return weight * (1 - attributes["lid_weight"].float().clamp(0, 1)) if "lid_weight" in attributes else weight


def color_styles(head: HeadModel) -> list[str]:
    """Names of the colour styles a head model ships."""
    attributes: Mapping[str, Tensor] = getattr(head, "attributes", {})
    return sorted(name.removeprefix("color_") for name in attributes if name.startswith("color_"))


def interpolate(
    values: Float[Tensor, "V *D"], corners: Int[Tensor, "N 3"], places: Float[Tensor, "N 3"]
) -> Float[Tensor, "N *D"]:
    """Values of vertices at barycentric places of triangles."""
    weight = places if values.dim() == 1 else places[..., None]
    return (values[corners] * weight).sum(1)


def importance(head: HeadModel) -> Float[Tensor, "F"]:
    """How finely each triangle should be covered: the front of the face most, what is never seen least."""
    count = head.template.shape[0]
    weight = torch.ones(count)
    for names, value in (
        (("face", "forehead"), 3.0),
        (("lips", "nose", "left_ear", "right_ear", "teeth"), 2.5),
        (("eye_region", "left_eye_region", "right_eye_region"), 5.0),
        (("mouth_bag",), 0.2),
        (("left_eyeball", "right_eyeball"), 0.2),
        (("left_iris", "right_iris"), 10.0),
        (("boundary", "neck"), 0.7),
    ):
        for name in names:
            if name in head.regions:
                weight[head.regions[name].long()] = value
    return weight[head.faces].mean(-1)
