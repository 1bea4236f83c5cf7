"""Parametric head models: parameters to posed mesh, joints, landmarks, regions and UVs."""

from vultus.heads.contour import ContourTable
from vultus.heads.load import load_head
from vultus.heads.model import HeadModel, LandmarkSet, PosedHead, SkinnedHead
from vultus.heads.native import read_head, write_head

__all__ = [
    "ContourTable",
    "HeadModel",
    "LandmarkSet",
    "PosedHead",
    "SkinnedHead",
    "load_head",
    "read_head",
    "write_head",
]
