"""Static offsets: how one person's surface differs from the head model along its normals, alike in all frames.

Identity says which of the model's faces is the nearest; a broken nose, or any face that the model cannot make, is more.
Pictures show such a height only where several cameras see the place at once, so heights are smooth, and small where
they do not say otherwise. Nothing is moved along the surface: no picture shows which point of the skin a vertex is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy import sparse
from scipy.sparse.linalg import spsolve
from torch import Tensor

from vultus.heads import SkinnedHead
from vultus.meshes import vertex_normals

if TYPE_CHECKING:
    from vultus.tracking.landmark_solver import State
    from vultus.tracking.photometric import PhotometricProblem

_HEIGHT, _LID_HEIGHT, _FIXED = 0.002, 0.0003, 0.00001
"""Standard deviations of heights in metres: of skin, of eyelids (else they would cut into the eyes), and of what is no
skin or carries hair."""
_BEND = 0.0001
"""That of a height's difference from the mean of its neighbours."""
_STEPS, _HALVINGS = 3, 4


@dataclass(frozen=True)
class Bumps:
    """Heights (metres) of all vertices along unit normals of the rest head, and the precision of their prior."""

    heights: Float64[np.ndarray, "V"]
    normals: Float64[Tensor, "V 3"]
    precision: sparse.csr_array

    @staticmethod
    def of(head: SkinnedHead, identity: Float[Tensor, "S"]) -> Bumps:
        """No bumps, on the rest head of an identity."""
        rest = head.rest_vertices(replace(head.neutral(), identity=identity))
        free = np.full(len(rest), _FIXED)
        skin = head.regions["skin" if "skin" in head.regions else "face"].numpy()
        free[skin] = _HEIGHT
        lids = head.attributes.get("lid_weight")
        if lids is not None:
            free[skin] += (_LID_HEIGHT - _HEIGHT) * lids.double().numpy()[skin].clip(0, 1)
        hair = head.attributes.get("hair_weight")
        if hair is not None:
            free[skin] += (_FIXED - free[skin]) * hair.double().numpy()[skin].clip(0, 1)
        bend = _from_neighbours(head) / _BEND
        precision = sparse.diags_array(free**-2.0) + bend.T @ bend
        return Bumps(np.zeros(len(rest)), vertex_normals(rest, head.faces).double(), precision.tocsr())

    @property
    def offset(self) -> Float[Tensor, "V 3"]:
        """Displacements of the rest vertices, metres."""
        return (torch.from_numpy(self.heights)[:, None] * self.normals).float()

    @property
    def cost(self) -> float:
        """How unlikely these heights are."""
        return float(self.heights @ (self.precision @ self.heights))


def raised(bumps: Bumps, task: PhotometricProblem, state: State) -> Bumps:
    """The bumps after some Gauss-Newton steps towards what the pictures show. The task's surface has them as they are.

    A sample's own height moves that sample alone, so the pictures' part of the equations is diagonal.
    """
    ids = task.surface.ids.numpy()
    directions = bumps.normals[task.surface.ids]
    cost = task.cost(state) + bumps.cost
    for _ in range(_STEPS):
        second, first = task.normal_equations_along(state, directions)
        measured, pull = np.zeros((2, len(bumps.heights)))
        measured[ids], pull[ids] = second.clamp_min(0).numpy(), first.numpy()
        system = bumps.precision + sparse.diags_array(measured)
        change = -spsolve(system.tocsc(), pull + bumps.precision @ bumps.heights)
        for _ in range(_HALVINGS):
            moved = replace(bumps, heights=bumps.heights + change)
            surface = task.surface.moved(torch.from_numpy(change[ids])[:, None] * directions)
            there = replace(task, surface=surface)
            new_cost = there.cost(state) + moved.cost
            if new_cost < cost:
                break
            change = change / 2
        else:
            break
        bumps, task, cost = moved, there, new_cost
    return bumps


def _from_neighbours(head: SkinnedHead) -> sparse.csr_array:
    """The matrix that takes from every vertex the mean of its neighbours."""
    faces, count = head.faces.numpy(), len(head.v_template)
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0)
    graph = sparse.coo_array((np.ones(len(edges)), edges.T), (count, count)).tocsr()
    graph = graph + graph.T
    degree = np.maximum(np.asarray(graph.sum(1)).ravel(), 1)
    return (sparse.eye_array(count) - sparse.diags_array(1 / degree) @ graph).tocsr()
