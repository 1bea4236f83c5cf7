"""Mathematics of triangle meshes: drawing, interpolation, normals, closest points."""

from vultus.meshes.antialias import antialias, face_neighbors, outline_edges
from vultus.meshes.closest import ClosestPoints, closest_points, signed_distance
from vultus.meshes.normals import face_normals, vertex_normals
from vultus.meshes.rasterize import MeshRaster, barycentric_at, interpolate, rasterize_mesh
from vultus.meshes.soft_mask import soft_mask

__all__ = [
    "ClosestPoints",
    "MeshRaster",
    "antialias",
    "barycentric_at",
    "closest_points",
    "face_neighbors",
    "face_normals",
    "interpolate",
    "outline_edges",
    "rasterize_mesh",
    "signed_distance",
    "soft_mask",
    "vertex_normals",
]
