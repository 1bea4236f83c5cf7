"""The mesh rasteriser on an NVIDIA GPU, as kernels of Warp (Apache-2.0), which also run on Warp's CPU device.

Imported only where Warp is wanted: `rasterize_mesh(backend="cuda")`.
"""

from __future__ import annotations

from typing import Any

import torch
import warp  # pyright: ignore[reportMissingImports]
from jaxtyping import Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.meshes import warp_kernels
from vultus.meshes.rasterize import NEAR, MeshRaster, refuse_unusable

wp: Any = warp  # whose annotations do not fit its own structures
wp.config.log_level = wp.LOG_WARNING  # no banner on the standard output
wp.init()


def draw_with_warp(
    vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"], camera: Camera, batch: torch.Size
) -> MeshRaster:
    """`rasterize_mesh` where the vertices are: on a GPU, or on Warp's CPU device. float32 tensors.

    camera: a batch of as many as there are meshes. batch: the shape that both are flattened from.
    """
    count, device = len(vertices), vertices.device
    size = (count, camera.height, camera.width)
    views, Ks = (t.to(device).contiguous() for t in (camera.world_to_camera, camera.K))
    refuse_unusable(views, Ks)
    vertices, triangles = vertices.contiguous(), faces.to(device, torch.int32).contiguous()
    face_ids = torch.empty(size, dtype=torch.int64, device=device)
    depths = torch.full(size, torch.inf, device=device)
    barycentric = torch.empty(*size, 3, device=device)
    found = torch.full(size, len(faces), dtype=torch.int32, device=device)
    place = wp.device_from_torch(device)
    with wp.ScopedDevice(place):
        # Warp's work goes into PyTorch's queue, so that neither waits for the other.
        stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if place.is_cuda else None
        edges = wp.empty((count, len(faces)), dtype=warp_kernels.Edges)
        boxes = wp.empty((count, len(faces)), dtype=wp.vec4i)
        depth_array, found_array = wp.from_torch(depths), wp.from_torch(found)
        if len(faces):
            scene = [
                wp.from_torch(vertices, dtype=wp.vec3f),
                wp.from_torch(triangles),
                wp.from_torch(views, dtype=wp.mat44f),
                wp.from_torch(Ks, dtype=wp.mat33f),
                camera.width,
                camera.height,
                NEAR,
            ]
            wp.launch(warp_kernels.set_up, (count, len(faces)), inputs=scene, outputs=[edges, boxes], stream=stream)
            strips = (count, len(faces), -(-camera.height // warp_kernels.ROWS))
            inputs = [edges, boxes, NEAR, depth_array]
            wp.launch(warp_kernels.nearest_depths, strips, inputs=inputs, stream=stream)
            wp.launch(warp_kernels.lowest_faces, strips, inputs=inputs, outputs=[found_array], stream=stream)
        outputs = [depth_array, wp.from_torch(face_ids), wp.from_torch(barycentric, dtype=wp.vec3f)]
        wp.launch(warp_kernels.finish, size, inputs=[edges, len(faces), found_array], outputs=outputs, stream=stream)
    shape = (*batch, camera.height, camera.width)
    return MeshRaster(face_ids.reshape(shape), barycentric.reshape(*shape, 3), depths.reshape(shape))


def draw_on_gpu(
    vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"], camera: Camera, batch: torch.Size
) -> MeshRaster:
    """`draw_with_warp` of tensors on a GPU; raises VultusError for others."""
    if not vertices.is_cuda:
        raise VultusError(
            f"the cuda backend draws meshes on a GPU, but the vertices are on {vertices.device}; "
            "move them with .to('cuda'), or choose backend='cpu'"
        )
    return draw_with_warp(vertices, faces, camera, batch)
