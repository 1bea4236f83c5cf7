"""Which triangle does a pixel show, and where in it: z-buffer rasterisation with differentiable interpolation.

The choice of the triangle has no gradient. `barycentric_at` recomputes the coordinates inside the chosen triangles by
tensor algebra, so that colours and positions interpolated with them have gradients to vertices and camera.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Callable
from ctypes import byref, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus import kernels
from vultus.cameras import Camera
from vultus.errors import VultusError

NEAR = 0.01
"""Surfaces closer to the camera than this (metres) are not drawn."""
_UNUSABLE = "the camera cannot be used: its matrices hold numbers that are not finite, or focal length 0"


@dataclass(frozen=True)
class MeshRaster:
    """face_ids: index of the visible face, -1 where there is none. barycentric: perspective-correct weights of its
    corners. depth: camera-space z of the surface, metres. Both are 0 where there is no face. No gradients."""

    face_ids: Int[Tensor, "*B H W"]
    barycentric: Float[Tensor, "*B H W 3"]
    depth: Float[Tensor, "*B H W"]


class _Scene(ctypes.Structure):  # kernels/source/meshes.h
    _fields_ = (
        ("vertices", c_int64),
        ("faces", c_int64),
        ("width", c_int32),
        ("height", c_int32),
        ("threads", c_int32),
        ("near", c_float),
        ("positions", c_void_p),
        ("triangles", c_void_p),
        ("view", c_void_p),
        ("intrinsics", c_void_p),
    )


class _Image(ctypes.Structure):
    _fields_ = (("face", c_void_p), ("barycentric", c_void_p), ("depth", c_void_p))


def rasterize_mesh(
    vertices: Float[Tensor, "*#B V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    backend: Literal["auto", "cpu", "cuda", "reference"] = "auto",
) -> MeshRaster:
    """Draw a mesh through a camera: both sides of every face, nearest first, the lower face index where equally near.

    vertices in world coordinates (metres); batches of vertices and cameras broadcast. Faces with a vertex that is not
    finite, or with the same vertex twice, are left out. The result is where the vertices are. auto: cuda for vertices
    on a GPU if Warp is installed, else the CPU, to which tensors are copied. Raises VultusError for faces that name
    missing vertices, for cameras that cannot be used and for backends that cannot run here.
    """
    if camera.width <= 0 or camera.height <= 0:
        raise VultusError(f"the camera's image size is {camera.width} x {camera.height}; both must be at least 1")
    if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < vertices.shape[-2]:
        raise VultusError(
            f"the faces name vertices {int(faces.min())} to {int(faces.max())}, but there are {vertices.shape[-2]}"
        )
    try:
        batch = torch.broadcast_shapes(vertices.shape[:-2], camera.batch_shape)
    except RuntimeError as error:
        raise VultusError(f"batches of vertices and cameras do not fit together: {error}") from None
    if not batch.numel():
        raise VultusError("the batch of cameras or meshes is empty; there is no image to draw")
    positions = vertices.detach().float().expand(*batch, -1, -1).reshape(batch.numel(), *vertices.shape[-2:])
    views = camera.world_to_camera.detach().float().expand(*batch, 4, 4).reshape(-1, 4, 4)
    Ks = camera.K.detach().float().expand(*batch, 3, 3).reshape(-1, 3, 3)
    draw = _implementation(_choose(vertices) if backend == "auto" else backend)
    return draw(positions, faces, replace(camera, world_to_camera=views, K=Ks), batch)


Implementation = Callable[[Float[Tensor, "B V 3"], Int[Tensor, "F 3"], Camera, torch.Size], MeshRaster]
"""Draws meshes through as many cameras; the last argument is the shape that both are flattened from."""


def _choose(vertices: Tensor) -> str:
    if vertices.is_cuda and importlib.util.find_spec("warp") is not None:
        return "cuda"
    return "cpu" if kernels.status().available else "reference"


def _implementation(backend: str) -> Implementation:
    if backend == "cpu":
        return functools.partial(_draw_each, _draw_compiled)
    if backend == "reference":
        return functools.partial(_draw_each, draw_reference)
    if backend != "cuda":
        raise VultusError(f"unknown mesh rasteriser {backend!r}; choose auto, cpu, cuda or reference")
    if importlib.util.find_spec("warp") is None:
        raise VultusError("the cuda backend of meshes needs Warp: pip install 'vultus[cuda]' (an NVIDIA GPU)")
    from vultus.meshes.cuda import draw_on_gpu

    return draw_on_gpu


def _draw_each(
    draw: Callable[[Tensor, Tensor, Camera], MeshRaster],
    vertices: Float[Tensor, "B V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    batch: torch.Size,
) -> MeshRaster:
    """One image after the other on the CPU."""
    device, faces = vertices.device, faces.cpu()
    views, Ks = camera.world_to_camera.cpu(), camera.K.cpu()
    images = [
        draw(position, faces, replace(camera, world_to_camera=view, K=K))
        for position, view, K in zip(vertices.cpu(), views, Ks, strict=True)
    ]
    size = (camera.height, camera.width)
    return MeshRaster(
        torch.stack([image.face_ids for image in images]).reshape(*batch, *size).to(device),
        torch.stack([image.barycentric for image in images]).reshape(*batch, *size, 3).to(device),
        torch.stack([image.depth for image in images]).reshape(*batch, *size).to(device),
    )


def _draw_compiled(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], camera: Camera) -> MeshRaster:
    tensors = [
        vertices.contiguous(),
        faces.long().contiguous(),
        camera.world_to_camera.contiguous(),
        camera.K.contiguous(),
    ]
    size = (camera.height, camera.width)
    raster = MeshRaster(torch.empty(size, dtype=torch.int64), torch.empty(*size, 3), torch.empty(size))
    scene = _Scene(
        len(vertices),
        len(faces),
        camera.width,
        camera.height,
        torch.get_num_threads(),
        NEAR,
        *(t.data_ptr() for t in tensors),
    )
    image = _Image(raster.face_ids.data_ptr(), raster.barycentric.data_ptr(), raster.depth.data_ptr())
    error = kernels.load().vultus_draw_mesh(byref(scene), byref(image))
    if error == 1:
        raise MemoryError("the mesh rasteriser ran out of memory")
    if error:
        raise VultusError(_UNUSABLE)
    return raster


def draw_reference(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], camera: Camera) -> MeshRaster:
    """The same by brute force: every pixel against every face, one face after the other, in float64."""
    view, K = camera.world_to_camera.double(), camera.K.double()
    refuse_unusable(view, K)
    points = vertices.double() @ view[:3, :3].T + view[:3, 3]
    y, x = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    rays = pixel_rays(x.double(), y.double(), K)
    face_ids = torch.full((camera.height, camera.width), -1)
    depth = torch.full((camera.height, camera.width), float("inf"))
    barycentric = torch.zeros(camera.height, camera.width, 3)
    for index, face in enumerate(faces.tolist()):
        corners = points[face]
        if len(set(face)) < 3 or not corners.isfinite().all():
            continue
        weights = torch.stack([rays @ torch.linalg.cross(corners[i - 2], corners[i - 1]) for i in range(3)], dim=-1)
        inside = (weights >= 0).all(-1) | (weights <= 0).all(-1)
        total = weights.sum(-1)
        z = ((weights @ corners[:, 2]) / total).float()
        nearer = inside & (total != 0) & (z >= NEAR) & (z < depth)
        depth[nearer], face_ids[nearer] = z[nearer], index
        barycentric[nearer] = (weights / total[..., None])[nearer].float()
    depth[face_ids < 0] = 0
    return MeshRaster(face_ids, barycentric, depth)


def refuse_unusable(views: Float[Tensor, "*B 4 4"], Ks: Float[Tensor, "*B 3 3"]) -> None:
    """Raises VultusError for matrices that are not finite and for focal length 0."""
    focal = Ks[..., 0, 0] * Ks[..., 1, 1]
    if not bool(views.isfinite().all() and Ks.isfinite().all() and (focal != 0).all()):
        raise VultusError(_UNUSABLE)


def pixel_rays(x: Tensor, y: Tensor, K: Float[Tensor, "*#B 3 3"]) -> Float[Tensor, "*B 3"]:
    """Camera-space directions (z = 1) of the image points (x, y), pixels."""
    u, v = (x - K[..., 0, 2]) / K[..., 0, 0], (y - K[..., 1, 2]) / K[..., 1, 1]
    return torch.stack([u, v, torch.ones_like(u)], dim=-1)


def barycentric_at(
    vertices: Float[Tensor, "*#B V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    face_ids: Int[Tensor, "*B H W"],
) -> Float[Tensor, "*B H W 3"]:
    """The barycentric coordinates of every pixel centre in the face it shows, differentiable in vertices and camera.

    0 where face_ids is -1. Equal to MeshRaster.barycentric up to float32 rounding.
    """
    batch = face_ids.shape[:-2]
    covered = face_ids >= 0
    image, row, column = covered.reshape(-1, *face_ids.shape[-2:]).nonzero(as_tuple=True)
    corners = faces[face_ids[covered]].long()
    points = camera.to_camera(vertices)
    points = points.expand(*batch, *points.shape[-2:]).reshape(batch.numel(), *points.shape[-2:])
    K = camera.K.expand(*batch, 3, 3).reshape(-1, 3, 3)[image]
    triangle = points[image[:, None], corners]
    rays = pixel_rays(column.to(points.dtype) + 0.5, row.to(points.dtype) + 0.5, K)
    # Offsets from the first corner keep the digits that a cross product of far points would lose.
    origin, edge1, edge2 = triangle[:, 0], triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0]
    across = torch.linalg.cross(rays, edge2)
    volume = (edge1 * across).sum(-1)
    second = -(origin * across).sum(-1) / volume
    third = -(rays * torch.linalg.cross(origin, edge1)).sum(-1) / volume
    weights = torch.stack([1 - second - third, second, third], dim=-1)
    result = weights.new_zeros(*face_ids.shape, 3)
    return result.masked_scatter(covered[..., None], weights)


def interpolate(
    attributes: Float[Tensor, "*#B V C"],
    faces: Int[Tensor, "F 3"],
    face_ids: Int[Tensor, "*B H W"],
    barycentric: Float[Tensor, "*B H W 3"],
) -> Float[Tensor, "*B H W C"]:
    """Per-vertex attributes at every pixel, differentiable in attributes and barycentric; 0 where there is no face."""
    batch, covered = face_ids.shape[:-2], face_ids >= 0
    image = covered.reshape(-1, *face_ids.shape[-2:]).nonzero(as_tuple=True)[0]
    values = attributes.expand(*batch, *attributes.shape[-2:]).reshape(batch.numel(), *attributes.shape[-2:])
    corners = values[image[:, None], faces[face_ids[covered]].long()]
    inside = (barycentric[covered][..., None] * corners).sum(-2)
    result = inside.new_zeros(*face_ids.shape, attributes.shape[-1])
    return result.masked_scatter(covered[..., None], inside)
