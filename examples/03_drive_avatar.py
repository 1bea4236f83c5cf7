"""Drive an avatar by ARKit weights that you compute yourself, and write a video.

python examples/03_drive_avatar.py runs/demo/avatar hello.mp4
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch

from vultus import avatars
from vultus.animation import Driver
from vultus.animation.arkit_motion import arkit_motion
from vultus.exports import VideoStyle, animate
from vultus.heads.arkit import arkit_weights

FPS = 25.0


def main(folder: Path, video: Path, seconds: float = 4.0, size: int | None = None) -> Path:
    """The avatar opens its mouth twice, blinks, smiles, and turns from side to side."""
    avatar = avatars.load(folder)
    times = torch.arange(round(seconds * FPS)) / FPS
    phase = times / seconds

    # One value per frame and name; names that are not given stay 0.
    smile = 0.7 * phase
    blink = torch.exp(-(((phase - 0.5) / 0.03) ** 2))
    weights = arkit_weights(
        {
            "jawOpen": 0.5 * torch.sin(2 * math.pi * phase).abs(),
            "mouthSmileLeft": smile,
            "mouthSmileRight": smile,
            "eyeBlinkLeft": blink,
            "eyeBlinkRight": blink,
        }
    )
    # Radians: yaw to the subject's left, pitch downwards, roll to the subject's right shoulder.
    yaw = 0.35 * torch.sin(2 * math.pi * phase)
    angles = torch.stack([yaw, torch.zeros_like(yaw), torch.zeros_like(yaw)], dim=-1)

    # `animate` carries the motion over from the mean person, whom it describes, to the avatar's own rest pose.
    motion = arkit_motion(avatar.head, weights, times, head_angles=angles)
    return animate(avatar, Driver("example", motion), video, VideoStyle(size=size, camera="still"))


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
