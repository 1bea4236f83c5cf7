"""Normals of triangle meshes; faces are counter-clockwise seen from outside."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def face_normals(
    vertices: Float[Tensor, "*B V 3"], faces: Int[Tensor, "F 3"], *, unit: bool = True
) -> Float[Tensor, "*B F 3"]:
    """Outward normals. With unit=False their length is twice the area of the face (square metres).

    Faces without area have the normal 0.
    """
    a, b, c = vertices[..., faces, :].unbind(-2)
    normals = torch.linalg.cross(b - a, c - a)
    return torch.nn.functional.normalize(normals, dim=-1, eps=1e-20) if unit else normals


def vertex_normals(vertices: Float[Tensor, "*B V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*B V 3"]:
    """Unit normals of vertices: the mean of the normals of their faces, weighted by area; 0 without faces."""
    weighted = face_normals(vertices, faces, unit=False)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(-2, faces[:, corner], weighted)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-20)
