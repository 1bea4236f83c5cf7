"""GNM Head as a head model.

Its formula is that of `SkinnedHead` but for two things: joints move with identity alone, and pose correctives know the
turn of every published joint. A joint `root` is put above the published `neck`, at the same place and without vertices
of its own, so that the whole head can be turned; at rest it changes nothing. There is no jaw joint: the jaw is part of
the expression components `lower_face_region_...`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vultus.errors import VultusError
from vultus.files import read_npz
from vultus.heads.gnm.landmarks import read_sparse_landmarks
from vultus.heads.gnm.regions import gnm_regions
from vultus.heads.model import LandmarkSet, SkinnedHead

MODEL_FILE, LANDMARK_FILE = "gnm_head.npz", "head_sparse_68.txt"
NAME = "gnm_head"
LICENSE = "Apache-2.0, Copyright 2026 Google LLC"
_MAX_BYTES = 1 << 30
_SHAPES = {
    "template_vertex_positions": "V3",
    "template_joint_positions": "J3",
    "vertex_identity_basis": "IV3",
    "joint_identity_basis": "IJ3",
    "expression_basis": "EV3",
    "skinning_weights": "JV",
}
_OPTIONAL = {"pose_correctives_regressor": "PQ", "joint_regressor": "JV", "vertex_groups": "GV", "triangle_uvs": "T32"}


def load_gnm(path: str | Path) -> SkinnedHead:
    """GNM Head from `gnm_head.npz` or the folder that holds it; 68 landmarks from `head_sparse_68.txt` beside it.

    Units and axes are ours already. Coefficients are standard deviations. Fields that the published file has beyond
    the known ones are ignored.

    Raises:
        VultusError: not that model, or damaged.
    """
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    arrays = read_npz(file, max_bytes=_MAX_BYTES)
    model = _checked(file, arrays)
    triangles = _indices(file, arrays, "triangles", len(model["template_vertex_positions"]))
    groups = {}
    if "vertex_groups" in arrays:
        names = _names(file, arrays, "vertex_group_names", len(model["vertex_groups"]))
        groups = {name: model["vertex_groups"][row] for row, name in enumerate(names)}
    uvs, uv_faces = _texture(file, model, triangles)
    landmark_sets: dict[str, LandmarkSet] = {}
    for place in (file.parent, file.parent / ".." / ".." / "landmarks"):
        if (marks := place / LANDMARK_FILE).is_file() and not landmark_sets:
            landmark_sets["ibug68"] = read_sparse_landmarks(marks, model["template_vertex_positions"], triangles)
    return gnm_model(
        model,
        parents=_parents(file, arrays, len(model["template_joint_positions"])),
        joint_names=_names(file, arrays, "joint_names", len(model["template_joint_positions"])),
        identity_names=_names(file, arrays, "identity_names", len(model["vertex_identity_basis"])),
        expression_names=_names(file, arrays, "expression_names", len(model["expression_basis"])),
        faces=triangles,
        uvs=uvs,
        uv_faces=uv_faces,
        regions=gnm_regions(groups),
        landmark_sets=landmark_sets,
    )


def gnm_model(
    arrays: Mapping[str, Tensor],
    *,
    parents: tuple[int, ...],
    joint_names: tuple[str, ...],
    identity_names: tuple[str, ...],
    expression_names: tuple[str, ...],
    faces: Tensor,
    uvs: Tensor | None = None,
    uv_faces: Tensor | None = None,
    regions: Mapping[str, Tensor] | None = None,
    landmark_sets: Mapping[str, LandmarkSet] | None = None,
) -> SkinnedHead:
    """The head model of arrays in the layout of `gnm_head.npz`; the joint `root` comes before the given ones."""
    template, joints = arrays["template_vertex_positions"], arrays["template_joint_positions"]
    count, joint_count = len(template), len(joints)
    correctives = arrays.get("pose_correctives_regressor")
    if correctives is None:
        correctives = template.new_zeros(9 * joint_count, 3 * count)
    regressor = arrays.get("joint_regressor")
    if regressor is None:
        regressor = template.new_zeros(joint_count, count)
    identity, expression = arrays["vertex_identity_basis"], arrays["expression_basis"]
    joint_basis = arrays["joint_identity_basis"].permute(1, 2, 0)
    joint_basis = torch.cat([joint_basis, joint_basis.new_zeros(joint_count, 3, len(expression))], -1)
    weights = arrays["skinning_weights"].T
    return SkinnedHead(
        name=NAME,
        license=LICENSE,
        v_template=template,
        faces=faces,
        identity_basis=identity.permute(1, 2, 0),
        expression_basis=expression.permute(1, 2, 0),
        pose_basis=correctives.T.unflatten(0, (count, 3)),
        joint_regressor=torch.cat([regressor[:1], regressor]),
        joint_template=torch.cat([joints[:1], joints]),
        joint_basis=torch.cat([joint_basis[:1], joint_basis]),
        weights=torch.cat([weights.new_zeros(count, 1), weights], 1),
        parents=(-1, 0, *(parent + 1 for parent in parents[1:])),
        joint_names=("root", *joint_names),
        identity_names=identity_names,
        expression_names=expression_names,
        uvs=uvs,
        uv_faces=uv_faces,
        regions=regions,
        landmark_sets=landmark_sets,
    )


def _checked(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    sizes = {"3": 3, "2": 2}
    model: dict[str, Tensor] = {}
    for key, shape in (_SHAPES | _OPTIONAL).items():
        value = arrays.get(key)
        if value is None and key in _OPTIONAL:
            continue
        if value is None or value.dtype.kind != "f" or value.ndim != len(shape):
            raise VultusError(f"{path}: has no proper {key!r}; it is not GNM Head or damaged")
        for letter, size in zip(shape, value.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise VultusError(f"{path}: {key} has the shape {value.shape}, which does not fit the other arrays")
        if not np.isfinite(value).all() or np.abs(value).max(initial=0) > 1e4:
            raise VultusError(f"{path}: {key} holds values that are not finite or absurdly large")
        model[key] = torch.from_numpy(value.astype(np.float32))
    if "pose_correctives_regressor" in model and (sizes["P"], sizes["Q"]) != (9 * sizes["J"], 3 * sizes["V"]):
        raise VultusError(f"{path}: its pose correctives do not fit its joints and vertices")
    if bool(((model["skinning_weights"].sum(0) - 1).abs() > 1e-3).any()):
        raise VultusError(f"{path}: its skinning weights do not sum to 1")
    return model


def _indices(path: Path, arrays: Mapping[str, np.ndarray], key: str, limit: int) -> Tensor:
    value = arrays.get(key)
    if value is None or value.dtype.kind not in "iu" or value.ndim != 2 or value.shape[1] != 3 or not value.size:
        raise VultusError(f"{path}: has no proper {key!r}; it is not GNM Head or damaged")
    if value.min() < 0 or value.max() >= limit:
        raise VultusError(f"{path}: {key} holds indices outside 0…{limit - 1}")
    return torch.from_numpy(value.astype(np.int64))


def _names(path: Path, arrays: Mapping[str, np.ndarray], key: str, count: int) -> tuple[str, ...]:
    value = arrays.get(key)
    if value is None or value.shape != (count,) or value.dtype.kind != "U":
        raise VultusError(f"{path}: {key} are not {count} names")
    return tuple(map(str, value))


def _parents(path: Path, arrays: Mapping[str, np.ndarray], count: int) -> tuple[int, ...]:
    value = arrays.get("joint_parent_indices")
    if value is None or value.shape != (count,) or value.dtype.kind not in "iu":
        raise VultusError(f"{path}: has no proper 'joint_parent_indices'")
    # The root's own entry is -1 or 0 and means nothing.
    if (value[1:] < 0).any() or (value[1:] >= np.arange(1, count)).any():
        raise VultusError(f"{path}: its joints are no tree")
    return (-1, *map(int, value[1:]))


def _texture(path: Path, model: Mapping[str, Tensor], triangles: Tensor) -> tuple[Tensor | None, Tensor | None]:
    corners = model.get("triangle_uvs")
    if corners is None:
        return None, None
    if len(corners) != len(triangles):
        raise VultusError(f"{path}: has {len(triangles)} triangles and texture coordinates for {len(corners)}")
    uvs, places = np.unique(corners.flatten(0, 1).numpy(), axis=0, return_inverse=True)
    return torch.from_numpy(uvs), torch.from_numpy(places.reshape(-1, 3))
