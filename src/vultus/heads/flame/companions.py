"""FLAME's companion files: template OBJ, region masks, landmark embeddings, eyelid shapes. All are pickles or text of
strangers, all optional."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.errors import VultusError
from vultus.files import read_npy, read_npz, read_object_npy, read_pickle
from vultus.heads.contour import ROWS, ContourTable
from vultus.heads.flame.regions import LEFT_IRIS_POINTS, RIGHT_IRIS_POINTS
from vultus.heads.model import LandmarkSet
from vultus.heads.vertex_landmarks import vertex_landmarks

_MAX_OBJ_BYTES = 64 << 20


def read_template_obj(path: Path) -> tuple[Float[Tensor, "T 2"], Int[Tensor, "F 3"], Int[Tensor, "F 3"]]:
    """Texture coordinates, faces and texture faces of the template OBJ (`f v/vt v/vt v/vt`). Raises VultusError."""
    uvs, faces, uv_faces = [], [], []
    try:
        if path.stat().st_size > _MAX_OBJ_BYTES:
            raise VultusError(f"{path}: is too large for a head template")
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            parts = line.split()
            if parts[:1] == ["vt"]:
                uvs.append([float(parts[1]), float(parts[2])])
            elif parts[:1] == ["f"]:
                corners = [corner.split("/") for corner in parts[1:]]
                if len(corners) != 3:
                    raise VultusError(f"{path}: holds a face that is no triangle")
                faces.append([int(corner[0]) - 1 for corner in corners])
                uv_faces.append([int(corner[1]) - 1 for corner in corners])
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, IndexError, OverflowError) as error:
        raise VultusError(f"{path}: is not a template OBJ with texture coordinates: {error}") from error
    if not faces or not uvs:
        raise VultusError(f"{path}: has no faces or no texture coordinates")
    texture, face_array = np.array(uvs, np.float64), np.array(uv_faces, np.float64)
    if not np.isfinite(texture).all() or face_array.min() < 0 or face_array.max() >= len(uvs):
        raise VultusError(f"{path}: has faces or texture coordinates out of range")
    as_indices = [torch.from_numpy(np.array(rows, np.float64)).long() for rows in (faces, uv_faces)]
    return torch.from_numpy(texture).float(), as_indices[0], as_indices[1]


def read_masks(path: Path, vertices: int) -> dict[str, Int[Tensor, "_"]]:
    """The regions of `FLAME_masks.pkl`: name to vertex indices. Raises VultusError."""
    content = read_pickle(path)
    if not isinstance(content, dict) or not content:
        raise VultusError(f"{path}: is not a file of FLAME masks")
    return {str(name): _indices(path, str(name), value, vertices, 1) for name, value in content.items()}


def read_landmark_embedding(path: Path, faces: int) -> tuple[LandmarkSet, ContourTable | None]:
    """The fixed 68 or 70 landmarks and the sliding contour of `landmark_embedding*.npy`. Raises VultusError."""
    content = read_object_npy(path)
    corners, weights = _entry(path, content, "full_lmk_faces_idx"), _entry(path, content, "full_lmk_bary_coords")
    if corners.shape[:1] != (1,) or weights.shape[:1] != (1,):
        raise VultusError(f"{path}: its full landmarks have the shapes {corners.shape} and {weights.shape}")
    fixed = _embedding(path, corners[0], weights[0], faces)
    contour = None
    if "dynamic_lmk_faces_idx" in content:
        contour = _contour(
            path,
            _entry(path, content, "dynamic_lmk_faces_idx"),
            _entry(path, content, "dynamic_lmk_bary_coords"),
            faces,
        )
    return fixed, contour


def read_static_embedding(path: Path, faces: int) -> LandmarkSet:
    """The 51 landmarks (iBUG 17–67) of `flame_static_embedding.pkl`. Raises VultusError."""
    content = read_pickle(path)
    corners, weights = _entry(path, content, "lmk_face_idx"), _entry(path, content, "lmk_b_coords")
    return _embedding(path, corners, weights, faces, first=17)


def read_dynamic_embedding(path: Path, faces: int) -> ContourTable:
    """The sliding contour of `flame_dynamic_embedding.npy`. Raises VultusError."""
    content = read_object_npy(path)
    return _contour(path, _entry(path, content, "lmk_face_idx"), _entry(path, content, "lmk_b_coords"), faces)


def read_mediapipe_embedding(path: Path, faces: Int[Tensor, "F 3"]) -> LandmarkSet:
    """Landmarks of the 478-point mesh: those of `mediapipe_landmark_embedding.npz` and the ten iris points, which are
    vertices of FLAME. Raises VultusError."""
    content = read_npz(path)
    numbers = _entry(path, content, "landmark_indices")
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or (numbers < 0).any() or (numbers >= 478).any():
        raise VultusError(f"{path}: landmark_indices are not points of the 478-point mesh")
    fixed = _embedding(
        path, _entry(path, content, "lmk_face_idx"), _entry(path, content, "lmk_b_coords"), faces.shape[0]
    )
    if fixed.faces.shape != numbers.shape:
        raise VultusError(f"{path}: {len(numbers)} numbers for {len(fixed.faces)} landmarks")
    iris = vertex_landmarks(faces, RIGHT_IRIS_POINTS + LEFT_IRIS_POINTS, range(468, 478))
    return LandmarkSet(
        ids=torch.cat([torch.from_numpy(numbers.astype(np.int64)), iris.ids]),
        faces=torch.cat([fixed.faces, iris.faces]),
        barycentric=torch.cat([fixed.barycentric, iris.barycentric]),
    )


def read_eyelids(left: Path, right: Path, vertices: int) -> Float[Tensor, "V 3 2"]:
    """Displacements (metres) that close the left and the right eye, `l_eyelid.npy` and `r_eyelid.npy`. VultusError."""
    shapes = []
    for path in (left, right):
        shape = read_npy(path)
        if shape.shape != (vertices, 3) or shape.dtype.kind != "f" or not np.isfinite(shape).all():
            raise VultusError(f"{path}: is not a finite displacement of {vertices} vertices")
        shapes.append(torch.from_numpy(shape.astype(np.float32)))
    return torch.stack(shapes, dim=-1)


def _entry(path: Path, content: Any, key: str) -> np.ndarray:
    value = content.get(key) if isinstance(content, dict) else None
    if isinstance(value, list) and all(isinstance(row, np.ndarray) and row.shape == value[0].shape for row in value):
        value = np.stack(value) if value else None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        raise VultusError(f"{path}: has no array {key!r}; it is not a landmark embedding of FLAME")
    return value


def _indices(path: Path, name: str, value: Any, limit: int, dimensions: int) -> Tensor:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or value.ndim != dimensions:
        raise VultusError(f"{path}: {name} is no list of indices")
    if value.size and (value.min() < 0 or value.max() >= limit):
        raise VultusError(f"{path}: {name} holds indices outside 0…{limit - 1}; it belongs to another mesh")
    return torch.from_numpy(value.astype(np.int64))


def _weights(path: Path, value: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    if value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
        raise VultusError(f"{path}: its barycentric weights are not finite or of shape {value.shape}, not {shape}")
    if np.abs(value.sum(-1) - 1).max(initial=0) > 1e-3:
        raise VultusError(f"{path}: its barycentric weights do not sum to 1")
    return torch.from_numpy(value.astype(np.float32))


def _embedding(path: Path, corners: np.ndarray, weights: np.ndarray, faces: int, first: int = 0) -> LandmarkSet:
    triangles = _indices(path, "landmark faces", corners, faces, 1)
    ids = torch.arange(first, first + len(triangles))
    return LandmarkSet(ids, triangles, _weights(path, weights, (len(triangles), 3)))


def _contour(path: Path, corners: np.ndarray, weights: np.ndarray, faces: int) -> ContourTable:
    if corners.shape != (ROWS, 17):
        raise VultusError(f"{path}: its contour has the shape {corners.shape}, not ({ROWS}, 17)")
    return ContourTable(_indices(path, "contour faces", corners, faces, 2), _weights(path, weights, (ROWS, 17, 3)))
