"""Landmarks that are vertices of a mesh."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from vultus.errors import VultusError
from vultus.heads.model import LandmarkSet


def vertex_landmarks(faces: Int[Tensor, "F 3"], vertices: Sequence[int], ids: range) -> LandmarkSet:
    """Landmarks that are vertices, as corners of the first triangle that has them.

    Raises VultusError: a vertex that no triangle has.
    """
    wanted = torch.tensor(list(vertices))
    if wanted.max() > faces.max() or not bool(torch.isin(wanted, faces).all()):
        raise VultusError("no triangle has the vertices of these landmarks; the mesh is another one")
    places = torch.full((int(faces.max()) + 1,), faces.numel())
    places.scatter_reduce_(0, faces.flatten(), torch.arange(faces.numel()), "amin")
    first = places[wanted]
    return LandmarkSet(torch.tensor(list(ids)), first // 3, torch.eye(3)[first % 3])
