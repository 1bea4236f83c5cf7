"""Does an avatar hold together when it is turned and makes faces?

    python benchmarks/integrity.py AVATAR [AVATAR ...]

For yaw 0, ±30, ±45 degrees and the contact sheet's poses (neutral and five strong expressions): mean alpha inside the
projected skin, eroded by 4 px, and the longest splat (four standard deviations) as a share of the head's height.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vultus import avatars
from vultus.evaluation.integrity import measure_integrity
from vultus.exports.sheet import SHEET_EXPRESSIONS, SHEET_YAWS, sheet_cameras, sheet_poses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatars", type=Path, nargs="+")
    for folder in parser.parse_args().avatars:
        avatar = avatars.load(folder)
        motion, cameras = sheet_poses(avatar), sheet_cameras(avatar, avatar.view)
        print(folder)
        worst = longest = None
        for index, yaw in enumerate(SHEET_YAWS):
            found = [measure_integrity(avatar, motion.params[i], cameras[index]) for i in range(len(motion))]
            names = ("neutral", *SHEET_EXPRESSIONS)
            row = "  ".join(f"{name} {item.skin_alpha:.4f}" for name, item in zip(names, found, strict=True))
            print(f"  yaw {yaw:+3d}  {row}")
            worst = min([item.skin_alpha for item in found] + ([] if worst is None else [worst]))
            longest = max([item.longest_splat for item in found] + ([] if longest is None else [longest]))
        print(f"  worst skin alpha {worst:.4f}, longest splat {100 * longest:.1f} % of the head's height")


if __name__ == "__main__":
    main()
