""".splat files: 32 bytes for each splat and nothing else.

Position and scale (linear) as 3 + 3 float32, colour and opacity as 4 bytes, rotation wxyz as 4 bytes. Of the colour
only what is the same from every side is stored. Splats come in order of size times opacity, so that the beginning of a
file that is still loading already shows most of the scene.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int

from vultus.errors import VultusError
from vultus.splats.formats.arrays import SplatArrays
from vultus.splats.sh import SH_C0

HIGHEST_DEGREE = 0
_RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("rotation", "u1", 4)])


def encode(arrays: SplatArrays) -> tuple[bytes, Int[np.ndarray, "N"]]:
    """The file's bytes and which splat each record is."""
    volume = arrays.scales.astype(np.float64).prod(axis=1)
    order = np.argsort(-volume * arrays.opacities, kind="stable")
    arrays = arrays.ordered(order)
    records = np.zeros(len(arrays), _RECORD)
    records["mean"] = arrays.means
    records["scale"] = arrays.scales
    rgb = 0.5 + SH_C0 * arrays.sh[:, 0].astype(np.float64)
    records["color"] = np.clip(np.rint(255 * np.column_stack([rgb, arrays.opacities])), 0, 255)
    # Truncated: readers that decode 2 b / 255 - 1, as we do, find the middle of the interval a byte stands for.
    records["rotation"] = np.clip(128 * arrays.rotations.astype(np.float64) + 128, 0, 255)
    return records.tobytes(), order


def decode(path: Path, content: bytes) -> SplatArrays:
    """Read a file's bytes. Raises VultusError if they are no whole number of records."""
    if not content or len(content) % _RECORD.itemsize:
        raise VultusError(
            f"{path}: {len(content)} bytes are no whole number of 32-byte records; the file was cut off or is no .splat"
        )
    records = np.frombuffer(content, _RECORD)
    shades = records["color"].astype(np.float64) / 255
    return SplatArrays(
        means=records["mean"],
        rotations=(2 * records["rotation"].astype(np.float64) / 255 - 1).astype(np.float32),
        scales=records["scale"],
        opacities=shades[:, 3].astype(np.float32),
        sh=((shades[:, None, :3] - 0.5) / SH_C0).astype(np.float32),
    )
