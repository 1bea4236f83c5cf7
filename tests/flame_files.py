"""A file in the layout of FLAME's model pickle whose mesh is a smooth egg of a head's size; no FLAME data."""

import pickle
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.spatial import ConvexHull

VERTICES, FACES = 5023, 9976


def write_egg(folder: Path, seed: int = 0) -> Path:
    """Write `generic_model.pkl` into a new folder and return the folder; another seed is another model."""
    rng = np.random.default_rng(seed)
    height = 1 - 2 * (np.arange(VERTICES) + 0.5) / VERTICES
    turn = np.arange(VERTICES) * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - height**2)
    points = np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], 1)
    faces = ConvexHull(points).simplices[:FACES]
    corners = points[faces]
    outward = np.einsum(
        "ij,ij->i", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), corners[:, 0]
    )
    faces[outward < 0] = faces[outward < 0][:, ::-1]
    template = points * [0.08, 0.12, 0.1]
    shapes = np.zeros((VERTICES, 3, 400), np.float32)
    shapes[..., :2] = 0.05 * template[..., None] * rng.standard_normal(2)
    shapes[..., 300] = 0.05 * template * rng.random(3)
    weights = np.zeros((VERTICES, 5))
    weights[:, 1] = 1.0
    weights[template[:, 1] < -0.04] = [0, 0.5, 0.5, 0, 0]
    regressor = np.zeros((5, VERTICES))
    regressor[:, ::100] = 1.0
    content = {
        "v_template": template,
        "shapedirs": shapes,
        "posedirs": np.zeros((VERTICES, 3, 36)),
        "J_regressor": scipy.sparse.csc_matrix(regressor / regressor.sum(1, keepdims=True)),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "weights": weights,
        "f": faces.astype(np.uint32),
    }
    folder.mkdir(parents=True)
    (folder / "generic_model.pkl").write_bytes(pickle.dumps(content, 2))
    return folder
