"""What GAGAvatar's tracker starts from: `base.pkl`, the answers of two networks before anything is optimised.

    key -> emica_results   shapecode 300, expcode 100, globalpose 3, jawpose 3        (EMICA, from the picture)
           vgg_results     shapecode 300, expcode 100, posecode 6, lmks_2d70 [70,2],  (VGG-heads' detector)
                           transform: rotation_6d 6, translation 3, scale 1
                           normalize: padding [2], scale
           bbox            4, in shares of the picture's side

The result of tracking is in `optim.pkl` (see `gagavatar_lmdb`). Known of `vgg_results` are names and sizes, not what
the six numbers of `posecode` are, in which frame `transform`, `padding` and `scale` are meant, or of which picture the
landmarks' pixels are; they are kept as they are.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from vultus.captures.gagavatar_records import EXPRESSIONS, SHAPES
from vultus.errors import VultusError
from vultus.files import atomic_path, read_pickle
from vultus.rotations import axis_angle_to_matrix

_FACING = (-1.0, 1.0, -1.0)
"""A head without rotation, in the axes of a camera that it looks into (+X left, +Y up, +Z forward)."""


@dataclass(frozen=True)
class Regressed:
    """EMICA's answer, float32: FLAME's coefficients, the head's rotation and the jaw's (axis-angle)."""

    shapecode: Float[ndarray, "300"]
    expcode: Float[ndarray, "100"]
    globalpose: Float[ndarray, "3"]
    jawpose: Float[ndarray, "3"]


@dataclass(frozen=True)
class Detected:
    """VGG-heads' answer, float32; see the module for what is not known of it. normalize_scale: `normalize`'s."""

    shapecode: Float[ndarray, "300"]
    expcode: Float[ndarray, "100"]
    posecode: Float[ndarray, "6"]
    rotation_6d: Float[ndarray, "6"]
    translation: Float[ndarray, "3"]
    scale: Float[ndarray, "1"]
    padding: Float[ndarray, "2"]
    normalize_scale: Float[ndarray, "1"]
    lmks_2d70: Float[ndarray, "70 2"]


@dataclass(frozen=True)
class Start:
    """One picture. bbox: left, top, right, bottom of the head in shares of the picture's side."""

    emica: Regressed
    vgg: Detected
    bbox: Float[ndarray, "4"]


_EMICA = {"shapecode": (SHAPES,), "expcode": (EXPRESSIONS,), "globalpose": (3,), "jawpose": (3,)}
_VGG = {"shapecode": (SHAPES,), "expcode": (EXPRESSIONS,), "posecode": (6,), "lmks_2d70": (70, 2)}
_TRANSFORM = {"rotation_6d": (6,), "translation": (3,), "scale": (1,)}
_NORMALIZE = {"padding": (2,), "scale": (1,)}


def read_starts(path: str | Path) -> dict[str, Start]:
    """The tracker's `base.pkl`, by the pictures' keys. Nothing in it is run.

    Raises:
        VultusError: not such a file, or a record that lacks something or is malformed; the message names both.
    """
    path = Path(path)
    content = read_pickle(path)
    if not isinstance(content, dict) or not content:
        raise VultusError(f"{path}: does not hold records by name")
    found = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, dict):
            raise VultusError(f"{path}: {str(key)[:60]!r} is not a record of a picture")
        where = f"{path}: {key!r}"
        emica, vgg = (_group(value, name, where) for name in ("emica_results", "vgg_results"))
        normalize = _arrays(_group(vgg, "normalize", where), _NORMALIZE, where)
        found[key] = Start(
            emica=Regressed(**_arrays(emica, _EMICA, where)),
            vgg=Detected(
                **_arrays(vgg, _VGG, where),
                **_arrays(_group(vgg, "transform", where), _TRANSFORM, where),
                padding=normalize["padding"],
                normalize_scale=normalize["scale"],
            ),
            bbox=_arrays(value, {"bbox": (4,)}, where)["bbox"],
        )
    return found


def write_starts(path: str | Path, starts: Mapping[str, Start]) -> None:
    """Write `base.pkl`. Raises VultusError: it cannot be written."""
    content = {
        key: {
            "emica_results": {name: getattr(start.emica, name) for name in _EMICA},
            "vgg_results": {
                **{name: getattr(start.vgg, name) for name in _VGG},
                "transform": {name: getattr(start.vgg, name) for name in _TRANSFORM},
                "normalize": {"padding": start.vgg.padding, "scale": start.vgg.normalize_scale},
            },
            "bbox": start.bbox,
        }
        for key, start in starts.items()
    }
    with atomic_path(path) as temporary:
        # Protocol 4 and plain arrays: any program with NumPy reads it.
        temporary.write_bytes(pickle.dumps(content, protocol=4))


def start_rotation(start: Start) -> Float[Tensor, "3 3"]:
    """The rotation that the tracker begins with, as in `transform_matrix`: row vectors, +X left, +Y up, +Z forward."""
    a = torch.from_numpy(np.array(start.emica.globalpose)).double()
    matrix = axis_angle_to_matrix(a * a.new_tensor([-1.0, 1.0, -1.0]))
    return torch.linalg.inv(matrix * a.new_tensor(_FACING)).float()


def _group(value: Mapping[Any, Any], name: str, where: str) -> Mapping[Any, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise VultusError(f"{where}: has no {name}")
    return found


def _arrays(group: Mapping[Any, Any], sizes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, ndarray]:
    """The group's arrays of these shapes, of which leading ones may be missing or too many."""
    arrays = {}
    for name, shape in sizes.items():
        value = group.get(name)
        if value is None:
            raise VultusError(f"{where}: has no {name}")
        array = np.asarray(value)
        wanted = int(np.prod(shape))
        if array.dtype.kind not in "fiu" or array.size != wanted or array.ndim > 4:
            raise VultusError(f"{where}: {name} has shape {array.shape}; {wanted} numbers are needed")
        array = array.astype(np.float32).reshape(shape)
        if not np.isfinite(array).all():
            raise VultusError(f"{where}: {name} holds numbers that are not finite")
        arrays[name] = array
    return arrays
