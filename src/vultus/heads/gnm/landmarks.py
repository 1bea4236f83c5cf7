"""`head_sparse_68.txt`: landmarks as three vertices and their weights each, one per line."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.errors import VultusError
from vultus.heads.model import LandmarkSet

_MAX_BYTES = 1 << 20
_MAX_STEP = 2.2
"""A step along the jaw longer than this many median ones means that landmarks are out of order."""
_JAW_REVERSED = (0, 1, 6, 5, 4, 3, 2)


def read_sparse_landmarks(path: Path, template: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> LandmarkSet:
    """The 68 landmarks (iBUG order). The first published file has points 2 to 6 in reverse order, which is corrected
    with a warning.

    Raises:
        VultusError: unreadable, not 68 lines of three vertices and weights, or of another mesh.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise VultusError(f"{path}: is too large for a list of landmarks")
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
        values = np.array(rows, dtype=np.float64)
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise VultusError(f"{path}: is not a table of landmarks: {error}") from error
    if values.shape != (68, 6) or not np.isfinite(values).all():
        raise VultusError(f"{path}: holds {values.shape} numbers instead of 68 lines of six")
    vertices, weights = values[:, ::2], values[:, 1::2]
    if (vertices != vertices.round()).any() or vertices.min() < 0 or vertices.max() >= len(template):
        raise VultusError(f"{path}: names vertices outside 0…{len(template) - 1}; it belongs to another mesh")
    if np.abs(weights.sum(1) - 1).max() > 2e-3:
        raise VultusError(f"{path}: its weights do not sum to 1")
    marks = attached(template, faces, torch.from_numpy(vertices).long(), torch.from_numpy(weights).float())
    points = (template[faces[marks.faces]] * marks.barycentric[..., None]).sum(1)
    steps = (points[1:17] - points[:16]).norm(dim=-1)
    if steps[1] > _MAX_STEP * steps.median():
        warnings.warn(f"{path}: landmarks 2 to 6 are in reverse order, as first published; corrected", stacklevel=2)
        order = torch.tensor([*_JAW_REVERSED, *range(7, 68)])
        marks = LandmarkSet(marks.ids, marks.faces[order], marks.barycentric[order])
    return marks


def attached(
    template: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    vertices: Int[Tensor, "L 3"],
    weights: Float[Tensor, "L 3"],
) -> LandmarkSet:
    """Landmarks given by three vertices each, on triangles: the one with these corners, else, of the triangles around
    the heaviest vertex, the one that comes closest on the template."""
    chosen, places = [], []
    for corners, weight in zip(vertices, weights, strict=True):
        around = torch.nonzero((faces == corners[weight.argmax()]).any(1))[:, 0]
        if len(around) == 0:
            raise VultusError(
                f"no triangle has vertex {int(corners[weight.argmax()])}; the landmarks are another mesh's"
            )
        same = around[(faces[around].sort(1).values == corners.sort().values).all(1)]
        if len(same):
            match = faces[same[0]][:, None] == corners
            chosen.append(int(same[0]))
            places.append((match * weight).sum(1))
            continue
        point = (template[corners] * weight[:, None]).sum(0)
        a, b, c = template[faces[around]].unbind(1)
        system = torch.stack([b - a, c - a], -1)
        uv = torch.linalg.lstsq(system, (point - a)[..., None]).solution[..., 0].clamp(0, 1)
        uv = uv / uv.sum(-1, keepdim=True).clamp_min(1)
        inside = torch.cat([1 - uv.sum(-1, keepdim=True), uv], -1)
        reached = (template[faces[around]] * inside[..., None]).sum(1)
        best = int((reached - point).norm(dim=-1).argmin())
        chosen.append(int(around[best]))
        places.append(inside[best])
    return LandmarkSet(torch.arange(len(vertices)), torch.tensor(chosen), torch.stack(places))
