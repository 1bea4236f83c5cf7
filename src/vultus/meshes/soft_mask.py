"""A mask that fades outside a mesh, so that pixels near its outline pull vertices.

Source: the soft silhouette of Chen et al., "Learning to Predict 3D Objects with an Interpolation-based Differentiable
Renderer" (DIB-R, 2019), with the constants and peculiarities that Gaussian Head Avatar was trained with.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.meshes.normals import face_normals
from vultus.meshes.rasterize import rasterize_mesh

_SMALLEST = 1e-12


def soft_mask(
    vertices: Float[Tensor, "*#B V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    sharpness: float = 7000.0,
    margin: float = 0.02,
    most: int = 30,
) -> Float[Tensor, "*B H W 1"]:
    """1 where the mesh covers a pixel's centre, elsewhere `1 - Π (1 - exp(-sharpness · d²))` over the faces near it.

    d is the distance to the nearest edge of the face, in units of half the image's size along each axis. Near are the
    faces whose bounding box, enlarged by `margin` of that unit on every side, holds the pixel's centre; of more than
    `most` of them those with the lowest indices count. Differentiable in vertices (metres, world) and camera, outside
    the mesh only.

    As in Gaussian Head Avatar, a face covers pixels only if its camera-space normal does not point along the viewing
    axis (whatever the direction in which that face is seen), while faces turned away still count as near. Faces that
    reach behind the camera, or are not finite, are left out.

    Raises VultusError as `rasterize_mesh` does.
    """
    batch = torch.broadcast_shapes(vertices.shape[:-2], camera.batch_shape)
    worlds = vertices.expand(*batch, *vertices.shape[-2:]).reshape(-1, *vertices.shape[-2:])
    cameras = Camera(
        camera.world_to_camera.expand(*batch, 4, 4).reshape(-1, 4, 4),
        camera.K.expand(*batch, 3, 3).reshape(-1, 3, 3),
        camera.width,
        camera.height,
    )
    masks = []
    for image, world in enumerate(worlds):
        points = cameras[image].to_camera(world)
        toward = face_normals(points.detach(), faces)[:, 2] <= 0
        covered = rasterize_mesh(world, faces[toward], cameras[image]).face_ids >= 0
        masks.append(_fading(points, faces, cameras[image], covered, sharpness, margin, most))
    return torch.stack(masks).reshape(*batch, camera.height, camera.width, 1)


def _fading(
    points: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    covered: Tensor,
    sharpness: float,
    margin: float,
    most: int,
) -> Float[Tensor, "H W"]:
    size = points.new_tensor([camera.width, camera.height])
    corners = points[faces]
    usable = ((corners[..., 2] > 0) & corners.isfinite().all(-1)).all(-1)
    corners = corners[usable]
    pixels = corners[..., :2] / corners[..., 2:] * camera.K[[0, 1], [0, 1]] + camera.K[:2, 2]
    triangles = 2 * pixels / size - 1
    with torch.no_grad():
        face, pixel = _near(triangles, covered, margin, most)
    x, y = pixel % camera.width, pixel // camera.width
    centers = (2 * torch.stack([x, y], dim=-1) + 1).to(points) / size - 1
    square = _square_distance(centers, triangles[face])
    # The product as a sum of logarithms; a pixel centre on an edge would give -inf.
    outside = torch.log(-torch.expm1(-(sharpness * square).clamp_min(_SMALLEST)))
    total = torch.zeros_like(covered.reshape(-1), dtype=points.dtype).index_add(0, pixel, outside)
    return torch.where(covered, torch.ones((), dtype=points.dtype), -torch.expm1(total).reshape(covered.shape))


def _near(
    triangles: Float[Tensor, "F 3 2"], covered: Tensor, margin: float, most: int
) -> tuple[Int[Tensor, "M"], Int[Tensor, "M"]]:
    """Faces and uncovered pixels that are near each other, at most so many faces per pixel."""
    height, width = covered.shape
    size = triangles.new_tensor([width, height])
    low = ((triangles.amin(1) - margin + 1) / 2 * size - 0.5).ceil().clamp_min(0)
    high = ((triangles.amax(1) + margin + 1) / 2 * size - 0.5).floor().minimum(size - 1)
    low, high = low.minimum(size).long(), high.clamp_min(-1).long()
    # How many uncovered pixels a box holds, from sums over the image's corners: most faces have none.
    sums = torch.nn.functional.pad((~covered).long().cumsum(0).cumsum(1), (1, 0, 1, 0))
    (left, top), (right, bottom) = low.T, (high + 1).maximum(low).T
    some = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left] > 0
    face = some.nonzero()[:, 0]
    columns = (right - left)[face]
    count = columns * (bottom - top)[face]
    owner = torch.arange(len(face), device=face.device).repeat_interleave(count)
    inside = torch.arange(len(owner), device=face.device) - (count.cumsum(0) - count)[owner]
    x = left[face][owner] + inside % columns[owner].clamp_min(1)
    y = top[face][owner] + inside // columns[owner].clamp_min(1)
    free = ~covered[y, x]
    pixel, face = (y * width + x)[free], face[owner][free]
    pixel, order = pixel.sort(stable=True)
    rank = torch.arange(len(pixel), device=pixel.device) - torch.searchsorted(pixel, pixel)
    return face[order][rank < most], pixel[rank < most]


def _square_distance(points: Float[Tensor, "M 2"], triangles: Float[Tensor, "M 3 2"]) -> Float[Tensor, "M"]:
    """To the nearest of a triangle's three edges."""
    start, along = triangles, triangles.roll(-1, dims=1) - triangles
    offset = points[:, None] - start
    length = (along * along).sum(-1).clamp_min(torch.finfo(points.dtype).tiny)
    place = ((offset * along).sum(-1) / length).clamp(0, 1)
    return (offset - place[..., None] * along).square().sum(-1).amin(-1)
