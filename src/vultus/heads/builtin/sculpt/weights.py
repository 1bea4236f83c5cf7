"""Skinning weights of the five joints and the joint regressor."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from . import anatomy
from .mesh import HeadMesh, Part
from .primitives import smoothstep
from .skin import Kind, edges_of, neighbour_mean

_LIP_Y = -65.3
_PINNED_LIP_RINGS = 4


def skinning_weights(mesh: HeadMesh) -> Float[ndarray, "V 5"]:
    """Weights in joint order; every row sums to 1."""
    jaw = _jaw_weights(mesh)
    y, z = mesh.vertices[:, 1], mesh.vertices[:, 2]
    head = smoothstep(-182, -118, y + 0.25 * (z + 25))
    w = np.zeros((len(jaw), 5))
    w[:, 0], w[:, 1], w[:, 2] = 1 - head, (1 - jaw) * head, jaw * head
    for part, joint in ((Part.LEFT_EYE, 3), (Part.RIGHT_EYE, 4)):
        w[mesh.part == part] = np.eye(5)[joint]
    for part, joint in ((Part.TEETH_UPPER, 1), (Part.TEETH_LOWER, 2), (Part.TONGUE, 2)):
        w[mesh.part == part] = np.eye(5)[joint]
    return w


CORNER_WEIGHT = 0.42
"""Share of the jaw's turn that the corners of the mouth follow."""


def mouth_profile(across: Float[ndarray, "N"]) -> Float[ndarray, "N"]:
    """How fully the lips part from each other with the jaw: 1 at the midline, 0 at the corners (``across`` = 1)."""
    return (1 - np.clip(across, 0, 1) ** 2) ** 0.6


def _jaw_weights(mesh: HeadMesh) -> Float[ndarray, "V"]:
    v = mesh.vertices
    x, y, z = np.abs(v[:, 0]), v[:, 1], v[:, 2]
    # Below the line from the jaw joint to the mouth corner, in front of the joint, above the throat.
    line = -17 - 48.5 * (z - 10) / 74
    w = smoothstep(-14, 16, line - y) * smoothstep(0, 26, z) * smoothstep(-134, -110, y + 0.198 * (80 - z))
    # Near the mouth the lips decide: upper 0, lower 1.
    d = np.hypot(0.9 * np.maximum(x - 20, 0), y - _LIP_Y)
    gain = np.exp(-((d / 11) ** 2)) * smoothstep(30, 22, x) * smoothstep(50, 70, z)
    by_height = smoothstep(_LIP_Y + 1.5, _LIP_Y - 1.5, y)
    target = np.where(mesh.side > 0, 0.0, np.where(mesh.side < 0, 1.0, by_height))
    w = w * (1 - gain) + target * gain

    def lip_weight(c: Float[ndarray, "N"], side: ndarray) -> Float[ndarray, "N"]:
        return np.where(
            side > 0,
            CORNER_WEIGHT * (1 - c),
            np.where(side < 0, CORNER_WEIGHT + (1 - CORNER_WEIGHT) * c, CORNER_WEIGHT),
        )

    skin_count = len(mesh.skin.vertices)
    on_lips = np.zeros(len(v), dtype=bool)
    kind = mesh.skin.kind
    on_lips[:skin_count] = np.isin(kind, (Kind.LIP_UPPER, Kind.LIP_LOWER)) & (mesh.skin.ring < _PINNED_LIP_RINGS)
    half_width = anatomy.MOUTH_HALF_WIDTH
    # An elliptic profile opens the mouth with round corners.
    across = np.clip(x / half_width, 0, 1)
    w[on_lips] = lip_weight(mouth_profile(across), mesh.side)[on_lips]
    bag = mesh.bag_rings
    hard = (0.0, 0.0, 0.25, 0.7, 1.0, 1.0, 1.0, 1.0)
    edge_weight = w[bag[0]]
    for k in range(1, len(bag)):
        inner = lip_weight((1 - across[bag[0]] ** 2) ** 0.4, mesh.side[bag[k]])
        w[bag[k]] = edge_weight * (1 - hard[k]) + inner * hard[k]
    bag_mask = mesh.part == Part.MOUTH_BAG
    pole = bag_mask.copy()
    pole[bag] = False
    w[pole] = CORNER_WEIGHT

    soft = mesh.is_part(Part.SKIN, Part.EAR, Part.LID) & ~on_lips
    edges = edges_of(mesh.faces[mesh.is_part(Part.SKIN, Part.EAR, Part.LID, Part.MOUTH_BAG)[mesh.faces].all(axis=1)])
    for _ in range(12):
        mean = neighbour_mean(w[:, None], edges)[:, 0]
        w[soft] = 0.4 * w[soft] + 0.6 * mean[soft]
    w[mesh.part == Part.EAR] = 0.0
    return np.clip(w, 0, 1)


def joint_regressor(mesh: HeadMesh, still: ndarray) -> Float[ndarray, "5 V"]:
    """Rows that give the rest joints from vertices, exact at the template; rows sum to 1.

    Each row is the smallest change of an even mean over its support that meets the joint's position. ``still`` marks
    vertices that no expression moves; only these are used, so that joints follow identity alone.
    """
    v = mesh.vertices
    y, z = v[:, 1], v[:, 2]
    surface = mesh.is_part(Part.SKIN) & still
    ear_base = np.zeros(len(v), dtype=bool)
    ear_base[: len(mesh.skin.vertices)] = mesh.skin.kind == Kind.EAR
    supports = (
        surface & (y < -160),
        surface & (np.abs(y + 118) < 12) & (z < 40),
        (ear_base | mesh.is_part(Part.EAR)) & still & (y > -45) & (y < 5),
        mesh.part == Part.LEFT_EYE,
        mesh.part == Part.RIGHT_EYE,
    )
    matrix = np.zeros((5, len(v)))
    for joint, support in enumerate(supports):
        ids = np.flatnonzero(support)
        constraints = np.column_stack([v[ids], np.full(len(ids), 50.0)])
        start = np.full(len(ids), 1.0 / len(ids))
        wanted = np.append(anatomy.JOINTS[joint], 50.0)
        matrix[joint, ids] = start + np.linalg.pinv(constraints.T) @ (wanted - constraints.T @ start)
    # Exactly mirror-symmetric: the pseudo-inverse rounds the two halves differently.
    swap = matrix[:, mesh.mirror]
    matrix[:3] = 0.5 * (matrix[:3] + swap[:3])
    matrix[4] = swap[3]
    return matrix
