"""Nearest points on a triangle mesh, and whether a point is inside of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from vultus.errors import VultusError

_QUERIES_AT_ONCE = 4096
_PAIRS_AT_ONCE = 30_000  # of numbers that fit into a processor's cache
_FIRST = 8


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
    """The point of the mesh nearest to each query (metres); of equally near faces the one with the lowest index.

    Not differentiable. Faces without area are left out. SciPy's k-d tree finds the faces that can be nearest, trimesh
    the nearest point of each.

    Raises:
        VultusError: there is no face with an area, or a coordinate is not finite.
    """
    from trimesh.triangles import closest_point, points_to_barycentric

    queries, triangles, index = _checked(queries, vertices, faces)
    search = _Search(triangles)
    found = np.empty_like(queries)
    chosen = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        part = queries[start : start + _QUERIES_AT_ONCE]
        owner, candidate = search.candidates(part)
        points = closest_point(triangles[candidate], part[owner])
        distance = np.linalg.norm(points - part[owner], axis=1)
        order = np.lexsort((candidate, distance, owner))
        first = order[np.searchsorted(owner[order], np.arange(len(part)))]
        found[start : start + len(part)], chosen[start : start + len(part)] = points[first], candidate[first]
    distances = np.linalg.norm(found - queries, axis=1)
    return ClosestPoints(found, distances, index[chosen], points_to_barycentric(triangles[chosen], found))


def signed_distance(
    queries: Float[np.ndarray, "P 3"], vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "P"]:
    """Distance of each query from the mesh (metres), negative inside. Faces are counter-clockwise seen from outside.

    Inside is where the winding number exceeds 1/2: overlapping parts count as one solid, and a hole is closed by the
    surface that its rim suggests. Not differentiable. Raises VultusError as `closest_points` does.
    """
    distances = closest_points(queries, vertices, faces).distances
    return np.where(winding_numbers(queries, vertices, faces) > 0.5, -distances, distances)


def winding_numbers(
    queries: Float[np.ndarray, "P 3"], vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "P"]:
    """How often the surface goes around each query: 1 inside a closed mesh, 0 outside, between the two near holes.

    The sum of the solid angles of all faces (van Oosterom and Strackee 1983) over 4π; see Jacobson et al., "Robust
    Inside-Outside Segmentation using Generalized Winding Numbers" (2013). Its time is queries times faces: two or
    three seconds for a head and a thousand points. Raises VultusError as `closest_points` does.
    """
    queries, triangles, _ = _checked(queries, vertices, faces)
    corners, points = torch.from_numpy(triangles).permute(1, 2, 0).contiguous(), torch.from_numpy(queries)
    rows = max(1, _PAIRS_AT_ONCE // len(triangles))
    total = [_solid_angles(part, corners) for part in points.split(rows)]
    return (torch.cat(total) / (4 * torch.pi)).numpy() if total else np.zeros(0)


def _solid_angles(points: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """Of all triangles together (corners as [3 corners, 3 coordinates, F]), seen from every point."""
    corners = corners[:, :, None] - points.T.contiguous()[None, :, :, None]
    a, b, c = corners.unbind(0)
    x, y, z = corners.square().sum(1).sqrt().unbind(0)
    volume = a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2])
    volume = volume + a[2] * (b[0] * c[1] - b[1] * c[0])
    flat = x * y * z + (a * b).sum(0) * z + (b * c).sum(0) * x + (c * a).sum(0) * y
    return 2 * torch.atan2(volume, flat).sum(-1)


class _Search:
    """The triangles that can be nearest to a point. Triangles of like size share a tree: one huge triangle would
    otherwise make everything a candidate."""

    def __init__(self, triangles: Float[np.ndarray, "F 3 3"]) -> None:
        from scipy.spatial import KDTree

        self._centers = triangles.mean(axis=1)
        self._radii = np.linalg.norm(triangles - self._centers[:, None], axis=2).max(axis=1)
        self._triangles = triangles
        _, size = np.frexp(self._radii)
        classes = [np.flatnonzero(size == one) for one in np.unique(size)]
        self._trees = [(members, KDTree(self._centers[members])) for members in classes]

    def candidates(self, queries: Float[np.ndarray, "P 3"]) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a query and a triangle; the nearest triangle of each query is among its pairs."""
        from trimesh.triangles import closest_point

        bound = np.full(len(queries), np.inf)
        for members, tree in self._trees:
            _, near = tree.query(queries, k=min(_FIRST, len(members)))
            for column in near.reshape(len(queries), -1).T:
                points = closest_point(self._triangles[members[column]], queries)
                bound = np.minimum(bound, np.linalg.norm(points - queries, axis=1))
        bound = bound * (1 + 1e-9) + 1e-300
        owners, candidates = [], []
        for members, tree in self._trees:
            radius = self._radii[members].max()
            lists = tree.query_ball_point(queries, bound + radius, return_sorted=False)
            owner = np.repeat(np.arange(len(queries)), [len(one) for one in lists])
            candidate = members[np.fromiter((i for one in lists for i in one), dtype=np.int64, count=len(owner))]
            gap = np.linalg.norm(self._centers[candidate] - queries[owner], axis=1) - self._radii[candidate]
            possible = gap <= bound[owner]
            owners.append(owner[possible])
            candidates.append(candidate[possible])
        return np.concatenate(owners), np.concatenate(candidates)


def _checked(
    queries: Float[np.ndarray, "P 3"], vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, "G 3 3"], Int[np.ndarray, "G"]]:
    """Queries, the triangles that have an area, and their indices."""
    queries = np.asarray(queries, dtype=np.float64).reshape(-1, 3)
    triangles = np.asarray(vertices, dtype=np.float64)[np.asarray(faces, dtype=np.int64).reshape(-1, 3)]
    if not np.isfinite(queries).all() or not np.isfinite(triangles).all():
        raise VultusError("closest points need finite coordinates, but some of the points or vertices are not")
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    index = np.flatnonzero(np.linalg.norm(normals, axis=1) > 0)
    if not len(index):
        raise VultusError("the mesh has no face with an area; there is no closest point")
    return queries, triangles[index], index
