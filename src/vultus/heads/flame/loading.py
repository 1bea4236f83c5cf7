"""Loading FLAME: the model pickle and whatever companion files lie beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vultus.errors import VultusError
from vultus.files import read_pickle
from vultus.heads.contour import ContourTable
from vultus.heads.flame.companions import (
    read_dynamic_embedding,
    read_eyelids,
    read_landmark_embedding,
    read_masks,
    read_mediapipe_embedding,
    read_static_embedding,
    read_template_obj,
)
from vultus.heads.flame.regions import LIP_OUTSIDE_RING_LOWER, LIP_OUTSIDE_RING_UPPER, VERTICES, flame_regions
from vultus.heads.flame.teeth import FlameArrays, add_teeth
from vultus.heads.model import LandmarkSet, SkinnedHead

N_IDENTITY, N_EXPRESSION = 300, 100
LICENSE = "FLAME model licence (non-commercial research; FLAME 2023 Open: CC-BY-4.0)"
_MODEL_FILES = ("flame2023.pkl", "flame2023_Open.pkl", "flame2023_no_jaw.pkl", "generic_model.pkl")
_PARENTS = (-1, 0, 1, 1, 1)


def load_flame(
    path: str | Path,
    *,
    n_identity: int = N_IDENTITY,
    n_expression: int = N_EXPRESSION,
    with_teeth: bool = True,
    name: str = "flame",
    license: str = LICENSE,
) -> SkinnedHead:
    """FLAME from its model pickle, or from the folder that holds it.

    Companion files are taken from the same folder where they are there: `head_template_mesh.obj` (texture coordinates),
    `FLAME_masks.pkl` (regions), `landmark_embedding_with_eyes.npy` or `landmark_embedding.npy` (landmark set `ibug68`
    and the sliding contour) or `flame_static_embedding.pkl` with `flame_dynamic_embedding.npy`,
    `mediapipe_landmark_embedding.npz` (landmark set `mediapipe`), `l_eyelid.npy` with `r_eyelid.npy` (expression
    components `eyeBlinkLeft` and `eyeBlinkRight`).

    Args:
        path: model pickle or folder.
        n_identity, n_expression: how many of the 300 identity and 100 expression components to keep.
        with_teeth: append the 120 teeth vertices that GaussianAvatars counts.
        name: name of the head model; begin it with `flame`.
        license: licence label that travels with everything made from the model.

    Raises:
        VultusError: no model there, a file that is malformed, unsafe or of another mesh.
    """
    path = Path(path)
    model_file = _find_model(path) if path.is_dir() else path
    arrays = read_flame_arrays(model_file, n_identity, n_expression)
    folder = model_file.parent
    if (obj := folder / "head_template_mesh.obj").is_file():
        arrays = _with_texture(arrays, obj)
    n_faces = arrays.faces.shape[0]
    masks = read_masks(masks_file, VERTICES) if (masks_file := folder / "FLAME_masks.pkl").is_file() else {}
    landmark_sets, contour = _landmarks(folder, arrays.faces, n_faces)
    names = [f"expression_{index:03d}" for index in range(n_expression)]
    expression = arrays.expression_basis
    if (left := folder / "l_eyelid.npy").is_file() and (right := folder / "r_eyelid.npy").is_file():
        expression = torch.cat([expression, read_eyelids(left, right, VERTICES)], dim=-1)
        names += ["eyeBlinkLeft", "eyeBlinkRight"]
    arrays = FlameArrays(**{**vars(arrays), "expression_basis": expression})
    if with_teeth:
        arrays = add_teeth(arrays, torch.tensor(LIP_OUTSIDE_RING_UPPER), torch.tensor(LIP_OUTSIDE_RING_LOWER))
    return SkinnedHead(
        name=name,
        license=license,
        **vars(arrays),
        parents=_PARENTS,
        expression_names=names,
        regions=flame_regions(masks, arrays.v_template, with_teeth),
        landmark_sets=landmark_sets,
        contour=contour,
    )


def read_flame_arrays(path: Path, n_identity: int = N_IDENTITY, n_expression: int = N_EXPRESSION) -> FlameArrays:
    """The arrays of a FLAME model pickle in float32, checked, without texture coordinates.

    Raises:
        VultusError: not a FLAME model, unsafe, or with values that make no model.
    """
    if not 0 <= n_identity <= N_IDENTITY or not 0 <= n_expression <= N_EXPRESSION:
        raise VultusError(f"FLAME has {N_IDENTITY} identity and {N_EXPRESSION} expression components")
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise VultusError(f"{path}: is not a FLAME model")
    n_basis = N_IDENTITY + N_EXPRESSION
    template = _floats(path, content, "v_template", (VERTICES, 3))
    basis = _floats(path, content, "shapedirs", (VERTICES, 3, n_basis))
    regressor = _floats(path, content, "J_regressor", (5, VERTICES))
    weights = _floats(path, content, "weights", (VERTICES, 5))
    faces = _integers(path, content, "f")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.min() < 0 or faces.max() >= VERTICES:
        raise VultusError(f"{path}: its faces are not triangles of {VERTICES} vertices")
    parents = _integers(path, content, "kintree_table")
    # The root has no parent; the entry holds -1 as an unsigned number.
    if parents.shape != (2, 5) or tuple(parents[0, 1:]) != _PARENTS[1:]:
        raise VultusError(f"{path}: its joints are not FLAME's")
    for label, sums in (("skinning weights", weights.sum(1)), ("joint regressor", regressor.sum(1))):
        if bool(((sums - 1).abs() > 1e-3).any()):
            raise VultusError(f"{path}: its {label} do not sum to 1")
    return FlameArrays(
        v_template=template,
        faces=torch.from_numpy(faces.astype(np.int64)),
        identity_basis=basis[..., :n_identity],
        expression_basis=basis[..., N_IDENTITY : N_IDENTITY + n_expression],
        pose_basis=_floats(path, content, "posedirs", (VERTICES, 3, 36)),
        joint_regressor=regressor,
        weights=weights,
        uvs=template.new_zeros(VERTICES, 2),
        uv_faces=torch.from_numpy(faces.astype(np.int64)),
    )


def _find_model(folder: Path) -> Path:
    found = [folder / name for name in _MODEL_FILES if (folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise VultusError(
            f"{folder}: holds several FLAME models ({', '.join(f.name for f in found)}); name one of them"
        )
    raise VultusError(f"{folder}: holds no FLAME model ({', '.join(_MODEL_FILES)}); download it from FLAME's website")


def _with_texture(arrays: FlameArrays, obj: Path) -> FlameArrays:
    uvs, faces, uv_faces = read_template_obj(obj)
    if not torch.equal(faces, arrays.faces):
        raise VultusError(f"{obj}: its faces are not those of the model beside it")
    return FlameArrays(**{**vars(arrays), "uvs": uvs, "uv_faces": uv_faces})


def _landmarks(folder: Path, faces: Tensor, n_faces: int) -> tuple[dict[str, LandmarkSet], ContourTable | None]:
    sets: dict[str, LandmarkSet] = {}
    contour = None
    for file in (folder / "landmark_embedding_with_eyes.npy", folder / "landmark_embedding.npy"):
        if file.is_file() and "ibug68" not in sets:
            sets["ibug68"], contour = read_landmark_embedding(file, n_faces)
    if "ibug68" not in sets and (static := folder / "flame_static_embedding.pkl").is_file():
        sets["ibug68"] = read_static_embedding(static, n_faces)
    if contour is None and (dynamic := folder / "flame_dynamic_embedding.npy").is_file():
        contour = read_dynamic_embedding(dynamic, n_faces)
    if (mediapipe := folder / "mediapipe_landmark_embedding.npz").is_file():
        sets["mediapipe"] = read_mediapipe_embedding(mediapipe, faces)
    return sets, contour


def _floats(path: Path, content: dict[Any, Any], key: str, shape: tuple[int, ...]) -> Tensor:
    value = content.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        raise VultusError(f"{path}: has no array {key!r}; it is not a FLAME model")
    if value.shape != shape:
        raise VultusError(f"{path}: {key} has the shape {value.shape} instead of FLAME's {shape}")
    if not np.isfinite(value).all() or np.abs(value).max() > 1e4:
        raise VultusError(f"{path}: {key} holds values that are not finite or absurdly large")
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))


def _integers(path: Path, content: dict[Any, Any], key: str) -> np.ndarray:
    value = content.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or value.size == 0:
        raise VultusError(f"{path}: has no indices {key!r}; it is not a FLAME model")
    return value.astype(np.int64)
