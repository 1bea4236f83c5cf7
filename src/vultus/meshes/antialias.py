"""Silhouettes with fractional coverage, and with gradients to the vertices that make them.

The choice of a pixel's triangle has no gradient, so an image made with `interpolate` does not say how it would change
if an outline moved. Here neighbouring pixels on two sides of an outline are blended by where the outline passes between
their centres, which has a gradient. The idea is that of Laine et al., "Modular Primitives for High-Performance
Differentiable Rendering" (2020), section on antialiasing. Unlike there, the outline is looked for beyond the triangle
that the pixel shows: near an outline triangles are seen edge-on and are often narrower than a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.meshes.rasterize import MeshRaster, pixel_rays

BORDER, MANY = -1, -2
"""In `face_neighbors`: no other face has this edge; more than one other has."""
_LONGEST_WALK = 32


def face_neighbors(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    """The face on the other side of each edge; edge k of a face is the one opposite its corner k.

    BORDER where there is none, MANY where three or more faces meet. It depends on the topology only.
    """
    edges = torch.stack([faces[:, [1, 2]], faces[:, [2, 0]], faces[:, [0, 1]]], dim=1).long().sort(dim=-1).values
    low, high = edges.unbind(-1)
    # Faces with the same vertex twice are never drawn: each of their edges is one of its own.
    alone = -1 - torch.arange(low.numel(), device=faces.device).reshape(low.shape)
    keys = torch.where((low == high).any(-1, keepdim=True), alone, (low << 32) + high).reshape(-1)
    _, edge, count = keys.unique(return_inverse=True, return_counts=True)
    order = edge.argsort(stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    first = (count.cumsum(0) - count)[edge]
    other = order[(2 * first + 1 - place).clamp(0, max(len(order) - 1, 0))]  # the second of two, or the first
    count = count[edge]
    neighbor = torch.where(count == 2, other // 3, torch.where(count == 1, BORDER, MANY))
    return neighbor.reshape(-1, 3)


def antialias(
    image: Float[Tensor, "*B H W C"],
    raster: MeshRaster,
    vertices: Float[Tensor, "*#B V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    neighbors: Int[Tensor, "F 3"] | None = None,
) -> Float[Tensor, "*B H W C"]:
    """Blend pixels across the outlines of a mesh; differentiable in image, vertices (metres, world) and camera.

    Between the centres of two neighbouring pixels, the nearer one's surface may end at a share t of the way to the
    other: it then covers t - 1/2 of the farther pixel, or leaves 1/2 - t of its own uncovered. A surface ends at its
    border and where it turns away from the camera. Outlines nearer to upright are looked for between pixels of a row,
    the others between pixels of a column, so that each is counted once: the sum of an antialiased mask changes with
    the vertices as the area does.

    Not blended: surfaces that pass through each other, edges of three or more faces, what is thinner than a pixel.

    Args:
        image: any channels, drawn from `raster`; a background may be filled in already.
        raster: of these vertices, faces and camera.
        neighbors: `face_neighbors(faces)`, to save its time in a loop.
    """
    neighbors = face_neighbors(faces) if neighbors is None else neighbors
    batch, (height, width) = raster.face_ids.shape[:-2], raster.face_ids.shape[-2:]
    points = camera.to_camera(vertices).double()
    points = points.expand(*batch, *points.shape[-2:]).reshape(batch.numel(), *points.shape[-2:])
    K = camera.K.double().expand(*batch, 3, 3).reshape(-1, 3, 3)
    with torch.no_grad():
        pairs = _pairs(raster.face_ids.reshape(-1, height, width), raster.depth.reshape(-1, height, width))
        pairs = _ending_between(pairs, points, faces, neighbors, K, width, height)
    start, end = points[pairs.image, pairs.edge[:, 0]], points[pairs.image, pairs.edge[:, 1]]
    across = torch.linalg.cross(start, end - start)
    near, far = ((across * _rays_of(pixel, pairs.image, K, width, height)).sum(-1) for pixel in (pairs.near, pairs.far))
    share = (near / (near - far) - 0.5).to(image.dtype)[:, None]  # of the far pixel, or minus that of the near one
    flat = image.reshape(-1, image.shape[-1])
    difference = flat[pairs.near] - flat[pairs.far]
    flat = flat.index_add(0, torch.where(share[:, 0] > 0, pairs.far, pairs.near), share * difference)
    return flat.reshape(image.shape)


def outline_edges(
    raster: MeshRaster,
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    neighbors: Int[Tensor, "F 3"] | None = None,
) -> tuple[Int[Tensor, "M 2"], Float[Tensor, "M"]]:
    """Where a mesh ends against nothing: for every two neighbouring pixels between which it does, the edge (two
    vertices) that makes the outline there, and how far along it, 0 to 1, the outline passes between their centres.

    `raster` is of this mesh (metres, world) through this unbatched camera. Outlines are looked for as in `antialias`.
    """
    neighbors = face_neighbors(faces) if neighbors is None else neighbors
    height, width = raster.face_ids.shape
    points, K = camera.to_camera(vertices.detach()).double()[None], camera.K.double()[None]
    pairs = _pairs(raster.face_ids[None], raster.depth[None])
    pairs = _select(pairs, raster.face_ids.reshape(-1)[pairs.far] < 0, pairs.face, pairs.edge)
    pairs = _ending_between(pairs, points, faces, neighbors, K, width, height)
    start, end = points[0, pairs.edge[:, 0]], points[0, pairs.edge[:, 1]]
    # The edge passes through the plane of the eye and the two pixels' centres.
    across = torch.linalg.cross(*(_rays_of(pixel, pairs.image, K, width, height) for pixel in (pairs.near, pairs.far)))
    one, other = (across * start).sum(-1), (across * end).sum(-1)
    return pairs.edge, (one / (one - other)).nan_to_num(0.5).clamp(0, 1).to(vertices.dtype)


@dataclass(frozen=True)
class _Pairs:
    """Neighbouring pixels (numbers in the whole batch) that show different faces; `near`'s surface is the nearer.

    edge: the two vertices of the edge, between them, at which it ends (after `_ending_between`).
    """

    near: Int[Tensor, "M"]
    far: Int[Tensor, "M"]
    upright: Int[Tensor, "M"]
    """1 for two pixels of a row, 0 of a column."""
    face: Int[Tensor, "M"]
    image: Int[Tensor, "M"]
    edge: Int[Tensor, "M 2"]


def _pairs(face_ids: Int[Tensor, "B H W"], depth: Float[Tensor, "B H W"]) -> _Pairs:
    pixel = torch.arange(face_ids.numel(), device=face_ids.device).reshape(face_ids.shape)
    in_row = face_ids[:, :, 1:] != face_ids[:, :, :-1]
    in_column = face_ids[:, 1:] != face_ids[:, :-1]
    one = torch.cat([pixel[:, :, :-1][in_row], pixel[:, :-1][in_column]])
    two = torch.cat([pixel[:, :, 1:][in_row], pixel[:, 1:][in_column]])
    upright = (torch.arange(len(one), device=one.device) < in_row.sum()).long()
    z = torch.where(face_ids < 0, float("inf"), depth).reshape(-1)
    first = z[one] <= z[two]
    near, far = torch.where(first, one, two), torch.where(first, two, one)
    size = face_ids.shape[1] * face_ids.shape[2]
    face = face_ids.reshape(-1)[near]
    return _Pairs(near, far, upright, face, near // size, torch.zeros(len(near), 2, dtype=torch.int64).to(near))


def _ending_between(
    pairs: _Pairs,
    points: Float[Tensor, "B V 3"],
    faces: Int[Tensor, "F 3"],
    neighbors: Int[Tensor, "F 3"],
    K: Float[Tensor, "B 3 3"],
    width: int,
    height: int,
) -> _Pairs:
    """The pairs between whose centres the nearer surface ends, and the edges where: walk from face to face."""
    found = []
    for _ in range(_LONGEST_WALK):
        if not len(pairs.near):
            break
        corners = faces[pairs.face].long()
        triangle = points[pairs.image[:, None], corners]
        # Plane k holds the eye and the edge opposite corner k. A pixel's ray is inside where all are positive.
        planes = torch.linalg.cross(triangle[:, [1, 2, 0]], triangle[:, [2, 0, 1]] - triangle[:, [1, 2, 0]])
        planes = planes * (planes[:, 0] * triangle[:, 0]).sum(-1).sign()[:, None, None]
        near, far = (
            (planes @ _rays_of(pixel, pairs.image, K, width, height)[..., None])[..., 0]
            for pixel in (pairs.near, pairs.far)
        )
        place, exit_ = torch.where(far < 0, near / (near - far), float("inf")).min(dim=-1)
        row = torch.arange(len(exit_), device=exit_.device)
        plane, edge = planes[row, exit_], torch.stack([corners[row, exit_ - 2], corners[row, exit_ - 1]], dim=-1)
        beyond = neighbors[pairs.face, exit_]
        opposite = torch.where(beyond >= 0, faces[beyond.clamp(min=0)].long().sum(-1) - edge.sum(-1), 0)
        turned = (plane * points[pairs.image, opposite]).sum(-1) > 0  # the next face lies back under this one
        leaves = place.isfinite() & (beyond != MANY)
        slopes = plane[:, :2].abs() / K[pairs.image][:, [0, 1], [0, 1]].abs()
        fits = (slopes[:, 0] >= slopes[:, 1]) == pairs.upright.bool()
        ends = leaves & ((beyond == BORDER) | turned)
        found.append(_select(pairs, ends & fits, pairs.face, edge))
        pairs = _select(pairs, leaves & ~ends, beyond, edge)
    if not found:
        return pairs
    return _Pairs(*(torch.cat([getattr(part, name) for part in found]) for name in _Pairs.__dataclass_fields__))


def _select(pairs: _Pairs, keep: Tensor, face: Tensor, edge: Tensor) -> _Pairs:
    return _Pairs(pairs.near[keep], pairs.far[keep], pairs.upright[keep], face[keep], pairs.image[keep], edge[keep])


def _rays_of(pixel: Tensor, image: Tensor, K: Float[Tensor, "B 3 3"], width: int, height: int) -> Float[Tensor, "M 3"]:
    x, y = pixel % width, pixel // width % height
    return pixel_rays(x.to(K.dtype) + 0.5, y.to(K.dtype) + 0.5, K[image])
