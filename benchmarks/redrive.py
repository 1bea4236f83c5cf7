"""Drive an avatar by a clip, track the video that was made, and compare the two motions.

    python benchmarks/redrive.py AVATAR CLIP -o FOLDER

Correlations (Pearson, over frames valid in both) of yaw, jaw opening, blink (mean of both eyes) and gaze (mean of both
eyes' yaw) between the driver and what the same tracker finds in the rendered video. Written to FOLDER/redrive.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from vultus import avatars
from vultus.animation import load_driver
from vultus.cli.terminal import progress_bars
from vultus.exports.video import animate
from vultus.files import write_json
from vultus.heads.model import HeadModel
from vultus.motion import Motion
from vultus.rotations import axis_angle_to_matrix


def curves(motion: Motion, head: HeadModel) -> dict[str, torch.Tensor]:
    """Yaw of the skull, jaw opening and gaze (radians) and blink (component weight) over time."""
    params = motion.params
    skull = axis_angle_to_matrix(params.joint("root")) @ axis_angle_to_matrix(params.joint("neck"))
    blinks = [head.expression_names.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]
    return {
        "yaw": torch.atan2(skull[:, 0, 2], skull[:, 2, 2]),
        "jaw": params.joint("jaw")[:, 0],
        "blink": params.expression[:, blinks].mean(-1),
        "gaze": (params.joint("left_eye")[:, 1] + params.joint("right_eye")[:, 1]) / 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    avatar = avatars.load(options.avatar)
    video = options.output / "driven.mp4"
    with progress_bars() as progress:
        driver = load_driver(options.clip, avatar.head, cache=options.output / "cache", progress=progress)
        if not video.exists():
            animate(avatar, driver, video, progress=progress)
        found = load_driver(video, avatar.head, cache=options.output / "cache", progress=progress)
    both = driver.motion.valid & found.motion.valid
    asked, got = curves(driver.motion, avatar.head), curves(found.motion, avatar.head)
    record = {
        "frames": int(both.sum()),
        "correlation": {
            name: float(torch.corrcoef(torch.stack([asked[name][both], got[name][both]]))[0, 1]) for name in asked
        },
    }
    write_json(options.output / "redrive.json", record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
