"""Places on the head as triangle and barycentric weights; vertex normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import KDTree

from .primitives import Points, rows


@dataclass(frozen=True)
class Embedding:
    """Points on a mesh: triangle and barycentric weights of each."""

    faces: Int[ndarray, "L"]
    bary: Float[ndarray, "L 3"]

    def points(self, vertices: Points, faces: Int[ndarray, "F 3"]) -> Points:
        """Positions on the given vertices."""
        return np.einsum("lk,lkc->lc", self.bary, vertices[faces[self.faces]])


def vertex_normals(vertices: Points, faces: Int[ndarray, "F 3"]) -> Points:
    """Area-weighted unit normals."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    out = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(out, faces[:, k], normal)
    return rows(out)


def closest(
    query: Points, vertices: Points, faces: Int[ndarray, "F 3"], allowed: Int[ndarray, "K"] | None = None
) -> Embedding:
    """Closest point of the mesh (of its ``allowed`` triangles) to every query point."""
    allowed = np.arange(len(faces)) if allowed is None else allowed
    tri = vertices[faces[allowed]]
    _, near = KDTree(tri.mean(axis=1)).query(query, k=min(24, len(allowed)))
    best_face, best_bary = np.zeros(len(query), dtype=int), np.zeros((len(query), 3))
    for i, candidates in enumerate(np.asarray(near)):
        bary = _project(query[i], tri[candidates])
        gap = np.linalg.norm(np.einsum("nk,nkc->nc", bary, tri[candidates]) - query[i], axis=1)
        k = int(gap.argmin())
        best_face[i], best_bary[i] = allowed[candidates[k]], bary[k]
    return Embedding(best_face, best_bary)


def _project(p: Float[ndarray, "3"], tri: Float[ndarray, "N 3 3"]) -> Float[ndarray, "N 3"]:
    """Barycentric weights of the closest point of each triangle: inside its plane, else on the nearest edge."""
    a, ab, ac = tri[:, 0], tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0]
    ap = p - a
    d00, d01, d11 = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    d20, d21 = (ap * ab).sum(1), (ap * ac).sum(1)
    det = np.maximum(d00 * d11 - d01 * d01, 1e-18)
    v, w = (d11 * d20 - d01 * d21) / det, (d00 * d21 - d01 * d20) / det
    bary = np.stack([1 - v - w, v, w], axis=1)
    outside = (bary < 0).any(axis=1)
    best = np.full(len(tri), np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = tri[:, j] - tri[:, i]
        t = np.clip(((p - tri[:, i]) * edge).sum(1) / np.maximum((edge * edge).sum(1), 1e-18), 0, 1)
        gap = np.linalg.norm(tri[:, i] + t[:, None] * edge - p, axis=1)
        better = outside & (gap < best)
        on_edge = np.zeros_like(bary)
        on_edge[:, i], on_edge[:, j] = 1 - t, t
        bary[better], best[better] = on_edge[better], gap[better]
    return bary


def mirrored(embedding: Embedding, faces: Int[ndarray, "F 3"], mirror: Int[ndarray, "V"]) -> Embedding:
    """The mirror image of an embedding. Raises ValueError if the triangulation is not mirror-symmetric there."""
    lookup = {tuple(sorted(f)): i for i, f in enumerate(faces.tolist())}
    out_face, out_bary = np.zeros_like(embedding.faces), np.zeros_like(embedding.bary)
    for i, face in enumerate(embedding.faces):
        corners = mirror[faces[face]].tolist()
        target = lookup.get(tuple(sorted(corners)))
        if target is None:
            raise ValueError(f"triangle {face} of the sculpt has no mirror image")
        out_face[i] = target
        out_bary[i] = [embedding.bary[i][corners.index(v)] for v in faces[target].tolist()]
    return Embedding(out_face, out_bary)
