"""Mathematics of triangle meshes: drawing, interpolation, normals, closest points."""

from vultus.meshes.closest import ClosestPoints, closest_points
from vultus.meshes.normals import face_normals, vertex_normals
from vultus.meshes.rasterize import MeshRaster, barycentric_at, interpolate, rasterize_mesh

__all__ = [
    "ClosestPoints",
    "MeshRaster",
    "barycentric_at",
    "closest_points",
    "face_normals",
    "interpolate",
    "rasterize_mesh",
    "vertex_normals",
]
