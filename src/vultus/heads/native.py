"""Head models in our own file: plain arrays, read without opening the original pickle again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads.contour import ROWS, ContourTable
from vultus.heads.model import LandmarkSet, SkinnedHead

_FORMAT, _VERSION = "vultus-head", 1
_FLOATS = {
    "v_template": "V3",
    "identity_basis": "V3S",
    "expression_basis": "V3E",
    "pose_basis": "V3P",
    "joint_regressor": "JV",
    "weights": "VJ",
    "uvs": "T2",
    "correctives": "V3C",
}
_OWN_JOINTS = {"joint_template": "J3", "joint_basis": "J3B"}
_MAX_ABSOLUTE = 1e6


def write_head(path: str | Path, head: SkinnedHead, *, source: Mapping[str, str] | None = None) -> None:
    """Write a head model to one .npz, atomically. `source` (file name, SHA-256) is kept as remarks.

    Raises VultusError if the file cannot be written.
    """
    arrays = {key: getattr(head, key) for key in (*_FLOATS, "faces", "uv_faces", "corrective_drivers")}
    if head.joint_template is not None and head.joint_basis is not None:
        arrays |= {"joint_template": head.joint_template, "joint_basis": head.joint_basis}
    arrays |= {f"region/{name}": indices for name, indices in head.regions.items()}
    arrays |= {f"attribute/{name}": values for name, values in head.attributes.items()}
    for name, landmarks in head.landmark_sets.items():
        arrays |= {f"landmarks/{name}/{key}": value for key, value in vars(landmarks).items()}
    if head.contour is not None:
        arrays |= {f"contour/{key}": value for key, value in vars(head.contour).items()}
    words = {
        "format": np.array(_FORMAT),
        "name": np.array(head.name),
        "license": np.array(head.license),
        "fingerprint": np.array(head.fingerprint),
        "joint_names": np.array(head.joint_names, dtype=np.str_),
        "identity_names": np.array(head.identity_names, dtype=np.str_),
        "expression_names": np.array(head.expression_names, dtype=np.str_),
        **{f"source/{key}": np.array(value) for key, value in (source or {}).items()},
    }
    numbers = {key: _stored(value) for key, value in arrays.items()}
    write_npz(path, **numbers, **words, version=np.array(_VERSION), parents=np.array(head.parents, np.int32))


def read_head(path: str | Path) -> SkinnedHead:
    """Read what `write_head` wrote.

    Raises:
        VultusError: not such a file, arrays that do not fit together, indices out of range, values that are not
            finite, or a fingerprint that is not that of the arrays.
    """
    arrays = read_npz(path)
    if str(arrays.get("format")) != _FORMAT:
        raise VultusError(f"{path}: is not a head model of Vultus (.npz with format={_FORMAT})")
    if int(_find(path, arrays, "version", "iu", 0)) > _VERSION:
        raise VultusError(f"{path}: was written by a newer version of Vultus; update to read it")
    names = {key: _names(path, arrays, key) for key in ("joint_names", "identity_names", "expression_names")}
    sizes = {"3": 3, "2": 2, "J": len(names["joint_names"])}
    sizes |= {"S": len(names["identity_names"]), "E": len(names["expression_names"])}
    sizes["P"] = 9 * (sizes["J"] - 1)
    floats = {key: _floats(path, arrays, key, shape, sizes) for key, shape in _FLOATS.items()}
    if "joint_template" in arrays:
        sizes["B"] = sizes["S"] + sizes["E"]
        floats |= {key: _floats(path, arrays, key, shape, sizes) for key, shape in _OWN_JOINTS.items()}
    faces = _indices(path, arrays, "faces", 2, sizes["V"])
    uv_faces = _indices(path, arrays, "uv_faces", 2, sizes["T"])
    parents = _find(path, arrays, "parents", "iu", 1)
    is_tree = len(parents) == sizes["J"] and parents[0] == -1 and (parents[1:] < np.arange(1, sizes["J"])).all()
    if not is_tree or (parents[1:] < 0).any():
        raise VultusError(f"{path}: its joints are no tree")
    if faces.shape[1] != 3 or uv_faces.shape != faces.shape:
        raise VultusError(f"{path}: its faces are no triangles")
    if bool(((floats["weights"].sum(-1) - 1).abs() > 1e-3).any()):
        raise VultusError(f"{path}: its skinning weights do not sum to 1")
    head = SkinnedHead(
        name=_text(path, arrays, "name"),
        license=_text(path, arrays, "license"),
        **floats,
        joint_names=names["joint_names"],
        identity_names=names["identity_names"],
        expression_names=names["expression_names"],
        faces=faces,
        uv_faces=uv_faces,
        parents=parents.tolist(),
        corrective_drivers=_indices(path, arrays, "corrective_drivers", 1, sizes["E"]),
        regions={key: _indices(path, arrays, f"region/{key}", 1, sizes["V"]) for key in _under(arrays, "region")},
        landmark_sets={key: _landmarks(path, arrays, key, len(faces)) for key in _under(arrays, "landmarks")},
        attributes={key: torch.from_numpy(arrays[f"attribute/{key}"]) for key in _under(arrays, "attribute")},
        contour=_contour(path, arrays, len(faces)) if "contour/faces" in arrays else None,
    )
    if head.correctives.shape[-1] != head.corrective_drivers.shape[0]:
        raise VultusError(
            f"{path}: {head.correctives.shape[-1]} correctives have {head.corrective_drivers.shape[0]} drivers"
        )
    if head.fingerprint != _text(path, arrays, "fingerprint"):
        raise VultusError(
            f"{path}: its fingerprint is not that of its arrays; the file is damaged. Convert the model again"
        )
    return head


def _stored(values: Tensor) -> np.ndarray:
    array = values.detach().cpu().numpy()
    narrow = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}
    return array.astype(narrow.get(array.dtype, array.dtype))


def _under(arrays: Mapping[str, np.ndarray], group: str) -> list[str]:
    return sorted({key.split("/")[1] for key in arrays if key.startswith(group + "/")})


def _find(path: str | Path, arrays: Mapping[str, np.ndarray], key: str, kinds: str, dimensions: int) -> np.ndarray:
    value = arrays.get(key)
    if value is None or value.dtype.kind not in kinds or value.ndim != dimensions:
        raise VultusError(f"{path}: has no proper {key!r}; it is damaged or no head model")
    return value


def _floats(path: str | Path, arrays: Mapping[str, np.ndarray], key: str, shape: str, sizes: dict[str, int]) -> Tensor:
    value = _find(path, arrays, key, "f", len(shape))
    for letter, size in zip(shape, value.shape, strict=True):
        if sizes.setdefault(letter, size) != size:
            raise VultusError(f"{path}: {key} has the shape {value.shape}, which does not fit the other arrays")
    if not np.isfinite(value).all() or np.abs(value).max(initial=0) > _MAX_ABSOLUTE:
        raise VultusError(f"{path}: {key} holds values that are not finite or absurdly large")
    return torch.from_numpy(value.astype(np.float32))


def _indices(path: str | Path, arrays: Mapping[str, np.ndarray], key: str, dimensions: int, limit: int) -> Tensor:
    value = _find(path, arrays, key, "iu", dimensions)
    if value.size and (value.min() < 0 or value.max() >= limit):
        raise VultusError(f"{path}: {key} holds indices outside 0…{limit - 1}")
    return torch.from_numpy(value.astype(np.int64))


def _names(path: str | Path, arrays: Mapping[str, np.ndarray], key: str) -> tuple[str, ...]:
    value = arrays.get(key)
    if value is None or value.ndim != 1 or (value.size and value.dtype.kind != "U"):
        raise VultusError(f"{path}: has no proper {key!r}; it is damaged or no head model")
    return tuple(str(item) for item in value)


def _text(path: str | Path, arrays: Mapping[str, np.ndarray], key: str) -> str:
    return str(_find(path, arrays, key, "U", 0))


def _landmarks(path: str | Path, arrays: Mapping[str, np.ndarray], name: str, faces: int) -> LandmarkSet:
    prefix = f"landmarks/{name}/"
    landmarks = LandmarkSet(
        ids=_indices(path, arrays, prefix + "ids", 1, 1 << 20),
        faces=_indices(path, arrays, prefix + "faces", 1, faces),
        barycentric=_floats(path, arrays, prefix + "barycentric", "L3", {"3": 3}),
    )
    if not landmarks.ids.shape == landmarks.faces.shape == landmarks.barycentric.shape[:1]:
        raise VultusError(f"{path}: the arrays of landmark set {name!r} do not fit together")
    return landmarks


def _contour(path: str | Path, arrays: Mapping[str, np.ndarray], faces: int) -> ContourTable:
    sizes = {"R": ROWS, "W": 17, "3": 3}
    table = ContourTable(
        faces=_indices(path, arrays, "contour/faces", 2, faces),
        barycentric=_floats(path, arrays, "contour/barycentric", "RW3", sizes),
    )
    if table.faces.shape != table.barycentric.shape[:2]:
        raise VultusError(f"{path}: the arrays of the contour do not fit together")
    return table
