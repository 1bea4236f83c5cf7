"""A small rig: three cameras, four instants, of the synthetic avatar; camera 2 and instant 3 are held out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from synthetic_avatar import synthetic_avatar

from vultus.avatars.rigged import RiggedAvatar
from vultus.cameras import Camera, look_at
from vultus.captures import Capture, CaptureWriter, open_capture
from vultus.motion import Motion

SIZE = 80


@dataclass(frozen=True)
class Rig:
    capture: Capture
    avatar: Callable[[], RiggedAvatar]


def rig_camera(index: int) -> Camera:
    yaw = 0.35 * (index - 1)
    target = torch.tensor([0.0, -0.035, 0.0])
    eye = target + 0.9 * torch.tensor([math.sin(yaw), 0.0, math.cos(yaw)])
    return Camera.from_focal(2.6 * SIZE, SIZE, SIZE, look_at(eye, target))


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    folder: Path = tmp_path_factory.mktemp("rig") / "capture"
    avatar = synthetic_avatar(SIZE)
    instants = 4
    params = avatar.rest.map(lambda tensor: tensor.expand(instants, *tensor.shape).clone())
    params.joints["jaw"][:, 0] = 0.1 * torch.arange(instants)
    params.joints["neck"][:, 1] = 0.05 * torch.arange(instants)
    motion = Motion(params, torch.arange(instants) / 25, avatar.rest)
    with CaptureWriter(folder, head=avatar.head, fps=25, val_cameras=(2,), test_timesteps=(3,)) as writer:
        for index in range(3):
            writer.set_camera(index, rig_camera(index))
            for instant in range(instants):
                with torch.no_grad():
                    seen = avatar.render(motion.params[instant], rig_camera(index), background=torch.ones(3))
                writer.add_image(instant, index, seen.color.clamp(0, 1), seen.alpha, is_composited=True)
        writer.set_motion(motion)

    def fresh() -> RiggedAvatar:
        made = synthetic_avatar(SIZE)
        made.motion = motion
        return made

    return Rig(open_capture(folder, avatar.head), fresh)
