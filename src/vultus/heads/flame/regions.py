"""Vertex regions of FLAME's 5023-vertex mesh beyond those in its mask file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.heads.flame.teeth import COLUMNS, LOWER_ROWS, ROWS, UPPER_ROWS

VERTICES = 5023

LIP_OUTSIDE_RING_UPPER = (1713, 1715, 1716, 1735, 1696, 1694, 1657, 3543, 2774, 2811, 2813, 2850, 2833, 2832, 2830)
LIP_OUTSIDE_RING_LOWER = (1576, 1577, 1773, 1774, 1795, 1802, 1865, 3503, 2948, 2905, 2898, 2881, 2880, 2713, 2712)
_LIP_INSIDE_RING_UPPER = (1595, 1746, 1747, 1742, 1739, 1665, 1666, 3514, 2783, 2782, 2854, 2857, 2862, 2861, 2731)
_LIP_INSIDE_RING_LOWER = (1572, 1573, 1860, 1862, 1830, 1835, 1852, 3497, 2941, 2933, 2930, 2945, 2943, 2709, 2708)
_LIP_INSIDE_CORNERS = (1594, 2730)
# fmt: off
_BOTTOM_LINE = (
    3218, 3219, 3226, 3272, 3273, 3229, 3228, 3261, 3260, 3248, 3359, 3360, 3329, 3330, 3372,
    3371, 3327, 3322, 3321, 3355, 3354, 3356, 3357, 3379, 3285, 3289, 3258, 3257, 3255, 3256,
)
# fmt: on
_FIXED = {
    "lip_outside_ring_upper": LIP_OUTSIDE_RING_UPPER,
    "lip_outside_ring_lower": LIP_OUTSIDE_RING_LOWER,
    "lip_inside_ring_upper": _LIP_INSIDE_RING_UPPER,
    "lip_inside_ring_lower": _LIP_INSIDE_RING_LOWER,
    "lip_inside_ring": _LIP_INSIDE_RING_UPPER + _LIP_INSIDE_RING_LOWER + _LIP_INSIDE_CORNERS,
    "bottomline": _BOTTOM_LINE,
    "neck_left_point": (3193,),
    "neck_right_point": (3296,),
    "front_bottom_point": (3285,),
    "back_bottom_point": (3248,),
}
# Centre first; the rings of MediaPipe's iris points 468-472 (subject's right) and 473-477 (subject's left).
RIGHT_IRIS_POINTS = (4597, 4542, 4510, 4603, 4570)
LEFT_IRIS_POINTS = (4051, 3996, 3964, 3932, 4028)
_IRIS_VERTICES = 97


def flame_regions(
    masks: Mapping[str, Int[Tensor, "_"]], template: Float[Tensor, "V 3"], has_teeth: bool
) -> dict[str, Int[Tensor, "_"]]:
    """Regions by name: those of the mask file, fixed lists, unions, halves and, where the mesh has them, teeth.

    `masks` may be empty (the file is a separate download): then the regions made from it are missing.
    """
    regions = {name: indices.long() for name, indices in masks.items()}
    regions |= {name: torch.tensor(indices) for name, indices in _FIXED.items()}
    middle = template[:VERTICES, 0].abs() < 1e-5
    regions["left_half"] = torch.nonzero((template[:VERTICES, 0] > 0) | middle)[:, 0]
    regions["right_half"] = torch.nonzero((template[:VERTICES, 0] < 0) | middle)[:, 0]
    for side in ("left", "right"):
        if (eyeball := regions.get(f"{side}_eyeball")) is not None:
            # The gaze of the template is +Z: the iris is the front of the eyeball.
            order = template[eyeball, 2].argsort(descending=True)
            regions[f"{side}_iris"] = eyeball[order[:_IRIS_VERTICES]].sort().values
    _add_unions(regions)
    if has_teeth:
        vertex = torch.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + VERTICES
        regions["teeth_upper"] = vertex[list(UPPER_ROWS)].flatten()
        regions["teeth_lower"] = vertex[list(LOWER_ROWS)].flatten()
        regions["teeth"] = vertex.flatten()
    return regions


def _add_unions(regions: dict[str, Tensor]) -> None:
    def union(name: str, *parts: str) -> None:
        if all(part in regions for part in parts):
            regions[name] = torch.cat([regions[part] for part in parts]).unique()

    def difference(name: str, whole: str, *parts: str) -> None:
        if whole in regions and all(part in regions for part in parts):
            taken = torch.cat([regions[part] for part in parts])
            regions[name] = regions[whole][~torch.isin(regions[whole], taken)]

    union("ears", "right_ear", "left_ear")
    union("eyeballs", "left_eyeball", "right_eyeball")
    union("irises", "left_iris", "right_iris")
    union("left_eye", "left_eye_region", "left_eyeball")
    union("right_eye", "right_eye_region", "right_eyeball")
    difference("hair", "scalp", "face", "neck")
    difference("sclerae", "eyeballs", "irises")
    if {"eyeballs", "hair", "lips", "boundary"} <= regions.keys():
        other = torch.cat([regions[part] for part in ("eyeballs", "hair", "lips", "boundary")])
        every = torch.arange(VERTICES)
        regions["skin"] = every[~torch.isin(every, other)]
