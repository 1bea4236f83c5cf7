"""Render a head model with several expressions into one PNG. Needs neither a photo nor a trained avatar.

python examples/02_head_expressions.py expressions.png
python examples/02_head_expressions.py expressions.png path/to/flame2023.pkl
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vultus.animation.paths import head_center
from vultus.cameras import Camera, look_at
from vultus.exports.shading import shaded_mesh
from vultus.heads import load_head
from vultus.heads.arkit import arkit_to_params, unsupported
from vultus.images import to_uint8, write_png

EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
    "open": {"jawOpen": 1.0},
    "wink": {"eyeBlinkLeft": 1.0, "mouthSmileLeft": 0.6},
    "kiss": {"mouthPucker": 1.0},
}


def main(picture: Path, model: str = "builtin", size: int = 384) -> Path:
    """Draw one head per expression, side by side, each `size` pixels wide."""
    head = load_head(model)
    missing = set(unsupported(head))
    center = head_center(head, head.neutral())
    eye = center + torch.tensor([0.15, 0.02, 0.9])  # metres: a little to the subject's left, in front of the face
    camera = Camera.from_focal(2.4 * size, size, size, look_at(eye, center))

    # Identity coefficients are standard deviations: this is not the mean face, but one that could exist.
    generator = torch.Generator().manual_seed(3)
    someone = replace(head.neutral(), identity=0.6 * torch.randn(len(head.identity_names), generator=generator))

    panels = []
    for name, weights in EXPRESSIONS.items():
        if missing & set(weights):
            print(f"{head.name} cannot do all of {name}: it has no {', '.join(sorted(missing & set(weights)))}")
        params = arkit_to_params(head, weights, neutral=someone)
        shade, coverage = shaded_mesh(head.pose(params).vertices, head.faces, camera)
        panels.append(to_uint8(shade * coverage + (1 - coverage)))  # over white
    write_png(picture, np.concatenate(panels, axis=1))
    return picture


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "builtin"))
