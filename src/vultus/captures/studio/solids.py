"""Simple surfaces as grids of vertices: what clothes and glasses are made of. Millimetres."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import KDTree


def grid_faces(rows: int, columns: int, *, closed: bool) -> Int[ndarray, "F 3"]:
    """Triangles of a grid of rows x columns vertices, row by row; closed joins the last column to the first.

    They are counter-clockwise seen from the side where columns go to the right when rows go down.
    """
    number = np.arange(rows * columns).reshape(rows, columns)
    if closed:
        number = np.concatenate([number, number[:, :1]], axis=1)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])


def tube(
    path: Float[ndarray, "N 3"], radius: float | Float[ndarray, "N"], *, closed: bool = False, sides: int = 8
) -> tuple[Float[ndarray, "V 3"], Int[ndarray, "F 3"]]:
    """A tube around a path; ends are left open."""
    if closed:
        tangent = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
    else:
        tangent = np.gradient(path, axis=0)
    tangent = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
    # The normal of the plane that the path lies in, or nearly so, is never along the path.
    reference = np.linalg.svd(path - path.mean(0))[2][2]
    first = np.cross(tangent, reference)
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(tangent, first)
    angle = np.arange(sides) / sides * 2 * np.pi
    ring = np.cos(angle)[None, :, None] * first[:, None] - np.sin(angle)[None, :, None] * second[:, None]
    radius = np.broadcast_to(radius, len(path))
    vertices = path[:, None] + ring * radius[:, None, None]
    rows = len(path)
    if closed:
        vertices = np.concatenate([vertices, vertices[:1]])
        rows += 1
    return vertices.reshape(-1, 3), grid_faces(rows, sides, closed=True)


def ball(centre: ndarray, radius: float, *, sides: int = 10) -> tuple[Float[ndarray, "V 3"], Int[ndarray, "F 3"]]:
    latitude = np.linspace(-np.pi / 2, np.pi / 2, sides)
    longitude = np.arange(2 * sides) / (2 * sides) * 2 * np.pi
    y = np.sin(latitude)[:, None] * np.ones_like(longitude)
    x, z = (np.cos(latitude)[:, None] * f(longitude) for f in (np.cos, np.sin))
    return (centre + radius * np.stack([x, y, z], -1)).reshape(-1, 3), grid_faces(sides, 2 * sides, closed=True)


def joined(
    *parts: tuple[Float[ndarray, "V 3"], Int[ndarray, "F 3"]],
) -> tuple[Float[ndarray, "V 3"], Int[ndarray, "F 3"]]:
    """Several meshes as one."""
    offsets = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    return (
        np.concatenate([vertices for vertices, _ in parts]),
        np.concatenate([faces + offset for (_, faces), offset in zip(parts, offsets, strict=False)]),
    )


class Radius:
    """How far a surface reaches from an axis or a point, in any direction: the mean of the nearest vertices there."""

    def __init__(self, keys: Float[ndarray, "N D"], radii: Float[ndarray, "N"], *, neighbours: int = 6) -> None:
        self._tree, self._radii, self._neighbours = KDTree(keys), radii, neighbours

    def __call__(self, keys: Float[ndarray, "*S D"]) -> Float[ndarray, "*S"]:
        distance, row = self._tree.query(keys, k=self._neighbours)
        weight = 1 / (distance + 1e-3) ** 2
        return (self._radii[row] * weight).sum(-1) / weight.sum(-1)
