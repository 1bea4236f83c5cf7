"""Small head models, motions, cameras and pictures that the tests of captures are made of."""

import torch

from vultus.cameras import Camera, look_at
from vultus.captures import CaptureWriter
from vultus.heads import SkinnedHead
from vultus.motion import HeadParams, Motion


def make_head(name: str = "test-head", identity: int = 4, expression: int = 3, vertices: int = 9) -> SkinnedHead:
    generator = torch.Generator().manual_seed(7)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return SkinnedHead(
        name=name,
        license="Apache-2.0",
        v_template=random(vertices, 3) * 0.1,
        faces=torch.stack([torch.arange(6), torch.arange(6) + 1, torch.arange(6) + 2], dim=-1),
        identity_basis=random(vertices, 3, identity) * 0.01,
        expression_basis=random(vertices, 3, expression) * 0.01,
        pose_basis=random(vertices, 3, 36) * 0.001,
        joint_regressor=random(5, vertices).softmax(-1),
        weights=random(vertices, 5).softmax(-1),
        parents=(-1, 0, 1, 1, 1),
    )


def make_motion(head: SkinnedHead, count: int, has_offset: bool = False) -> Motion:
    neutral = head.neutral()
    params = HeadParams(
        model=head.fingerprint,
        identity=torch.randn(len(head.identity_names)),
        expression=torch.randn(count, len(head.expression_names)),
        joints={name: 0.1 * torch.randn(count, 3) for name in head.joint_names},
        translation=0.1 * torch.randn(count, 3),
        scale=torch.ones(()),
        offset=0.001 * torch.randn(head.template.shape[0], 3) if has_offset else None,
    )
    return Motion(
        params=params,
        times=torch.arange(count) / 30,
        neutral=neutral,
        valid=torch.arange(count) % 3 != 1,
        shots=torch.arange(count) // 2,
    )


def make_camera(number: int, width: int = 12, height: int = 10) -> Camera:
    eye = torch.tensor([0.3 * number, 0.1, 1.0])
    pose = look_at(eye, torch.tensor([0.01, 0.02, 0.0]))
    K = torch.tensor([[30.0, 0.0, 5.5], [0.0, 31.0, 4.25], [0.0, 0.0, 1.0]])
    return Camera(pose, K, width, height)


def fill(writer: CaptureWriter, motion: Motion, cameras: int = 2, height: int = 10, width: int = 12) -> None:
    for timestep in range(len(motion)):
        for camera in range(cameras):
            generator = torch.Generator().manual_seed(100 * timestep + camera)
            image = torch.rand(height, width, 3, generator=generator)
            mask = torch.rand(height, width, 1, generator=generator).mul(2).sub(0.5).clamp(0, 1)
            writer.add_image(timestep, camera, image, mask)
            writer.set_landmarks("dots", timestep, camera, torch.rand(3, 2) * 10, torch.tensor([1.0, 0.0, 0.5]))
    for camera in range(cameras):
        writer.set_camera(camera, make_camera(camera))
    writer.set_motion(motion)
