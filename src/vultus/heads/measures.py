"""Lengths of a person's head."""

from __future__ import annotations

from vultus.heads.model import HeadModel
from vultus.motion import HeadParams


def head_height(head: HeadModel, params: HeadParams) -> float:
    """From chin to crown before any joint turns, metres; the offset (hair) and the scale of `params` (no batch) count.

    The chin is point 8 of the 68 landmarks, else the lowest vertex of the region `face`, else of the whole model.
    """
    vertices = head.pose(params).rest * params.scale
    if "ibug68" in head.landmark_sets:
        chin = head.landmarks(vertices, "ibug68")[8, 1]
    else:
        chin = vertices[head.regions["face"].long(), 1].min() if "face" in head.regions else vertices[:, 1].min()
    return float(vertices[:, 1].max() - chin)
