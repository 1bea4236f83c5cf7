"""Hair has volume that no head model has: a smooth offset of the scalp makes the mesh reach the matte's outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from scipy import sparse
from scipy.sparse.linalg import spsolve
from torch import Tensor

from vultus.cameras import Camera
from vultus.heads import SkinnedHead
from vultus.meshes import rasterize_mesh, vertex_normals
from vultus.motion import HeadParams

_OUTWARD, _INWARD = 0.10, 0.015
_GRAZING = 0.35
_STIFFNESS, _SYMMETRY, _ANCHOR = 0.5, 0.1, 20.0
_ROUNDS = 5


@dataclass(frozen=True)
class Silhouette:
    """The person's matte in part of a frame, with the camera of that part and the frame's head (no batch)."""

    mask: Float32[np.ndarray, "H W"]
    camera: Camera
    params: HeadParams


def fit_hair_offset(
    head: SkinnedHead, silhouettes: Sequence[Silhouette], under: Float[Tensor, "V 3"] | None = None
) -> Float[Tensor, "V 3"] | None:
    """Displacement of the rest vertices (metres): `under`, and along normals nought off the scalp and smooth on it.

    Where the scalp is seen edge-on, its distance from the matte's outline is measured along the normal; between these
    places the offset is as smooth as the mesh's Laplacian makes it, and roughly mirror-symmetric, since one view shows
    only an outline. Every third silhouette is held out. None where the head has no scalp, nothing could be measured, or
    the held-out silhouettes (of a photo, the only one) are not matched better.
    """
    free = _free_share(head)
    if free is None or not silhouettes:
        return None
    held_out = silhouettes[2::3] or silhouettes
    used = [item for item in silhouettes if not any(item is other for other in held_out)] or silhouettes
    height = np.zeros(len(free))
    rest = used[0].params
    normals = vertex_normals(head.rest_vertices(replace(rest, offset=under)), head.faces)
    base = torch.zeros_like(normals) if under is None else under
    for _ in range(_ROUNDS):
        offset = base + torch.from_numpy(height).float()[:, None] * normals
        rows, distances = [], []
        for silhouette in used:
            found, distance = _measure(head, silhouette, offset, free)
            rows.append(found)
            distances.append(distance + height[found])
        if not sum(map(len, rows)):
            return None
        height = _spread(head, np.concatenate(rows), np.concatenate(distances), free, len(used))
    offset = base + torch.from_numpy(height).float()[:, None] * normals
    before = np.mean([outline_overlap(head, item, under) for item in held_out])
    after = np.mean([outline_overlap(head, item, offset) for item in held_out])
    return offset if after > before + 0.002 else None


def outline_overlap(head: SkinnedHead, silhouette: Silhouette, offset: Float[Tensor, "V 3"] | None) -> float:
    """Intersection over union of mesh and matte above the chin."""
    vertices = head.pose(replace(silhouette.params, offset=offset)).vertices
    drawn = (rasterize_mesh(vertices, head.faces, silhouette.camera).face_ids >= 0).numpy()
    face = silhouette.camera.project(vertices[head.regions["face"]]).numpy()
    last = int(np.clip(0.5 * face[:, 1].max() + 0.5 * face[:, 1].mean(), 1, drawn.shape[0]))
    drawn, seen = drawn[:last], silhouette.mask[:last] > 0.5
    return float((drawn & seen).sum() / max((drawn | seen).sum(), 1))


def _free_share(head: SkinnedHead) -> Float64[np.ndarray, "V"] | None:
    """How free each vertex is to move, in [0, 1]: the hair's share where the head says it, else its scalp."""
    weight = head.attributes.get("hair_weight")
    if weight is not None:
        return weight.double().numpy()
    if "scalp" not in head.regions:
        return None
    share = np.zeros(len(head.v_template))
    share[head.regions["scalp"].numpy()] = 1.0
    return share


def _measure(
    head: SkinnedHead, silhouette: Silhouette, offset: Float[Tensor, "V 3"], free: Float64[np.ndarray, "V"]
) -> tuple[np.ndarray, np.ndarray]:
    """Scalp vertices on the mesh's outline, and how far (metres) the matte's outline lies beyond each."""
    camera, mask = silhouette.camera, silhouette.mask
    vertices = head.pose(replace(silhouette.params, offset=offset)).vertices
    normals = vertex_normals(vertices, head.faces)
    seen = camera.to_camera(vertices)
    direction = normals @ camera.world_to_camera[:3, :3].T
    facing = (direction * torch.nn.functional.normalize(seen, dim=-1)).sum(-1).abs()
    pixels = camera.project(vertices).double().numpy()
    planar = direction[:, :2].double().numpy()
    planar /= np.maximum(np.linalg.norm(planar, axis=1, keepdims=True), 1e-9)
    drawn = (rasterize_mesh(vertices, head.faces, camera).face_ids >= 0).numpy()
    pixel_size = (seen[:, 2] / camera.K[0, 0]).double().numpy()
    beyond = pixels + planar * (0.006 / pixel_size)[:, None]
    rows = np.flatnonzero((free > 0.5) & (facing.numpy() < _GRAZING) & ~(_sample(drawn, beyond) > 0.5))
    found, distances = [], []
    for row in rows:
        steps = np.arange(-_INWARD, _OUTWARD, 0.5 * pixel_size[row])
        values = _sample(mask, pixels[row] + np.outer(steps / pixel_size[row], planar[row]))
        outside = np.flatnonzero(~(values > 0.5))
        # Beginning inside the person and ending outside: else another object touches, or the picture ends.
        if len(outside) and values[0] > 0.5 and np.isfinite(values[outside[0]]):
            found.append(row)
            distances.append(steps[outside[0]])
    return np.array(found, int), np.array(distances)


def _sample(image: np.ndarray, points: Float64[np.ndarray, "N 2"]) -> Float64[np.ndarray, "N"]:
    """Values of the pixels that hold the points, NaN outside."""
    x, y = np.floor(points).astype(int).T
    inside = (x >= 0) & (x < image.shape[1]) & (y >= 0) & (y < image.shape[0])
    values = np.full(len(points), np.nan)
    values[inside] = image[y[inside], x[inside]]
    return values


def _spread(
    head: SkinnedHead,
    rows: np.ndarray,
    distances: Float64[np.ndarray, "M"],
    free: Float64[np.ndarray, "V"],
    views: int,
) -> Float64[np.ndarray, "V"]:
    """Heights of all vertices from those measured: least squares with smoothness along edges, symmetry and anchors."""
    count = len(free)
    faces = head.faces.numpy()
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0)
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), (count, count)).tocsr()
    graph = graph + graph.T
    laplacian = sparse.diags(np.asarray(graph.sum(1)).ravel()) - graph
    measured = np.bincount(rows, minlength=count) / views
    system = sparse.diags(measured + _ANCHOR * (1 - free) ** 2 + 1e-6) + _STIFFNESS * laplacian
    right = np.bincount(rows, distances, minlength=count) / views
    mirror = head.attributes.get("mirror_vertices")
    if mirror is not None:
        swap = sparse.coo_matrix((np.ones(count), (np.arange(count), mirror.numpy())), (count, count)).tocsr()
        difference = sparse.identity(count) - swap
        system = system + _SYMMETRY * (difference.T @ difference) / 2
    return np.asarray(spsolve(system.tocsc(), right))
