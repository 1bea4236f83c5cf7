"""Regions of ICT-FaceKit Light: its published parts, and others found by place on the neutral face."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.heads.ict.layout import IRIS, LANDMARKS_68, LOWER_TEETH, NARROW_FACE, PARTS, SCLERA, UPPER_TEETH, VERTICES

# Heights and depths relative to the middle between the eye centres, metres; a plausible hairline, not a published one.
_HAIRLINE, _CROWN_BACK, _NAPE = 0.065, -0.085, -0.06


# The outer ears lie further from the middle than this, and between these heights relative to the eyes.
_EAR_SIDE, _EAR_HEIGHTS = 0.075, (-0.06, 0.02)
_IRIS_RADIUS = 0.006
JAW_CORNER = 12
"""Which of the 68 landmarks lies where the jaw turns up towards the ear, on the subject's left."""


def ict_regions(template: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> dict[str, Int[Tensor, "_"]]:
    """Regions by the names that the other head models use; `faces` without the see-through shells."""
    outside = torch.zeros(VERTICES, dtype=torch.bool)
    for name in ("face", "head_and_neck"):
        outside |= _span(PARTS[name][:2])
    narrow = _span(NARROW_FACE)
    landmarks = template[list(LANDMARKS_68)]
    eyes = (landmarks[36:42].mean(0) + landmarks[42:48].mean(0)) / 2
    place = template - eyes
    corner, chin = landmarks[JAW_CORNER], landmarks[8]
    ears = outside & ~narrow & (place[:, 0].abs() > _EAR_SIDE)
    ears &= (place[:, 1] > _EAR_HEIGHTS[0]) & (place[:, 1] < _EAR_HEIGHTS[1])
    scalp = (
        outside & ~narrow & ~ears & ((place[:, 1] > _HAIRLINE) | ((place[:, 2] < _CROWN_BACK) & (place[:, 1] > _NAPE)))
    )
    below = template[:, 1] < torch.where(template[:, 2] > corner[2], chin[1] - 0.005, corner[1] - 0.01)
    neck = outside & ~scalp & below
    lips = narrow & inside_polygon(template[:, :2], landmarks[48:60, :2])
    border = outside & _on_border(faces, outside) & (template[:, 1] < chin[1])
    middle = landmarks[60:68, 1].mean()
    masks = {
        "skin": outside | _span(PARTS["eye_socket_left"][:2]) | _span(PARTS["eye_socket_right"][:2]),
        "face": narrow,
        "scalp": scalp,
        "hair": scalp,
        "neck": neck,
        "boundary": border,
        "left_ear": ears & (template[:, 0] > 0),
        "right_ear": ears & (template[:, 0] < 0),
        "lips": lips,
        "lip_upper": lips & (template[:, 1] >= middle),
        "lip_lower": lips & (template[:, 1] < middle),
        "mouth_bag": _span(PARTS["mouth_socket"][:2]) | _span(PARTS["gums_and_tongue"][:2]),
        "teeth": _span(PARTS["teeth"][:2]),
        "teeth_upper": _span(UPPER_TEETH),
        "teeth_lower": _span(LOWER_TEETH),
    }
    for side, start in (("right", 36), ("left", 42)):
        rim = landmarks[start : start + 6, :2]
        centre = rim.mean(0)
        masks[f"{side}_eyeball"] = _span(PARTS[f"eyeball_{side}"][:2])
        # The clear front of the eye lies over the iris; where nothing is see-through, it shows the iris.
        iris = _span(IRIS[side])
        away = (template - template[iris].mean(0))[:, :2].norm(dim=-1)
        front = template[:, 2] > template[iris | _span(SCLERA[side]), 2].mean()
        masks[f"{side}_iris"] = (iris | _span(SCLERA[side])) & front & (away < _IRIS_RADIUS)
        masks[f"{side}_eyelid"] = narrow & inside_polygon(template[:, :2], centre + (rim - centre) * 1.45)
        away = (template[:, :2] - centre) / torch.tensor([0.027, 0.02])
        masks[f"{side}_eye_region"] = narrow & (away.norm(dim=-1) < 1)
    masks["eye_region"] = masks["left_eye_region"] | masks["right_eye_region"]
    return {name: torch.nonzero(mask)[:, 0] for name, mask in masks.items()}


def inside_polygon(points: Float[Tensor, "N 2"], polygon: Float[Tensor, "K 2"]) -> Bool[Tensor, "N"]:
    """Which points lie inside a closed polygon: an odd number of its edges crosses the ray to their right."""
    first, second = polygon[None], polygon.roll(-1, 0)[None]
    x, y = points[:, 0, None], points[:, 1, None]
    crosses = (first[..., 1] > y) != (second[..., 1] > y)
    slope = (second[..., 0] - first[..., 0]) / (second[..., 1] - first[..., 1])
    return ((crosses & (x < first[..., 0] + (y - first[..., 1]) * slope)).sum(-1) % 2) == 1


def _span(bounds: tuple[int, int]) -> Bool[Tensor, "V"]:
    mask = torch.zeros(VERTICES, dtype=torch.bool)
    mask[slice(*bounds)] = True
    return mask


def _on_border(faces: Int[Tensor, "F 3"], among: Bool[Tensor, "V"]) -> Bool[Tensor, "V"]:
    """Vertices of edges that one triangle alone has, of triangles within `among`."""
    kept = faces[among[faces].all(1)]
    edges = torch.cat([kept[:, [0, 1]], kept[:, [1, 2]], kept[:, [2, 0]]]).sort(1).values
    unique, count = torch.unique(edges, dim=0, return_counts=True)
    mask = torch.zeros(VERTICES, dtype=torch.bool)
    mask[unique[count == 1].flatten()] = True
    return mask
