"""A correct multi-camera capture of the built-in head, small, to be written in every layout and broken in every way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from vultus.cameras import Camera, look_at
from vultus.captures import CaptureWriter
from vultus.heads import SkinnedHead
from vultus.heads.load import load_head
from vultus.meshes import rasterize_mesh
from vultus.motion import HeadParams, Motion

WIDTH, HEIGHT = 40, 48
ANGLES = (-50.0, -20.0, 5.0, 35.0, 60.0)


def cameras(
    angles: Sequence[float] = ANGLES, distance: float = 1.0, center: Sequence[float] = (0, 0, 0)
) -> list[Camera]:
    """Cameras on an arc around the head, a little above and below it."""
    result = []
    for number, angle in enumerate(angles):
        turn = math.radians(angle)
        offset = torch.tensor([math.sin(turn), 0.12 * (number % 3 - 1), math.cos(turn)])
        target = torch.tensor(center, dtype=torch.float32)
        pose = look_at(target + distance * offset / offset.norm(), target)
        K = torch.tensor([[110.0, 0.0, 19.0], [0.0, 112.0, 25.0], [0.0, 0.0, 1.0]])
        result.append(Camera(pose, K, WIDTH, HEIGHT))
    return result


def motion(head: SkinnedHead, count: int) -> Motion:
    generator = torch.Generator().manual_seed(3)
    params = HeadParams(
        model=head.fingerprint,
        identity=torch.zeros(len(head.identity_names)),
        expression=0.1 * torch.rand(count, len(head.expression_names), generator=generator),
        joints={"root": 0.05 * torch.randn(count, 3, generator=generator)},
        translation=0.01 * torch.randn(count, 3, generator=generator),
        scale=torch.ones(()),
    )
    return Motion(params=params, times=torch.arange(count) / 25, neutral=head.neutral())


def write_rig(
    folder: Path, *, count: int = 3, angles: Sequence[float] = ANGLES, head: SkinnedHead | None = None
) -> list[Camera]:
    """Pictures of the head's silhouette, coloured by position, with exact masks."""
    head = head or load_head()
    movement, rig = motion(head, count), cameras(angles)
    y, x = torch.meshgrid(torch.linspace(0.1, 0.7, HEIGHT), torch.linspace(0.1, 0.7, WIDTH), indexing="ij")
    with CaptureWriter(folder, head=head, fps=25) as writer:
        for timestep in range(count):
            vertices = head.pose(movement.params[timestep]).vertices
            for number, camera in enumerate(rig):
                mask = (rasterize_mesh(vertices, head.faces, camera).face_ids >= 0)[..., None].float()
                color = torch.stack([x, y, torch.full_like(x, 0.1 + 0.1 * timestep)], dim=-1)
                writer.add_image(timestep, number, color, mask)
                writer.set_camera(number, camera)
        writer.set_motion(movement)
    return rig
