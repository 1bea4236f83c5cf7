"""Synthetic takes of the built-in head with known parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from vultus.cameras import Camera
from vultus.heads import SkinnedHead
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix
from vultus.tracking import Observations
from vultus.tracking.landmark_fit import embedding_of
from vultus.tracking.rig import camera_pose


@dataclass(frozen=True)
class Take:
    """Footage of a synthetic person: true parameters, the camera, exact landmark pixels [N, L, 2] and their set."""

    params: HeadParams
    camera: Camera
    points: np.ndarray
    set_name: str

    def observations(self, noise: float = 0.0, seed: int = 0) -> Observations:
        random = np.random.default_rng(seed)
        points = self.points + noise * random.normal(size=self.points.shape)
        return Observations.of(points, self.set_name, self.camera.width, self.camera.height)


def make_take(
    head: SkinnedHead,
    count: int,
    *,
    focal: float = 1400.0,
    yaw: float = 0.52,
    seed: int = 0,
    expression: torch.Tensor | None = None,
    landmark_set: str = "mediapipe",
) -> Take:
    """A random person who turns the head up to `yaw` radians to both sides, speaks, blinks and looks around."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(count) / 25.0
    names = head.expression_names
    identity = 0.5 * torch.randn(len(head.identity_names), generator=generator)
    identity[[name in ("hair_volume", "scale") for name in head.identity_names]] = 0
    if expression is None:
        expression = _smiling(names, time)
    zero = torch.zeros(count)
    joints = {
        "root": torch.stack(
            [0.15 * torch.sin(1.3 * time), yaw * torch.sin(1.57 * time + 0.3), 0.1 * torch.sin(time)], -1
        ),
        "jaw": torch.stack([0.1 + 0.1 * torch.sin(4 * time), zero, zero], -1),
        "left_eye": torch.stack([0.1 * torch.sin(time), 0.2 * torch.sin(0.7 * time), zero], -1),
        "right_eye": torch.stack([0.1 * torch.sin(time), 0.2 * torch.sin(0.7 * time), zero], -1),
    }
    translation = torch.stack([0.03 * torch.sin(time), 0.01 * torch.cos(time), 0.05 * torch.sin(0.5 * time) + 0.1], -1)
    params = replace(
        head.neutral(count), identity=identity, expression=expression, joints=joints, translation=translation
    )
    camera = Camera.from_focal(focal, 960, 720, camera_pose(1.0))
    embedding = embedding_of(head, landmark_set)
    corners = head.pose(params).vertices[:, head.faces[embedding.faces]]
    points = camera.project((corners * embedding.barycentric[..., None]).sum(-2)).double().numpy()
    return Take(params, camera, points, {"mediapipe": "mp478", "ibug68": "ibug70"}[landmark_set])


def rotation_error(true: HeadParams, found: HeadParams) -> torch.Tensor:
    """Angle between the true and the fitted head rotation, degrees."""
    a, b = (axis_angle_to_matrix(params.joint("root").double()) for params in (true, found))
    trace = (a.transpose(-1, -2) @ b).diagonal(dim1=-1, dim2=-2).sum(-1)
    return torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))


def _smiling(names: tuple[str, ...], time: torch.Tensor) -> torch.Tensor:
    expression = torch.zeros(len(time), len(names))
    for name, size, rate in (("mouthSmileLeft", 0.5, 2.1), ("mouthSmileRight", 0.5, 2.1), ("browInnerUp", 0.6, 1.3)):
        expression[:, names.index(name)] = size * (0.5 + 0.5 * torch.sin(rate * time))
    return expression
