"""`BFM09_model_info.mat` as a head model: a face without joints, whose only motion is that of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vultus.errors import VultusError
from vultus.heads.bfm.matlab import read_matlab
from vultus.heads.model import SkinnedHead
from vultus.heads.vertex_landmarks import vertex_landmarks

MODEL_FILE = "BFM09_model_info.mat"
NAME = "bfm_2009"
LICENSE = "Basel Face Model 2009 licence (non-commercial, by signed agreement; not to be redistributed)"
_METRES = 0.1
"""The file's unit is the decimetre."""
_MAX_VERTICES, _MAX_COMPONENTS = 200_000, 400


def load_bfm(path: str | Path) -> SkinnedHead:
    """The Basel Face Model in its 80 + 64 component cut-out, from `BFM09_model_info.mat` or its folder.

    The centroid of the mean face is the origin, about which the joint `root` turns everything. Coefficients are
    standard deviations. A published fit with scale s and centred vertices has the scale 10 s here.

    Raises:
        VultusError: not that file, or damaged.
    """
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    arrays = read_matlab(file)
    mean = _floats(file, arrays, "meanshape").reshape(-1)
    if mean.numel() % 3 or not 0 < mean.numel() <= 3 * _MAX_VERTICES:
        raise VultusError(f"{file}: meanshape holds {mean.numel()} numbers, not three per vertex")
    count = mean.numel() // 3
    template = mean.reshape(count, 3)
    identity, expression = (_basis(file, arrays, key, count) for key in ("idBase", "exBase"))
    faces = _indices(file, arrays, "tri", count)
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise VultusError(f"{file}: its faces have the shape {tuple(faces.shape)}; they are no triangles")
    marks = _indices(file, arrays, "keypoints", count).flatten()
    if len(marks) != 68:
        raise VultusError(f"{file}: has {len(marks)} keypoints instead of 68")
    regions = {"face": torch.arange(count)}
    if (mask := arrays.get("skinmask")) is not None and mask.size == count:
        regions["skin"] = torch.from_numpy(np.flatnonzero(mask.reshape(-1) > 0))
    return SkinnedHead(
        name=NAME,
        license=LICENSE,
        v_template=(template - template.mean(0)) * _METRES,
        faces=faces,
        identity_basis=identity * _METRES,
        expression_basis=expression * _METRES,
        pose_basis=template.new_zeros(count, 3, 0),
        joint_regressor=template.new_full((1, count), 1 / count),
        joint_template=template.new_zeros(1, 3),
        joint_basis=template.new_zeros(1, 3, identity.shape[-1] + expression.shape[-1]),
        weights=template.new_ones(count, 1),
        parents=(-1,),
        joint_names=("root",),
        regions=regions,
        landmark_sets={"ibug68": vertex_landmarks(faces, marks.tolist(), range(68))},
    )


def _floats(path: Path, arrays: Mapping[str, np.ndarray], key: str) -> Tensor:
    value = arrays.get(key)
    if value is None or value.dtype.kind != "f":
        raise VultusError(f"{path}: has no array {key!r}; it is not {MODEL_FILE}")
    if not np.isfinite(value).all() or np.abs(value).max(initial=0) > 1e3:
        raise VultusError(f"{path}: {key} holds values that are not finite or absurdly large")
    return torch.from_numpy(value.astype(np.float32, order="C"))


def _basis(path: Path, arrays: Mapping[str, np.ndarray], key: str, count: int) -> Tensor:
    value = _floats(path, arrays, key)
    if value.ndim != 2 or len(value) != 3 * count or not 0 < value.shape[1] <= _MAX_COMPONENTS:
        raise VultusError(f"{path}: {key} has the shape {tuple(value.shape)}, which does not fit {count} vertices")
    return value.reshape(count, 3, -1)


def _indices(path: Path, arrays: Mapping[str, np.ndarray], key: str, count: int) -> Tensor:
    """Zero-based; the file counts from one."""
    value = arrays.get(key)
    if value is None or value.size == 0 or (value != np.round(value)).any():
        raise VultusError(f"{path}: has no indices {key!r}; it is not {MODEL_FILE}")
    if value.min() < 1 or value.max() > count:
        raise VultusError(f"{path}: {key} holds indices outside 1…{count}")
    return torch.from_numpy(value.astype(np.int64, order="C")) - 1
