"""Parametric head models: parameters to posed mesh, joints, landmarks, regions and UVs."""

from vultus.heads.model import HeadModel, LandmarkSet, PosedHead, SkinnedHead

__all__ = ["HeadModel", "LandmarkSet", "PosedHead", "SkinnedHead"]
