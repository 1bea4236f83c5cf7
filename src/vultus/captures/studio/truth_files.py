"""Per-picture truth on disk: `labels/*.png` and `geometry/*.npz`, named like the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from vultus.captures.studio.rendering import Truth
from vultus.files import write_npz
from vultus.images import write_png

Amount = Literal["motion", "labels", "all"]


def _paths(folder: Path, timestep: int, camera: int, amount: Amount) -> list[Path]:
    name = f"{timestep:05d}_{camera:02d}"
    paths = [folder / "labels" / f"{name}.png", folder / "geometry" / f"{name}.npz"]
    return paths[: ("motion", "labels", "all").index(amount)]


def has_truth(folder: Path, timestep: int, camera: int, amount: Amount) -> bool:
    """Whether what `write_truth` writes is there."""
    return all(path.is_file() for path in _paths(folder, timestep, camera, amount))


def write_truth(folder: Path, timestep: int, camera: int, truth: Truth, amount: Amount) -> None:
    """Write label images (`labels`) and, with `all`, depth, normals and UV (float16 but depth, which is float32)."""
    paths = _paths(folder, timestep, camera, amount)
    if len(paths) > 0:
        write_png(paths[0], truth.labels.to(torch.uint8).numpy())
    if len(paths) > 1:
        write_npz(
            paths[1],
            depth=truth.depth.numpy(),
            normals=truth.normals.numpy().astype(np.float16),
            uv=truth.uv.numpy().astype(np.float32),
        )
