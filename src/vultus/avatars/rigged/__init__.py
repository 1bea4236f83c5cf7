"""Rigged avatars: Gaussians that ride on the triangles of a head model (GaussianAvatars, CVPR 2024)."""

from vultus.avatars.rigged.model import Labels, LocalSplats, RiggedAvatar
from vultus.avatars.rigged.settings import Rates, RiggedSettings, Weights, preset
from vultus.avatars.rigged.train import fitting_preset, train

__all__ = [
    "Labels",
    "LocalSplats",
    "Rates",
    "RiggedAvatar",
    "RiggedSettings",
    "Weights",
    "fitting_preset",
    "preset",
    "train",
]
