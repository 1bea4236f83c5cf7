"""Nearest points on a triangle mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class ClosestPoints:
    """For every query: the nearest point of the surface, its distance (metres), its face and place in the face."""

    points: Float[np.ndarray, "P 3"]
    distances: Float[np.ndarray, "P"]
    faces: Int[np.ndarray, "P"]
    barycentric: Float[np.ndarray, "P 3"]


def closest_points(
    queries: Float[np.ndarray, "P 3"], vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> ClosestPoints:
    """The point of the mesh nearest to each query (metres). Not differentiable; computed by trimesh."""
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    points, distances, index = (
        trimesh.proximity.closest_point_naive(mesh, queries) if len(faces) < 64 else mesh.nearest.on_surface(queries)
    )
    barycentric = trimesh.triangles.points_to_barycentric(mesh.triangles[index], points)
    return ClosestPoints(points, distances, index, barycentric)
