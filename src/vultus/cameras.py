"""Pinhole cameras in the OpenCV convention: x right, y down, z forward; pixel centres at +0.5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """One camera or a batch of cameras with a common image size.

    A world point X (metres) has camera coordinates `x = R X + t` with `world_to_camera = [R | t; 0 0 0 1]`, and pixel
    coordinates `(fx x/z + cx, fy y/z + cy)`. The top-left corner of the image is (0, 0), the centre of its first pixel
    (0.5, 0.5).
    """

    world_to_camera: Float[Tensor, "*B 4 4"]
    K: Float[Tensor, "*B 3 3"]
    width: int
    height: int

    @staticmethod
    def from_focal(
        focal: float,
        width: int,
        height: int,
        world_to_camera: Float[Tensor, "*B 4 4"] | None = None,
        principal: tuple[float, float] | None = None,
    ) -> Camera:
        """A camera with square pixels: `focal` in pixels, the principal point (pixels) at the centre unless given."""
        cx, cy = principal if principal is not None else (width / 2, height / 2)
        pose = torch.eye(4) if world_to_camera is None else world_to_camera
        K = torch.tensor([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]], dtype=pose.dtype, device=pose.device)
        return Camera(pose, K.expand(*pose.shape[:-2], 3, 3), width, height)

    @property
    def batch_shape(self) -> torch.Size:
        return torch.broadcast_shapes(self.world_to_camera.shape[:-2], self.K.shape[:-2])

    @property
    def center(self) -> Float[Tensor, "*B 3"]:
        """Position of the camera in the world, metres."""
        rotation, translation = self.world_to_camera[..., :3, :3], self.world_to_camera[..., :3, 3]
        return -(rotation.transpose(-1, -2) @ translation[..., None])[..., 0]

    def to_camera(self, points: Float[Tensor, "*B N 3"]) -> Float[Tensor, "*B N 3"]:
        """World points (metres) in camera coordinates."""
        rotation, translation = self.world_to_camera[..., :3, :3], self.world_to_camera[..., None, :3, 3]
        return points @ rotation.transpose(-1, -2) + translation

    def project(self, points: Float[Tensor, "*B N 3"]) -> Float[Tensor, "*B N 2"]:
        """World points (metres) in pixels. Points at or behind the camera plane give meaningless numbers."""
        homogeneous = self.to_camera(points) @ self.K.transpose(-1, -2)
        return homogeneous[..., :2] / homogeneous[..., 2:3]

    def cropped(self, left: float, top: float, width: int, height: int) -> Camera:
        """The camera of the image region whose top-left corner is (left, top), in pixels."""
        K = self.K.clone()
        K[..., 0, 2] -= left
        K[..., 1, 2] -= top
        return replace(self, K=K, width=width, height=height)

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same image resampled to another size."""
        K = self.K.clone()
        K[..., 0, :] *= width / self.width
        K[..., 1, :] *= height / self.height
        return replace(self, K=K, width=width, height=height)

    def moved(self, world_to_world: Float[Tensor, "*#B 4 4"]) -> Camera:
        """The camera that sees `world_to_world · X` where this one sees X, i.e. the camera carried along rigidly."""
        return replace(self, world_to_camera=self.world_to_camera @ torch.linalg.inv(world_to_world))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Camera:
        return replace(self, world_to_camera=self.world_to_camera.to(device, dtype), K=self.K.to(device, dtype))

    def __getitem__(self, index: int | slice | Tensor) -> Camera:
        """Select along the first batch dimension."""
        batch = self.batch_shape
        return replace(
            self,
            world_to_camera=self.world_to_camera.expand(*batch, 4, 4)[index],
            K=self.K.expand(*batch, 3, 3)[index],
        )

    @staticmethod
    def stack(cameras: Sequence[Camera]) -> Camera:
        """A batch of cameras of one image size along a new first dimension."""
        sizes = {(camera.width, camera.height) for camera in cameras}
        if len(sizes) != 1:
            raise ValueError(f"cameras of different image sizes cannot be stacked: {sorted(sizes)}")
        return replace(
            cameras[0],
            world_to_camera=torch.stack([camera.world_to_camera for camera in cameras]),
            K=torch.stack([camera.K for camera in cameras]),
        )


def look_at(
    eye: Float[Tensor, "*B 3"], target: Float[Tensor, "*B 3"], up: Float[Tensor, "*#B 3"] | None = None
) -> Float[Tensor, "*B 4 4"]:
    """World-to-camera pose of a camera at `eye` that looks at `target` with `up` (default +Y) upwards in the image."""
    if up is None:
        up = torch.tensor([0.0, 1.0, 0.0], dtype=eye.dtype, device=eye.device)
    forward = torch.nn.functional.normalize(target - eye, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up.expand_as(forward)), dim=-1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], dim=-2)
    translation = -(rotation @ eye[..., None])
    pose = torch.cat([rotation, translation], dim=-1)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=eye.dtype, device=eye.device)
    return torch.cat([pose, last.expand(*pose.shape[:-2], 1, 4)], dim=-2)


_FLIP_YZ = (1.0, -1.0, -1.0, 1.0)


def opengl_camera_to_world_to_world_to_camera(camera_to_world: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B 4 4"]:
    """OpenCV world-to-camera of an OpenGL/Blender camera-to-world (camera axes x right, y up, z backward)."""
    return torch.linalg.inv(camera_to_world * camera_to_world.new_tensor(_FLIP_YZ))


def world_to_camera_to_opengl_camera_to_world(world_to_camera: Float[Tensor, "*B 4 4"]) -> Float[Tensor, "*B 4 4"]:
    """OpenGL/Blender camera-to-world of an OpenCV world-to-camera."""
    return torch.linalg.inv(world_to_camera) * world_to_camera.new_tensor(_FLIP_YZ)
