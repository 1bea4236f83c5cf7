"""Linear blend skinning of the five joints in NumPy, for shapes that are defined by a pose."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from . import anatomy
from .primitives import Points

Rotations = dict[str, tuple[float, float, float]]


def blended_transforms(weights: Float[ndarray, "V 5"], rotations: Rotations) -> Float[ndarray, "V 4 4"]:
    """Rest to posed transform of every vertex, for axis-angle rotations (radians) about the template's joints."""
    joints = anatomy.JOINTS
    transforms = np.empty((5, 4, 4))
    for i, (name, parent) in enumerate(zip(anatomy.JOINT_NAMES, anatomy.JOINT_PARENTS, strict=True)):
        local = np.eye(4)
        local[:3, :3] = Rotation.from_rotvec(rotations.get(name, (0.0, 0.0, 0.0))).as_matrix()
        local[:3, 3] = joints[i] - (joints[parent] if parent >= 0 else 0.0)
        transforms[i] = local if parent < 0 else transforms[parent] @ local
    transforms[:, :3, 3] -= np.einsum("jab,jb->ja", transforms[:, :3, :3], joints)
    return np.einsum("vj,jab->vab", weights, transforms)


def posed(vertices: Points, weights: Float[ndarray, "V 5"], rotations: Rotations) -> Points:
    """Vertices (mm) after turning joints."""
    blended = blended_transforms(weights, rotations)
    return np.einsum("vab,vb->va", blended[:, :3, :3], vertices) + blended[:, :3, 3]


def rest_of(positions: Points, weights: Float[ndarray, "V 5"], rotations: Rotations) -> Points:
    """Rest vertices that the same joints carry to ``positions``: the inverse of `posed`."""
    blended = blended_transforms(weights, rotations)
    return np.linalg.solve(blended[:, :3, :3], (positions - blended[:, :3, 3])[..., None])[..., 0]
