"""Landmark embeddings on the finished mesh: the 68 iBUG points with the two irises, and MediaPipe's face mesh."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jaxtyping import Float, Int
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
    path = np.array([(68, -10, 18), (66, -42, 20), (52, -78, 18), (34, -97, 56), (14, -106, 85), (0, -106, 89)], float)
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    at = np.linspace(0, length[-1], 9)
    jaw = closest(np.stack([np.interp(at, length, path[:, c]) for c in range(3)], axis=1), v, mesh.faces, faces)
    for k in range(8):
        put_pair(k, 16 - k, jaw, k)
    middle = np.flatnonzero(np.abs(v[: len(skin.vertices), 0]) < 1e-9)
    chin = middle[np.linalg.norm(v[middle] - [0, -106, 89], axis=1).argmin()]
    put(8, _embed_vertices(mesh, np.array([chin]), faces), 0)
    # Brows: five points along the upper edge of the hair, from the inner to the outer end on the left, where detectors
    # that follow MediaPipe's table (336, 296, 334, 293, 300) see them.
    bx = np.array([13.0, 26.5, 39.5, 48.0, 52.5])
    by = np.array([24.0, 25.5, 25.5, 22.5, 18.0])
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
    for number, vertex in (
        (51, lip(up, border, 0)),
        (57, lip(low, border, 0)),
        (62, lip(up, 0, 0)),
        (66, lip(low, 0, 0)),
    ):
        put(number, _embed_vertices(mesh, np.array([vertex]), faces), 0)
    put_pair(68, 69, _pupil(mesh), 0)
    done = [e for e in out if e is not None]
    return Embedding(np.concatenate([e.faces for e in done]), np.concatenate([e.bary for e in done]))


def _pupil(mesh: HeadMesh) -> Embedding:
    """Centre of the left pupil."""
    eye = np.flatnonzero((mesh.part[mesh.faces] == Part.LEFT_EYE).all(axis=1))
    front = np.flatnonzero(mesh.part == Part.LEFT_EYE)
    return _embed_vertices(mesh, front[[mesh.vertices[front, 2].argmax()]], eye)


@dataclass(frozen=True)
class _MediapipePoint:
    """A row of `mediapipe_points.csv`: number, mirror partner, template position (mm), curve it lies on or empty."""

    number: int
    mirror: int
    position: tuple[float, float, float]
    curve: str


def _mediapipe_points() -> list[_MediapipePoint]:
    """Where MediaPipe's detector sees its points on renders of the template.

    Measured once: some thirty renders over views, styles and identities, detected points carried back to the template
    along the camera's rays, the median taken over the views that face a point best, mirror pairs averaged. The
    two points in front of each ear (93, 234 and their partners), seen in too few views, were placed by hand.
    """
    text = resources.files("vultus.heads.builtin.sculpt").joinpath("mediapipe_points.csv").read_text()
    return [
        _MediapipePoint(
            int(row["id"]), int(row["mirror"]), (float(row["x"]), float(row["y"]), float(row["z"])), row["curve"]
        )
        for row in csv.DictReader(text.splitlines())
    ]


def _curves(mesh: HeadMesh) -> dict[str, Int[ndarray, "N"]]:
    """Left vertices of the curves that lids and lips keep to, in order."""
    skin = mesh.skin
    edge = skin.ring_ids(Kind.EYE, 0)
    half = len(edge) // 2
    border = rings.LIP_RINGS - 1
    return {
        "lid_upper": edge[: half + 1],
        "lid_lower": np.r_[edge[half:], edge[:1]],
        "lip_line_upper": skin.ring_ids(Kind.LIP_UPPER, 0),
        "lip_line_lower": skin.ring_ids(Kind.LIP_LOWER, 0),
        "lip_border_upper": skin.ring_ids(Kind.LIP_UPPER, border),
        "lip_border_lower": skin.ring_ids(Kind.LIP_LOWER, border),
    }


def _on_curve(mesh: HeadMesh, curve: Int[ndarray, "N"], point: Float[ndarray, "D"]) -> Embedding:
    """Closest point of a vertex curve, as a point on an edge of a skin triangle; seen from the front if D is 2."""
    p = mesh.vertices[curve, : len(point)]
    along = np.diff(p, axis=0)
    t = np.clip(((point - p[:-1]) * along).sum(1) / np.maximum((along * along).sum(1), 1e-12), 0, 1)
    k = int(np.linalg.norm(p[:-1] + t[:, None] * along - point, axis=1).argmin())
    a, b = curve[k], curve[k + 1]
    faces = mesh.skin.faces
    face = int(np.flatnonzero((faces == a).any(axis=1) & (faces == b).any(axis=1))[0])
    bary = np.where(mesh.faces[face] == a, 1 - t[k], np.where(mesh.faces[face] == b, t[k], 0.0))
    return Embedding(np.array([face]), bary[None])


def mediapipe(mesh: HeadMesh) -> tuple[Int[ndarray, "L"], Embedding]:
    """MediaPipe's 478 points: their numbers in its face mesh and where they lie on the head.

    Points of lids and lips keep to the lid edge, the line between the lips and the vermilion border; the irises
    (468-472 right, 473-477 left: centre, +x, top, -x, bottom) lie on the eyeballs.
    """
    curves = _curves(mesh)
    found: dict[int, Embedding] = {}
    d = mesh.skin.directions
    midline = np.flatnonzero((np.abs(d[:, 0]) < 1e-9) & (d[:, 2] > 0))
    midline = midline[np.argsort(-d[midline, 1])]
    on_face = np.flatnonzero((mesh.vertices[mesh.skin.faces][..., 2] > -30).all(axis=1))
    for point in _mediapipe_points():
        x, y, z = point.position
        if x < 0:
            continue
        if point.curve:
            e = _on_curve(mesh, curves[point.curve], np.array([x, y]))
        elif point.mirror == point.number:
            e = _on_curve(mesh, midline, np.array([x, y, z]))
        else:
            e = closest(np.array([[x, y, z]]), mesh.vertices, mesh.faces, on_face)
        found[point.number] = e
        if point.mirror != point.number:
            found[point.mirror] = mirrored(e, mesh.faces, mesh.mirror)
    left = np.flatnonzero((mesh.part[mesh.faces] == Part.LEFT_EYE).all(axis=1))
    right = np.flatnonzero((mesh.part[mesh.faces] == Part.RIGHT_EYE).all(axis=1))
    r = anatomy.IRIS_RADIUS
    z = anatomy.EYE_CENTRE[2] + np.sqrt(anatomy.EYE_RADIUS**2 - r * r)
    offsets = np.array([(0, 0, 84.0 - z), (r, 0, 0), (0, r, 0), (-r, 0, 0), (0, -r, 0)])
    for start, sign, faces in ((468, -1, right), (473, 1, left)):
        target = np.array([sign * anatomy.EYE_CENTRE[0], 0.0, z]) + offsets
        e = closest(target, mesh.vertices, mesh.faces, faces)
        for k in range(5):
            found[start + k] = Embedding(e.faces[k : k + 1], e.bary[k : k + 1])
    ids = np.array(sorted(found))
    parts = [found[i] for i in ids]
    return ids, Embedding(np.concatenate([e.faces for e in parts]), np.concatenate([e.bary for e in parts]))
