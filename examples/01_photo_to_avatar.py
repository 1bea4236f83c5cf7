"""Make an avatar from a photo or a video, and write one still of it.

    python examples/01_photo_to_avatar.py me.jpg runs/me

Needs the landmark detector: pip install "vultus[track]". Use pictures of people who agreed to it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from vultus import avatars
from vultus.animation import orbit
from vultus.animation.paths import head_center
from vultus.heads.arkit import arkit_to_params
from vultus.images import to_uint8, write_png
from vultus.workflows.create import CreateSettings, create_avatar


def main(photo: Path, folder: Path) -> Path:
    """Track, train and preview (`vultus create`), then draw the person smiling, seen from the side."""
    run = create_avatar(photo, folder, CreateSettings(seed=0))
    avatar = avatars.load(run.avatar)

    # Expressions are relative to how this person looks at rest.
    smiling = arkit_to_params(
        avatar.head, {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.4}, neutral=avatar.rest
    )
    smiling = replace(smiling, expression=smiling.expression.clamp(0, 1))
    camera = orbit(avatar.view, head_center(avatar.head, avatar.rest), torch.tensor(0.4))
    with torch.no_grad():
        rendering = avatar.render(smiling, camera, background=torch.ones(3))
    still = folder / "still.png"
    write_png(still, to_uint8(rendering.color))
    return still


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
