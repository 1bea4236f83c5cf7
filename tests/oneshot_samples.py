"""A one-shot network that is small in every way, and people and cameras for it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from vultus.avatars.oneshot.geometry import camera_to_transform
from vultus.avatars.oneshot.model import OneShotModel
from vultus.avatars.oneshot.options import RELEASED, Architecture
from vultus.cameras import Camera, look_at
from vultus.networks.vit import VitShape

TINY = Architecture(
    vertices=7642,
    source_size=32,
    image_size=32,
    vit=VitShape(width=16, depth=4, heads=2, patch=8, grid=4),
    taps=(0, 1, 2, 3),
    levels=(8, 8, 8, 8),
    features=8,
    vertex_features=4,
    channels=8,
    hidden=8,
    vertex_hidden=8,
    style=16,
    style_layers=2,
    narrow=1 / 32,
)


def tiny_model(quirks=RELEASED, seed=0):
    """The same weights for every set of quirks."""
    torch.manual_seed(seed)
    return OneShotModel(replace(TINY, quirks=quirks)).eval()


def person(head, seed=3):
    """Someone at rest who is not the mean."""
    rest = head.neutral()
    identity = 0.4 * torch.randn(rest.identity.shape, generator=torch.Generator().manual_seed(seed))
    return replace(rest, identity=identity)


def transform(yaw):
    """A native camera about 1.86 m from the head, at a yaw in radians."""
    eye = 1.86 * torch.tensor([math.sin(yaw), 0.03, math.cos(yaw)])
    return camera_to_transform(Camera.from_focal(1.0, 1, 1, look_at(eye, torch.tensor([0.0, -0.02, 0.0]))))
