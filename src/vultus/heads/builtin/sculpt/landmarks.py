"""Landmark embeddings on the finished mesh: the 68 iBUG points with the two irises, and MediaPipe's face mesh."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from . import anatomy, rings
from .mesh import HeadMesh, Part
from .skin import Kind
from .surface import Embedding, closest, mirrored


def _embed_vertices(mesh: HeadMesh, ids: Int[ndarray, "N"], allowed: Int[ndarray, "K"]) -> Embedding:
    """Vertices as corners of triangles among ``allowed``."""
    faces = mesh.faces[allowed]
    at = np.array([np.flatnonzero((faces == i).any(axis=1))[0] for i in ids])
    return Embedding(allowed[at], (faces[at] == ids[:, None]).astype(float))


def _skin_faces(mesh: HeadMesh) -> Int[ndarray, "K"]:
    return np.arange(len(mesh.skin.faces))


def ibug68(mesh: HeadMesh) -> Embedding:
    """iBUG's 68 points, then the pupil centres (68 right, 69 left)."""
    skin, v = mesh.skin, mesh.vertices
    faces = _skin_faces(mesh)
    out: list[Embedding | None] = [None] * 70

    def put(number: int, e: Embedding, k: int) -> None:
        out[number] = Embedding(e.faces[k : k + 1], e.bary[k : k + 1])

    def put_pair(right: int, left: int, e: Embedding, k: int) -> None:
        put(left, e, k)
        put(right, mirrored(Embedding(e.faces[k : k + 1], e.bary[k : k + 1]), mesh.faces, mesh.mirror), 0)

    # Jaw: evenly spaced from in front of the ear along the mandible to the chin.
    path = np.array([(68, -10, 18), (66, -42, 20), (52, -78, 18), (34, -97, 56), (14, -108, 83), (0, -108.5, 86)], float)
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    at = np.linspace(0, length[-1], 9)
    jaw = closest(np.stack([np.interp(at, length, path[:, c]) for c in range(3)], axis=1), v, mesh.faces, faces)
    for k in range(8):
        put_pair(k, 16 - k, jaw, k)
    chin = skin.half
    middle = np.flatnonzero(np.abs(v[: len(skin.vertices), 0]) < 1e-9)
    chin = middle[np.linalg.norm(v[middle] - [0, -108, 86], axis=1).argmin()]
    put(8, _embed_vertices(mesh, np.array([chin]), faces), 0)
    # Brows: five points along the hair, from the inner to the outer end on the left.
    curve = anatomy.BROW_CURVE
    bx = np.linspace(curve[0, 0] + 1, curve[-1, 0], 5)
    by = np.interp(bx, curve[:, 0], curve[:, 1] + 0.35 * curve[:, 2])
    depth = v[: len(skin.vertices)]
    target = []
    for x, y in zip(bx, by, strict=True):
        near = np.flatnonzero((np.hypot(depth[:, 0] - x, depth[:, 1] - y) < 6) & (depth[:, 2] > 40))
        target.append([x, y, depth[near, 2].mean()])
    brow = closest(np.array(target), v, mesh.faces, faces)
    for k in range(5):
        put_pair(21 - k, 22 + k, brow, k)
    # Nose.
    bridge = np.array([(0, 3, 91.5), (0, -9, 101), (0, -20, 109), (0, -30.5, 116.5)])
    ids = np.array([middle[np.linalg.norm(v[middle] - p, axis=1).argmin()] for p in bridge])
    e = _embed_vertices(mesh, ids, faces)
    for k in range(4):
        put(27 + k, e, k)
    wings = closest(np.array([(11.5, -37.5, 96.5), (6.0, -42.0, 99.5)]), v, mesh.faces, faces)
    put_pair(31, 35, wings, 0)
    put_pair(32, 34, wings, 1)
    base = middle[np.linalg.norm(v[middle] - [0, -42.5, 101], axis=1).argmin()]
    put(33, _embed_vertices(mesh, np.array([base]), faces), 0)
    # Eyes: inner corner, upper inner, upper outer, outer corner, lower outer, lower inner of the left eye.
    edge = skin.ring_ids(Kind.EYE, 0)
    n = rings.EYE_POINTS
    columns = np.array([n // 2, round(n * 0.34), round(n * 0.17), 0, round(n * 0.83), round(n * 0.66)])
    e = _embed_vertices(mesh, edge[columns], faces)
    for k, (right, left) in enumerate(((39, 42), (38, 43), (37, 44), (36, 45), (41, 46), (40, 47))):
        put_pair(right, left, e, k)
    # Mouth.
    def lip(kind: Kind, ring: int, x_fraction: float) -> int:
        ids = skin.ring_ids(kind, ring)
        return int(ids[np.abs(v[ids, 0] - x_fraction * anatomy.MOUTH_HALF_WIDTH).argmin()])

    border = rings.LIP_RINGS - 1
    up, low = Kind.LIP_UPPER, Kind.LIP_LOWER
    pairs = (
        (48, 54, lip(up, border, 1.04)), (49, 53, lip(up, border, 0.56)), (50, 52, lip(up, border, 0.19)),
        (59, 55, lip(low, border, 0.62)), (58, 56, lip(low, border, 0.28)),
        (60, 64, lip(up, 0, 0.93)), (61, 63, lip(up, 0, 0.36)), (67, 65, lip(low, 0, 0.36)),
    )  # fmt: skip
    for right, left, vertex in pairs:
        put_pair(right, left, _embed_vertices(mesh, np.array([vertex]), faces), 0)
    for number, vertex in ((51, lip(up, border, 0)), (57, lip(low, border, 0)), (62, lip(up, 0, 0)), (66, lip(low, 0, 0))):
        put(number, _embed_vertices(mesh, np.array([vertex]), faces), 0)
    put_pair(68, 69, _pupil(mesh), 0)
    done = [e for e in out if e is not None]
    return Embedding(np.concatenate([e.faces for e in done]), np.concatenate([e.bary for e in done]))


def _pupil(mesh: HeadMesh) -> Embedding:
    """Centre of the left pupil."""
    eye = np.flatnonzero((mesh.part[mesh.faces] == Part.LEFT_EYE).all(axis=1))
    front = np.flatnonzero(mesh.part == Part.LEFT_EYE)
    return _embed_vertices(mesh, front[[mesh.vertices[front, 2].argmax()]], eye)


def mediapipe(mesh: HeadMesh) -> tuple[Int[ndarray, "L"], Embedding]:
    """MediaPipe's face-mesh points the head can carry: their numbers in the 478-point mesh, and where they lie."""
    pairs = {30: 4, 33: 2, 27: 168, 36: 33, 39: 133, 42: 362, 45: 263, 48: 61, 54: 291, 68: 468, 69: 473}
    all_points = ibug68(mesh)
    k = np.array(list(pairs))
    return np.array(list(pairs.values())), Embedding(all_points.faces[k], all_points.bary[k])
