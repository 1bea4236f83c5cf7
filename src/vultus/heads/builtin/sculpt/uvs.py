"""The texture atlas: the skin's sphere chart above, the other parts' discs and strips in a band below."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from . import chart, rings
from .mesh import HeadMesh, Patch
from .skin import Kind

BAND = 0.22
"""Height of the lower band of the atlas."""

# Cells of the band: u, v of the lower left corner, width, height.
_CELLS = {
    "left_eyeball": (0.005, 0.005, 0.205, 0.205), "right_eyeball": (0.215, 0.005, 0.205, 0.205),
    "left_ear": (0.425, 0.005, 0.145, 0.205), "right_ear": (0.575, 0.005, 0.145, 0.205),
    "teeth_upper": (0.725, 0.150, 0.27, 0.06), "teeth_lower": (0.725, 0.085, 0.27, 0.06),
    "mouth_bag": (0.725, 0.005, 0.08, 0.075), "tongue": (0.81, 0.005, 0.075, 0.075),
    "left_lid": (0.89, 0.005, 0.05, 0.075), "right_lid": (0.945, 0.005, 0.05, 0.075),
}  # fmt: skip


def skin_uv(directions: Float[ndarray, "N 3"]) -> Float[ndarray, "N 2"]:
    """Atlas position of chart directions; the face is magnified. The back of the head is at u = 0 and 1."""
    lon, lat = chart.longitude(directions), chart.latitude(directions)
    u = 0.5 + (lon + 0.45 * np.sin(lon)) / (2 * np.pi)
    v = BAND + (1 - BAND) * (lat - chart.BOTTOM_LATITUDE) / (90 - chart.BOTTOM_LATITUDE)
    return np.stack([u, v], axis=1)


def _patch_uv(patch: Patch) -> Float[ndarray, "T 2"]:
    """Positions of a patch's texture slots in its cell."""
    rows, columns = patch.grid.shape
    u0, v0, width, height = _CELLS[patch.name]
    if patch.chart == "tube":
        # Along the arch from one end to the other, around the section upward.
        u = np.r_[np.repeat((np.arange(rows) + 1) / (rows + 1), columns + 1), np.zeros(columns), np.ones(columns)]
        around = np.arange(columns + 1) / columns
        v = np.r_[np.tile(around, rows), np.tile((np.arange(columns) + 0.5) / columns, 2)]
        return np.stack([u0 + width * u, v0 + height * v], axis=1)
    steps = np.arange(rows, dtype=float)
    inner = rows - 1 + (1.0 if patch.last is not None else 1.5)
    radius = 1 - steps / inner if patch.first is None else 1 - (steps + 1) / (inner + 1)
    angle = np.arange(columns + 1) / columns * 2 * np.pi
    circle = np.stack([np.cos(angle[:-1]), np.sin(angle[:-1])], axis=-1)
    # An outer pole is drawn apart into as many points as it has triangles.
    between = angle[:-1] + np.pi / columns
    rim = np.stack([np.cos(between), np.sin(between)], axis=-1)
    flat = np.concatenate([(radius[:, None, None] * circle).reshape(-1, 2), rim, [[0.0, 0.0]]])
    return np.stack([u0 + width * (0.5 + 0.5 * flat[:, 0]), v0 + height * (0.5 + 0.5 * flat[:, 1])], axis=1)


def _signed_area(uv: Float[ndarray, "T 2"], faces: Int[ndarray, "F 3"]) -> float:
    a, b, c = (uv[faces[:, k]] for k in range(3))
    return float(((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])).sum())


def atlas(mesh: HeadMesh) -> tuple[Float[ndarray, "T 2"], Int[ndarray, "F 3"]]:
    """Texture vertices (v up, in [0, 1]) and their triangles, in the order of the mesh's faces."""
    skin = mesh.skin
    uv = _straightened(mesh, skin_uv(skin.directions))
    n, count = len(skin.vertices), len(skin.faces)
    faces = mesh.faces[:count].copy()
    # The back of the head is cut along the midline; the right side's copies sit at u = 0.
    back = (np.abs(skin.directions[:, 0]) < 1e-9) & (skin.directions[:, 2] < 0)
    uv[back, 0] = 1.0
    right = skin.directions[faces].mean(axis=1)[:, 0] < 0
    copies = np.full(n, -1)
    copies[back] = n + np.arange(back.sum())
    seam = back[faces] & right[:, None]
    faces[seam] = copies[faces[seam]]
    parts = [uv, uv[back] * [0.0, 1.0]]
    total = n + int(back.sum())
    # The crown is one vertex: each of its triangles gets its own copy in the middle of its other two corners.
    pole = int(np.argmax(skin.directions[:, 1]))
    crown = np.flatnonzero((mesh.faces[:count] == pole).any(axis=1))
    flat = np.concatenate(parts)
    for k, f in enumerate(crown):
        corner = int(np.flatnonzero(mesh.faces[f] == pole)[0])
        others = flat[np.delete(faces[f], corner)]
        parts.append(np.array([[others[:, 0].mean(), 1.0]]))
        faces[f, corner] = total + k
    total += len(crown)
    out = [faces]
    for patch, ids in zip(mesh.patches, mesh.patch_faces, strict=True):
        slots = patch.slots()
        vertex = patch.slot_vertices()
        # The mesh may have turned a triangle over after it was made from the patch.
        turned = (vertex[slots] != mesh.faces[ids]).any(axis=1)
        slots[turned] = slots[turned][:, [0, 2, 1]]
        place = _patch_uv(patch)
        if _signed_area(place, slots) < 0:  # keep every chart the right way round
            u0, _, width, _ = _CELLS[patch.name]
            place[:, 0] = 2 * u0 + width - place[:, 0]
        out.append(slots + total)
        parts.append(place)
        total += len(parts[-1])
    return np.clip(np.concatenate(parts), 0, 1), np.concatenate(out).astype(np.int32)


def _straightened(mesh: HeadMesh, uv: Float[ndarray, "V 2"]) -> Float[ndarray, "V 2"]:
    """Lays the lips' columns out evenly between the lip line (a narrow lens) and the outermost mouth ring."""
    skin = mesh.skin
    last = rings.MOUTH_RINGS - 1
    for kind, sign in ((Kind.LIP_UPPER, 1.0), (Kind.LIP_LOWER, -1.0)):
        columns = [skin.ring_ids(kind, k) for k in range(last + 1)]
        outer, corner = uv[columns[last]], uv[columns[last][0]]
        middle_v = uv[skin.ring_ids(Kind.LIP_UPPER, 0)[0], 1]
        reach = (outer[:, 0] - 0.5) / (corner[0] - 0.5)
        line = np.stack(
            [0.5 + (outer[:, 0] - 0.5) * 0.74, middle_v + sign * 0.008 * np.sqrt(np.clip(1 - reach**2, 0, 1))], axis=1
        )
        depth = np.r_[np.array(rings.LIP_FRACTIONS) * 9.5, 9.5 + np.array(rings.MOUTH_OFFSETS)]
        for k, fraction in enumerate(depth / depth[-1]):
            uv[columns[k]] = line * (1 - fraction) + outer * fraction
    for k in range(last + 1):
        for kind in (Kind.LIP_UPPER, Kind.LIP_LOWER):
            ids = skin.ring_ids(kind, k)
            uv[skin.mirror[ids]] = uv[ids] * [-1, 1] + [1, 0]
            on_midline = ids[skin.mirror[ids] == ids]
            uv[on_midline, 0] = 0.5
    return uv
