"""FLAME (Li et al. 2017) from the files its users obtain under its own licence. The formula is `SkinnedHead`'s."""

from vultus.heads.flame.conventions import (
    centred_at_root,
    rest_joints_over_time,
    texture_grid,
    turned_about_origin,
)
from vultus.heads.flame.loading import load_flame
from vultus.heads.flame.teeth import FlameArrays, add_teeth

__all__ = [
    "FlameArrays",
    "add_teeth",
    "centred_at_root",
    "load_flame",
    "rest_joints_over_time",
    "texture_grid",
    "turned_about_origin",
]
