"""Teeth for FLAME, which has none: two curved strips behind the lips, 120 vertices and 168 triangles.

Source: GaussianAvatars (Qian et al. 2024), whose captures and checkpoints count vertices and triangles with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

COLUMNS = 15
ROWS = 8
UPPER_ROWS, LOWER_ROWS = (0, 2, 4, 5), (1, 3, 6, 7)
_NECK, _JAW = 1, 2
# Strips of quads between two rows of vertices (first vertex of each row), and how the left and the right half of a
# strip are cut into triangles, so that the two halves mirror each other.
_STRIPS = (
    (0, 30, "edge_first", "diagonal_first"),
    (60, 75, "row_first", "row_second"),
    (75, 30, "row_second", "row_first"),
    (45, 15, "diagonal_first", "edge_first"),
    (90, 105, "edge_first", "diagonal_first"),
    (105, 45, "diagonal_first", "edge_first"),
)


@dataclass(frozen=True)
class FlameArrays:
    """The arrays of a FLAME model: see `SkinnedHead` for their meaning."""

    v_template: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    identity_basis: Float[Tensor, "V 3 S"]
    expression_basis: Float[Tensor, "V 3 E"]
    pose_basis: Float[Tensor, "V 3 36"]
    joint_regressor: Float[Tensor, "5 V"]
    weights: Float[Tensor, "V 5"]
    uvs: Float[Tensor, "T 2"]
    uv_faces: Int[Tensor, "F 3"]


def add_teeth(model: FlameArrays, lip_upper: Int[Tensor, "15"], lip_lower: Int[Tensor, "15"]) -> FlameArrays:
    """The model with teeth appended to its vertices, faces and texture coordinates.

    `lip_upper` and `lip_lower` are the outer lip rings from the subject's right to left, opposite vertices having the
    same position. Upper teeth move with the neck joint, lower teeth with the jaw, both with the lips' identity.
    """
    count, uv_count = model.v_template.shape[0], model.uvs.shape[0]
    added = ROWS * COLUMNS
    lips_identity = (model.identity_basis[lip_upper] + model.identity_basis[lip_lower]) / 2
    weights = model.weights.new_zeros(ROWS, COLUMNS, model.weights.shape[1])
    weights[list(UPPER_ROWS), :, _NECK] = 1
    weights[list(LOWER_ROWS), :, _JAW] = 1
    triangles = torch.tensor(list(_triangles()), dtype=model.faces.dtype)

    def with_zeros(values: Tensor) -> Tensor:
        return torch.cat([values, values.new_zeros(added, *values.shape[1:])])

    return FlameArrays(
        v_template=torch.cat([model.v_template, _positions(model.v_template[lip_upper], model.v_template[lip_lower])]),
        faces=torch.cat([model.faces, triangles + count]),
        identity_basis=torch.cat([model.identity_basis, lips_identity.repeat(ROWS, 1, 1)]),
        expression_basis=with_zeros(model.expression_basis),
        pose_basis=with_zeros(model.pose_basis),
        joint_regressor=with_zeros(model.joint_regressor.T).T,
        weights=torch.cat([model.weights, weights.flatten(0, 1)]),
        uvs=torch.cat([model.uvs, _texture_coordinates().to(model.uvs)]),
        uv_faces=torch.cat([model.uv_faces, triangles.to(model.uv_faces.dtype) + uv_count]),
    )


def _positions(upper: Float[Tensor, "15 3"], lower: Float[Tensor, "15 3"]) -> Float[Tensor, "120 3"]:
    """Rows: upper root, lower root, upper edge, lower edge, then the backs of upper root, upper edge, lower root,
    lower edge. All distances are in units of the mean distance between the lips."""
    unit = (upper - lower).norm(dim=-1).mean()
    middle = (upper + lower) / 2
    height = middle[:, 1].mean().expand(COLUMNS)
    middle = torch.stack([middle[:, 0], height, middle[:, 2] - 1.5 * unit], dim=-1)
    up, forward = torch.eye(3, dtype=middle.dtype)[1] * unit, torch.eye(3, dtype=middle.dtype)[2] * unit
    upper_edge, lower_edge = middle + 0.1 * up, middle - 0.1 * up - 0.4 * forward
    upper_root, lower_root = upper_edge + 2 * up, lower_edge - 2 * up
    front = [upper_root, lower_root, upper_edge, lower_edge]
    back = [row - forward for row in (upper_root, upper_edge, lower_root, lower_edge)]
    return torch.cat(front + back)


def _texture_coordinates() -> Float[Tensor, "120 2"]:
    across = torch.linspace(0.62, 0.38, COLUMNS)
    down = torch.linspace(1 - 0.0083, 1 - 0.0425, 7)
    rows = [torch.stack([across, down[row].expand(COLUMNS)], dim=-1) for row in (3, 2, 0, 1, 3, 4, 6, 5)]
    return torch.cat(rows)


def _triangles() -> Iterator[tuple[int, int, int]]:
    for first, second, left, right in _STRIPS:
        for column in range(COLUMNS - 1):
            a, b = first + column, second + column
            cut = left if column < (COLUMNS - 1) // 2 else right
            if cut == "edge_first":
                yield from ((a, b + 1, b), (a, a + 1, b + 1))
            elif cut == "diagonal_first":
                yield from ((a, a + 1, b), (a + 1, b + 1, b))
            elif cut == "row_first":
                yield from ((a, b, b + 1), (a, b + 1, a + 1))
            else:
                yield from ((a, b, a + 1), (a + 1, b, b + 1))
