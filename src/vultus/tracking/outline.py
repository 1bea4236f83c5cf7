"""Outlines: where a surface turns away from a camera against the background, the person's mask must end too.

Skin without marks looks alike everywhere, and what a picture shows of it does not say where a chin or an ear ends; the
mask does, and from farther away than pictures do. A point at which the mesh's outline lies has a distance to the
mask's outline (its signed distance, sampled), whose derivative is the landmark model's closed form with one factor
more. Hair may lie outside the mesh but never inside: where the head model carries hair, only a mesh outside the mask
counts. Anything else that lies in front of or on the skin (clothes, hands, hair over ears) is an outlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float64, Int, UInt8
from scipy.ndimage import distance_transform_edt, uniform_filter
from torch import Tensor

from vultus.heads import SkinnedHead
from vultus.meshes import face_neighbors, outline_edges, rasterize_mesh
from vultus.tracking.face_crops import Crops
from vultus.tracking.landmark_model import LandmarkModel, LandmarkState
from vultus.tracking.rig import Rig
from vultus.tracking.skin_samples import held_skin, posed, vertex_landmarks

if TYPE_CHECKING:
    from vultus.tracking.landmark_solver import Problem, State

_SIGMA = 0.001
"""Standard deviation of an outline's distance to the mask's, metres."""
_SHARE = 0.1
"""How much of a pixel of outline is news: neighbours repeat each other."""
_HAIRY = 0.05


def signed_distances(masks: UInt8[Tensor, "N C S S"]) -> Float16[Tensor, "N C S S"]:
    """Distance of every pixel's middle from the outline of what a mask covers by half, pixels; negative inside, NaN
    in masks without an outline.

    Pixels at the outline say by how much they are covered where between them it passes: the covered part of a 3 × 3
    neighbourhood is that on one side of a line through it.
    """
    result = torch.empty(masks.shape, dtype=torch.float16)
    for mask, target in zip(masks.flatten(0, 1), result.flatten(0, 1), strict=True):
        covered = mask.numpy().astype(np.float32) / 255
        inside = covered >= 0.5
        if inside.all() or not inside.any():
            target.fill_(torch.nan)
            continue
        beyond = 3 * uniform_filter(covered, 3, mode="nearest") - 1.5
        outer = _from_middles(inside, beyond)
        inner = _from_middles(~inside, -beyond)
        target.copy_(torch.from_numpy(np.where(inside, -inner, outer)))
    return result


def _from_middles(chosen: Bool[np.ndarray, "S S"], beyond: Float[np.ndarray, "S S"]) -> Float[np.ndarray, "S S"]:
    """Distance to the nearest chosen pixel, which reaches so far beyond its middle."""
    found: Any = distance_transform_edt(~chosen, return_indices=True)
    distance, nearest = found
    return distance - beyond[tuple(nearest)]


@dataclass(frozen=True)
class Outline:
    """M points of a mesh's outlines in the pictures (`instant`, `camera`): each lies on an edge, `share` of the way
    between the vertices `ends` (rows of `surface`).

    `distances` are those of the crops' masks; `unit` is how many metres a crop's pixel is there. A distance beyond
    `robust` metres counts less and less. Where `one_sided`, only a mesh outside the mask counts.
    """

    surface: LandmarkModel
    crops: Crops
    distances: Float16[Tensor, "N C S S"]
    instant: Int[Tensor, "M"]
    camera: Int[Tensor, "M"]
    ends: Int[Tensor, "M 2"]
    share: Float64[Tensor, "M"]
    unit: Float64[Tensor, "M"]
    one_sided: Bool[Tensor, "M"]
    robust: float

    @staticmethod
    def of(
        head: SkinnedHead,
        problem: Problem,
        state: State,
        crops: Crops,
        distances: Float16[Tensor, "N C S S"],
        *,
        robust: float,
        offset: Float[Tensor, "V 3"] | None = None,
    ) -> Outline:
        """Where the outlines are now."""
        held = torch.zeros(len(head.v_template), dtype=torch.bool)
        held[held_skin(head)] = True
        hair = head.attributes.get("hair_weight")
        hairy = torch.zeros_like(held) if hair is None else hair > _HAIRY
        neighbors = face_neighbors(head.faces)
        edges, shares, places, units = [], [], [], []
        for instant, vertices in enumerate(posed(head, problem, state, offset)):
            for view in range(problem.rig.cameras):
                if bool(distances[instant, view, 0, 0].isnan()):
                    continue
                camera = crops.camera(problem.rig, state.log_focal, instant, view)
                raster = rasterize_mesh(vertices, head.faces, camera)
                edge, share = outline_edges(raster, vertices, head.faces, camera, neighbors=neighbors)
                known = held[edge].all(-1)
                edge, share = edge[known], share[known]
                edges.append(edge)
                shares.append(share)
                places.append(torch.tensor([[instant, view]]).expand(len(edge), 2))
                depth = camera.to_camera(vertices[edge[:, 0]])[:, 2]
                units.append(depth / camera.K[0, 0])
        edge = torch.cat(edges) if edges else torch.zeros(0, 2, dtype=torch.int64)
        place = torch.cat(places) if places else torch.zeros(0, 2, dtype=torch.int64)
        vertices, rows = edge.unique(return_inverse=True)
        return Outline(
            LandmarkModel.of(head, vertex_landmarks(head, vertices), offset),
            crops,
            distances,
            place[:, 0],
            place[:, 1],
            rows,
            torch.cat(shares).double() if shares else torch.zeros(0, dtype=torch.float64),
            torch.cat(units).double() if units else torch.zeros(0, dtype=torch.float64),
            hairy[edge].any(-1),
            robust,
        )

    def cost(self, problem: Problem, state: State) -> float:
        """What these distances cost."""
        total = 0.0
        for frame in range(len(state.frames)):
            rows = (self.instant == frame).nonzero()[:, 0]
            if len(rows):
                surface, ends = self._surface(problem, state, frame, rows)
                residual, _ = self._residuals(problem.rig, state, self._points(surface, ends, rows), rows)
                total += float(torch.log1p((residual / self.robust) ** 2).sum())
        return _SHARE * (self.robust / _SIGMA) ** 2 * total

    def add_to(
        self,
        hessian: Float64[np.ndarray, "N F F"],
        gradient: Float64[np.ndarray, "N F"],
        problem: Problem,
        state: State,
        free_frame: Bool[Tensor, "P"],
        free_identity: bool,
    ) -> None:
        """Add these distances' normal equations to those of a problem. A focal length is not pulled at."""
        for frame in range(len(state.frames)):
            rows = (self.instant == frame).nonzero()[:, 0]
            if not len(rows):
                continue
            surface, ends = self._surface(problem, state, frame, rows)
            residual, onto = self._residuals(problem.rig, state, self._points(surface, ends, rows), rows)
            everything = torch.eye(3, dtype=torch.float64).expand(1, len(surface.model.ids), 3, 3)
            columns = problem.frame_derivative(surface, state.frames[frame : frame + 1], free_frame, everything)
            if free_identity:
                columns.append(surface.identity_derivative(everything))
            motion = torch.cat(columns, -1)[0]
            first, second = ((onto[:, None] @ motion[ends[:, end]])[:, 0] for end in (0, 1))
            jacobian = torch.lerp(first, second, self.share[rows][:, None])
            weight = _SHARE / _SIGMA**2 / (1 + (residual / self.robust) ** 2)
            weighted = (jacobian * weight[:, None]).T
            size = jacobian.shape[1]
            hessian[frame, :size, :size] += (weighted @ jacobian).numpy()
            gradient[frame, :size] += (weighted @ residual).numpy()

    def _surface(
        self, problem: Problem, state: State, frame: int, rows: Int[Tensor, "K"]
    ) -> tuple[LandmarkState, Int[Tensor, "K 2"]]:
        """The vertices that make an instant's outlines, and which of them the points lie between."""
        vertices, ends = self.ends[rows].unique(return_inverse=True)
        part = state.frames[frame : frame + 1]
        joints, expression = problem.layout.joints(part), problem.layout.expressions(part)
        return self.surface.select(vertices).evaluate(state.identity, expression, joints, part[:, 3:6]), ends

    def _points(self, surface: LandmarkState, ends: Tensor, rows: Tensor) -> Float64[Tensor, "K 3"]:
        first, second = surface.points[0][ends].unbind(1)
        return torch.lerp(first, second, self.share[rows][:, None])

    def _residuals(
        self, rig: Rig, state: State, points: Float64[Tensor, "K 3"], rows: Int[Tensor, "K"]
    ) -> tuple[Float64[Tensor, "K"], Float64[Tensor, "K 3"]]:
        """Distances in metres, and how they change as the points move."""
        place = self.instant[rows], self.camera[rows]
        each = Rig(*(part[place][:, None] for part in (rig.rotation, rig.translation, rig.focal, rig.principal)))
        pixels = each.project(points[:, None], state.log_focal)[:, 0, 0]
        by_points = each.derivative(points[:, None], state.log_focal)[0][:, 0, 0]
        scale = self.crops.scale[place][:, None]
        inside = (pixels - self.crops.origin[place]) / scale
        step = inside.new_tensor([0.5, 0.0])
        value = self._sampled(place, inside)
        slope = torch.stack(
            [
                self._sampled(place, inside + step) - self._sampled(place, inside - step),
                self._sampled(place, inside + step.flip(0)) - self._sampled(place, inside - step.flip(0)),
            ],
            -1,
        )
        onto = self.unit[rows][:, None] * ((slope / scale)[:, None] @ by_points)[:, 0]
        residual = self.unit[rows] * value
        counts = residual.isfinite() & onto.isfinite().all(-1) & ~(self.one_sided[rows] & (residual < 0))
        return torch.where(counts, residual, 0.0), torch.where(counts[:, None], onto, 0.0)

    def _sampled(self, place: tuple[Tensor, Tensor], pixels: Float64[Tensor, "K 2"]) -> Float64[Tensor, "K"]:
        """Bilinear samples of the distances; NaN outside of the crops."""
        side = self.distances.shape[-1]
        within = ((pixels > 1) & (pixels < side - 1)).all(-1)
        corner = (pixels - 0.5).clamp(0, side - 2)
        low = corner.floor().long().clamp(0, side - 2)
        x, y = (corner - low).unbind(-1)
        column, row = low.unbind(-1)
        a, b, c, d = (
            self.distances[place[0], place[1], row + down, column + right].double()
            for down, right in ((0, 0), (0, 1), (1, 0), (1, 1))
        )
        value = (1 - y) * ((1 - x) * a + x * b) + y * ((1 - x) * c + x * d)
        return torch.where(within, value, torch.nan)
