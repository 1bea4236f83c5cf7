"""GNM Head's vertex groups as regions: under their own names, and under those the other head models use."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

_LEAST_WEIGHT = 1e-4
# Our name: groups of which any may be there; a vertex of one of them belongs to it.
_UNIONS = {
    "face": ("hockey_mask",),
    "left_eyeball": ("left_eye",),
    "right_eyeball": ("right_eye",),
    "lip_upper": ("upper_lip", "upper_lip_region"),
    "lip_lower": ("lower_lip", "lower_lip_region"),
    "lips": ("upper_lip", "upper_lip_region", "lower_lip", "lower_lip_region"),
    "teeth_upper": ("upper_teeth_and_gums", "upper_teeth"),
    "teeth_lower": ("lower_teeth_and_gums", "lower_teeth"),
    "teeth": ("upper_teeth_and_gums", "lower_teeth_and_gums", "upper_teeth", "lower_teeth", "teeth"),
    "mouth_bag": ("mouth_sock",),
    "left_eye_region": ("left_orbital", "left_orbital_region"),
    "right_eye_region": ("right_orbital", "right_orbital_region"),
}


def gnm_regions(groups: Mapping[str, Float[Tensor, "V"]]) -> dict[str, Int[Tensor, "_"]]:
    """Vertices whose weight in a group is more than 1e-4, by name; names of absent groups are left out."""
    masks = {name: weight > _LEAST_WEIGHT for name, weight in groups.items()}
    for name, parts in _UNIONS.items():
        there = [masks[part] for part in parts if part in groups]
        if there:
            masks[name] = torch.stack(there).any(0)
    iris = [masks[name] for name in ("irises", "pupils") if name in groups]
    for side in ("left", "right"):
        if iris and f"{side}_eyeball" in masks:
            masks[f"{side}_iris"] = torch.stack(iris).any(0) & masks[f"{side}_eyeball"]
    return {name: torch.nonzero(mask)[:, 0] for name, mask in masks.items()}
