"""The cameras of a fit: any number of them, at every instant where they then are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vultus.cameras import Camera

CAMERA_DISTANCE = 1.0
"""Where nothing is known of a camera, it stands this far (metres) in front of the origin and looks along −Z; only the
head moves."""

_NEAREST = 1e-3


@dataclass(frozen=True)
class Rig:
    """C cameras at N instants: a point X (metres) of the world is `rotation X + translation` to a camera.

    `focal` are focal lengths in x and y in units of the focal length that a fit estimates (pixels), or in pixels where
    they are known and that estimate is 1. `principal` are pixels.
    """

    rotation: Float64[Tensor, "N C 3 3"]
    translation: Float64[Tensor, "N C 3"]
    focal: Float64[Tensor, "N C 2"]
    principal: Float64[Tensor, "N C 2"]

    @staticmethod
    def in_front(count: int, width: int, height: int) -> Rig:
        """One still camera of unknown focal length that takes pictures of that size (pixels)."""
        pose = camera_pose(CAMERA_DISTANCE).double()
        return Rig(
            pose[:3, :3].expand(count, 1, 3, 3),
            pose[:3, 3].expand(count, 1, 3),
            torch.ones(count, 1, 2, dtype=torch.float64),
            torch.tensor([width / 2, height / 2], dtype=torch.float64).expand(count, 1, 2),
        )

    @staticmethod
    def of(cameras: Sequence[Sequence[Camera]]) -> Rig:
        """Known cameras (unbatched): one sequence for each instant, with the same cameras in the same order."""
        poses = torch.stack([torch.stack([camera.world_to_camera for camera in row]) for row in cameras]).double()
        K = torch.stack([torch.stack([camera.K for camera in row]) for row in cameras]).double()
        focal = torch.stack([K[..., 0, 0], K[..., 1, 1]], -1)
        return Rig(poses[..., :3, :3], poses[..., :3, 3], focal, K[..., :2, 2])

    @property
    def cameras(self) -> int:
        """How many there are."""
        return self.rotation.shape[1]

    @property
    def toward(self) -> Float64[Tensor, "N C 3"]:
        """Unit vectors in the world from what the cameras look at to them."""
        return -self.rotation[..., 2, :]

    @property
    def centers(self) -> Float64[Tensor, "N C 3"]:
        """Positions in the world, metres."""
        return -(self.rotation.transpose(-1, -2) @ self.translation[..., None])[..., 0]

    def select(self, frames: slice | np.ndarray | Tensor) -> Rig:
        """The cameras at some of the instants."""
        return Rig(self.rotation[frames], self.translation[frames], self.focal[frames], self.principal[frames])

    def seen(self, points: Float64[Tensor, "N L 3"]) -> Float64[Tensor, "N L C 3"]:
        """Points of the world in camera coordinates, metres."""
        moved = points[:, None] @ self.rotation.transpose(-1, -2) + self.translation[:, :, None]
        return moved.permute(0, 2, 1, 3).contiguous()

    def project(self, points: Float64[Tensor, "N L 3"], log_focal: float) -> Float64[Tensor, "N L C 2"]:
        """Points of the world in pixels; meaningless for points behind a camera."""
        seen = self.seen(points)
        image = seen[..., :2] / seen[..., 2:].clamp_min(_NEAREST)
        return image * (self.focal * float(np.exp(log_focal)))[:, None] + self.principal[:, None]

    def derivative(
        self, points: Float64[Tensor, "N L 3"], log_focal: float
    ) -> tuple[Float64[Tensor, "N L C 2 3"], Float64[Tensor, "N L C 2"]]:
        """Derivatives of `project`: by the points (pixels per metre), and by the logarithm of the focal length."""
        focal = (self.focal * float(np.exp(log_focal)))[:, None]
        seen = self.seen(points)
        depth = seen[..., 2:].clamp_min(_NEAREST)
        image = focal * (seen[..., :2] / depth)
        rotation = self.rotation[:, None]
        along = (focal / depth)[..., None] * rotation[..., :2, :]
        return along - (image / depth)[..., None] * rotation[..., 2:, :], image

    def camera(self, frame: int, camera: int, log_focal: float, width: int, height: int) -> Camera:
        """One camera at one instant."""
        focal = self.focal[frame, camera] * float(np.exp(log_focal))
        (fx, fy), (cx, cy) = focal.tolist(), self.principal[frame, camera].tolist()
        pose = torch.eye(4)
        pose[:3, :3], pose[:3, 3] = self.rotation[frame, camera], self.translation[frame, camera]
        return Camera(pose, torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), width, height)


def camera_pose(distance: float) -> Float[Tensor, "4 4"]:
    """World-to-camera pose of a camera on the +Z axis that looks at the origin with +Y up."""
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[2, 3] = distance
    return pose
