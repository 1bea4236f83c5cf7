"""Small real inputs: a photograph that ships with scikit-image, and a clip made from it by moving the camera."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data, transform


def astronaut_frames(count: int, size: int = 400) -> list[np.ndarray]:
    """The photograph seen by a camera that drifts and rolls a little; RGB uint8."""
    photo = data.astronaut()[:400, 30:430]
    frames = []
    for i in range(count):
        phase = 2 * np.pi * i / max(count, 2)
        moved = transform.warp(
            photo,
            transform.AffineTransform(
                rotation=0.05 * np.sin(phase), translation=(6 * np.sin(phase), 4 * np.cos(phase)), scale=1.0
            ),
            mode="edge",
        )
        frames.append((transform.resize(moved, (size, size), anti_aliasing=True) * 255).round().astype(np.uint8))
    return frames


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "astronaut.png"
    Image.fromarray(data.astronaut()).save(path)
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vultus.images.video import VideoWriter

    path = tmp_path_factory.mktemp("input") / "astronaut.mp4"
    with VideoWriter(path, fps=25) as writer:
        for frame in astronaut_frames(8):
            writer.write(frame)
    return path
