"""`SplatArrays`: activated splats as NumPy arrays, checked, between `Gaussians` and the bytes of a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.errors import VultusError
from vultus.splats.gaussians import Gaussians

MAX_BYTES = 4 << 30
"""Largest file, and largest unpacked content, that is read."""


@dataclass(frozen=True)
class SplatArrays:
    """N splats, float32: world positions (m), unit quaternions wxyz, standard deviations (m), opacities in [0, 1] and
    spherical-harmonics coefficients."""

    means: Float[np.ndarray, "N 3"]
    rotations: Float[np.ndarray, "N 4"]
    scales: Float[np.ndarray, "N 3"]
    opacities: Float[np.ndarray, "N"]
    sh: Float[np.ndarray, "N K 3"]

    def __len__(self) -> int:
        return len(self.means)

    @property
    def degree(self) -> int:
        return int(self.sh.shape[1] ** 0.5 + 0.5) - 1

    def ordered(self, order: Int[np.ndarray, "N"]) -> SplatArrays:
        return SplatArrays(
            self.means[order], self.rotations[order], self.scales[order], self.opacities[order], self.sh[order]
        )


def arrays_of(where: str, gaussians: Gaussians, degree: int) -> SplatArrays:
    """Splats as arrays: spherical harmonics up to `degree`, unit quaternions. `where` begins every message.

    Raises:
        VultusError: batched splats, features instead of spherical harmonics, no splats, numbers that are not finite,
            negative scales, opacities outside [0, 1] or quaternions of length zero.
    """
    if gaussians.sh is None:
        raise VultusError(f"{where}: the splats have features, which mean nothing to other programs")
    if gaussians.batch_shape != ():
        raise VultusError(f"{where}: the splats have batch dimensions; write one set of splats per file")
    if gaussians.count == 0:
        raise VultusError(f"{where}: there are no splats")

    def array(tensor: Tensor) -> np.ndarray:
        return tensor.detach().float().cpu().numpy()

    made = SplatArrays(
        array(gaussians.means),
        array(gaussians.rotations),
        array(gaussians.scales),
        array(gaussians.opacities),
        array(gaussians.sh[:, : (degree + 1) ** 2]),
    )
    _check(where, made)
    return _unit(where, made)


def gaussians_of(path: str | os.PathLike[str], arrays: SplatArrays) -> Gaussians:
    """Splats that were read from `path`. Raises VultusError for what `arrays_of` refuses, too."""
    if len(arrays) == 0:
        raise VultusError(f"{path}: holds no splats")
    _check(str(path), arrays)
    unit = _unit(str(path), arrays)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))

    return Gaussians(
        tensor(unit.means), tensor(unit.rotations), tensor(unit.scales), tensor(unit.opacities), sh=tensor(unit.sh)
    )


def file_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises VultusError if it is missing, unreadable or larger than `MAX_BYTES`."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise VultusError(f"{path}: {size} bytes is more than the limit of {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check(where: str, arrays: SplatArrays) -> None:
    named = {
        "position": arrays.means,
        "rotation": arrays.rotations,
        "scale": arrays.scales,
        "opacity": arrays.opacities[:, None],
        "colour": arrays.sh.reshape(len(arrays), -1),
    }
    for name, values in named.items():
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise VultusError(f"{where}: splat {int(bad.argmax())} has a {name} that is not finite")
    negative = (arrays.scales < 0).any(axis=1)
    if negative.any():
        raise VultusError(f"{where}: splat {int(negative.argmax())} has a negative scale")
    outside = (arrays.opacities < 0) | (arrays.opacities > 1)
    if outside.any():
        index = int(outside.argmax())
        raise VultusError(
            f"{where}: splat {index} has the opacity {arrays.opacities[index]:.4g}, which is not in 0 to 1"
        )


def _unit(where: str, arrays: SplatArrays) -> SplatArrays:
    wide = arrays.rotations.astype(np.float64)
    norm = np.linalg.norm(wide, axis=1, keepdims=True)
    if (norm == 0).any():
        raise VultusError(f"{where}: splat {int((norm == 0).argmax())} has a rotation of length zero")
    rotations = (wide / norm).astype(np.float32)
    return SplatArrays(arrays.means, rotations, arrays.scales, arrays.opacities, arrays.sh)
