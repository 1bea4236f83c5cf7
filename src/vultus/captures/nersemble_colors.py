"""The colour corrections of NeRSemble: a matrix in version 1, a polynomial in linear light in version 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.captures.fields import matrix
from vultus.captures.pictures import Picture, Pixels
from vultus.errors import VultusError
from vultus.files import read_json, read_npy
from vultus.images import to_float, to_uint8


@dataclass(frozen=True)
class Corrected:
    """A picture with the colours of a calibrated camera."""

    source: Picture
    correction: Callable[[Tensor], Tensor]

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def place(self) -> str:
        return self.source.place

    def read(self) -> Pixels:
        color, alpha = self.source.read()
        return to_uint8(self.correction(to_float(color)).clamp(0, 1)), alpha

    def size(self) -> tuple[int, int]:
        return self.source.size()


def affine(path: Path) -> Callable[[Tensor], Tensor] | None:
    """Version 1: a 3x4 matrix applied to sRGB values; None where there is none. Raises VultusError: it is malformed."""
    if not path.is_file():
        return None
    array = read_npy(path)
    A = matrix(array if array.dtype.kind in "iuf" else None, str(path), "the correction", 3, 4).float()
    return lambda color: color @ A[:, :3] + A[:, 3]


def polynomial(path: Path, serial: str) -> Callable[[Tensor], Tensor] | None:
    """Version 2: a 3xK matrix applied to polynomial terms of linear RGB; None where the camera has none.

    Raises:
        VultusError: malformed, or of a number of terms that is not known.
    """
    if not path.is_file():
        return None
    content: Any = read_json(path)
    if not isinstance(content, dict):
        raise VultusError(f"{path}: is not a colour calibration")
    if serial not in content:
        return None
    rows = content[serial]
    count = len(rows[0]) if isinstance(rows, list) and rows and isinstance(rows[0], list) else 0
    where = f"{path}: camera {serial}"
    if count not in _TERMS:
        raise VultusError(f"{where}: a correction of {count} terms is not known (known: {list(_TERMS)})")
    A = matrix(rows, where, "the correction", 3, count).float()
    return lambda color: encode_srgb(polynomial_terms(decode_srgb(color), count) @ A.T)


# Products of R, G and B by their exponents, in the order of Cheung et al. 2004 as the library "colour", with which the
# published calibrations were made, has them.
_LINEAR = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
_PAIRS = [(1, 1, 0), (1, 0, 1), (0, 1, 1)]
_SQUARES = [(2, 0, 0), (0, 2, 0), (0, 0, 2)]
_CUBES = [(3, 0, 0), (0, 3, 0), (0, 0, 3)]
_FOURTHS = [(4, 0, 0), (0, 4, 0), (0, 0, 4)]
_ALL, _ONE = (1, 1, 1), (0, 0, 0)
_CUBIC_NEXT = [(2, 1, 0), (0, 2, 1), (1, 0, 2)]
_CUBIC_BEFORE = [(2, 0, 1), (1, 2, 0), (0, 1, 2)]
_QUARTIC = [(2, 1, 1), (1, 2, 1), (1, 1, 2)]
_SQUARED_PAIRS = [(2, 2, 0), (2, 0, 2), (0, 2, 2)]
_CUBED_PAIRS = [(3, 1, 0), (3, 0, 1), (1, 3, 0), (0, 3, 1), (1, 0, 3), (0, 1, 3)]
_SECOND = [*_LINEAR, *_PAIRS, *_SQUARES]
_THIRD = [*_SECOND, _ALL, *_CUBIC_NEXT, *_CUBIC_BEFORE, *_CUBES]
_TERMS = {
    3: _LINEAR,
    4: [*_LINEAR, _ONE],
    5: [*_LINEAR, _ALL, _ONE],
    7: [*_LINEAR, *_PAIRS, _ONE],
    8: [*_LINEAR, *_PAIRS, _ALL, _ONE],
    10: [*_SECOND, _ONE],
    11: [*_SECOND, _ALL, _ONE],
    14: [*_SECOND, _ALL, *_CUBES, _ONE],
    16: [*_SECOND, _ALL, *_CUBIC_NEXT, *_CUBES],
    17: [*_SECOND, _ALL, *_CUBIC_NEXT, *_CUBES, _ONE],
    19: _THIRD,
    20: [*_THIRD, _ONE],
    22: [*_THIRD, *_QUARTIC],
    35: [*_THIRD, *_CUBED_PAIRS, *_QUARTIC, *_SQUARED_PAIRS, *_FOURTHS, _ONE],
}


def polynomial_terms(color: Float[Tensor, "*B 3"], count: int) -> Float[Tensor, "*B count"]:
    """The first terms of a polynomial in linear RGB by which cameras are characterised (Cheung et al. 2004)."""
    powers = torch.tensor(_TERMS[count], dtype=color.dtype)
    return (color[..., None, :] ** powers).prod(-1)


def decode_srgb(color: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Linear light of sRGB values (IEC 61966-2-1)."""
    return torch.where(color <= 0.04045, color / 12.92, ((color.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def encode_srgb(light: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """sRGB values of linear light, clamped to what can be shown."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-9) ** (1 / 2.4) - 0.055)
