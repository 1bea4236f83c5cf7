"""Levenberg-Marquardt over all frames at once: closed-form derivatives, arrow-shaped normal equations.

Unknowns of a frame are its pose, joints and expression; identity and focal length are shared. Any number of cameras
see a frame: each adds residuals and no unknowns. Frames are tied by second differences. One step eliminates the frames
(block-banded Cholesky) and solves the Schur complement for the shared part.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from torch import Tensor

from vultus.tracking.banded import second_difference, solve_block_banded
from vultus.tracking.landmark_model import LandmarkModel, LandmarkState
from vultus.tracking.rig import Rig

if TYPE_CHECKING:
    from vultus.tracking.outline import Outline

_CHUNK = 64
"""Frames of one camera that are worked on at once."""


@dataclass(frozen=True)
class State:
    """`frames` [N, P] per frame (layout: `Layout`), `identity` [S], `log_focal` (pixels)."""

    frames: Float64[Tensor, "N P"]
    identity: Float64[Tensor, "S"]
    log_focal: float


@dataclass(frozen=True)
class Layout:
    """Where a frame's unknowns are: root rotation 0:3, translation 3:6, single axes of joints, expression."""

    joint_axes: tuple[tuple[int, int], ...]
    joint_names: tuple[str, ...]
    expression: tuple[int, ...]
    expression_count: int

    @property
    def size(self) -> int:
        return 6 + len(self.joint_axes) + len(self.expression)

    @property
    def first_expression(self) -> int:
        return 6 + len(self.joint_axes)

    def column(self, joint: str, axis: int) -> int:
        """Column of one joint axis; ValueError if it is not free."""
        return 6 + self.joint_axes.index((self.joint_names.index(joint), axis))

    def has(self, joint: str) -> bool:
        return joint in self.joint_names and (self.joint_names.index(joint), 0) in self.joint_axes

    def joints(self, frames: Float64[Tensor, "N P"]) -> dict[str, Float64[Tensor, "N 3"]]:
        """Axis-angle rotations by joint name."""
        angles = frames.new_zeros(len(frames), len(self.joint_names), 3)
        angles[:, 0] = frames[:, :3]
        for offset, (joint, axis) in enumerate(self.joint_axes):
            angles[:, joint, axis] = frames[:, 6 + offset]
        return {name: angles[:, index] for index, name in enumerate(self.joint_names)}

    def expressions(self, frames: Float64[Tensor, "N P"]) -> Float64[Tensor, "N E"]:
        values = frames.new_zeros(len(frames), self.expression_count)
        values[:, list(self.expression)] = frames[:, self.first_expression :]
        return values


@dataclass(frozen=True)
class Equations:
    """Normal equations of the data: Hessian blocks and gradients of every frame with what is shared (Q unknowns).

    `removed` are rows over all unknowns, frames first, whose outer products are to be taken off the Hessian: what is
    left of it when further unknowns that many frames share have been eliminated.
    """

    hessian: Float64[np.ndarray, "N P+Q P+Q"]
    gradient: Float64[np.ndarray, "N P+Q"]
    removed: Float64[np.ndarray, "M N*P+Q"] | None = None


@dataclass(frozen=True)
class Problem:
    """Everything the energy needs. Weights are per squared residual; residuals are in units of `point_scale` pixels.

    `point_scale` [N, C] is the standard deviation of a point in each picture, in pixels; a residual beyond `robust` of
    it counts less. `precision` is of the zero-mean Gaussian prior of a frame's unknowns, `coupling` (i, j, precision)
    ties two unknowns of a frame, `lower` and `upper` are soft limits. `smoothness` are the precisions of second
    differences.
    """

    model: LandmarkModel
    layout: Layout
    rig: Rig
    points: Float64[Tensor, "N L C 2"]
    weights: Float64[Tensor, "N L C"]
    point_scale: Float64[Tensor, "N C"]
    closures: tuple[tuple[int, int], ...]
    closure_weight: float
    robust: float
    precision: Float64[Tensor, "P"]
    coupling: tuple[tuple[int, int, float], ...]
    lower: Float64[Tensor, "P"]
    upper: Float64[Tensor, "P"]
    limit_precision: float
    smoothness: Float64[Tensor, "P"]
    tied: Float64[np.ndarray, "_"]
    identity_precision: float
    focal_mean: float
    focal_precision: float
    outline: Outline | None = field(default=None, kw_only=True)

    def landmarks(self, state: State, frames: slice = slice(None)) -> LandmarkState:
        part = state.frames[frames]
        joints, expression = self.layout.joints(part), self.layout.expressions(part)
        return self.model.evaluate(state.identity, expression, joints, part[:, 3:6])

    def residuals(self, state: State, frames: slice = slice(None)) -> Float64[Tensor, "N L C 2"]:
        """Projected minus detected points in pixels; zero where a point was not seen."""
        projected = self.rig.select(frames).project(self.landmarks(state, frames).points, state.log_focal)
        return torch.where(self.points[frames].isnan(), torch.zeros_like(projected), projected - self.points[frames])

    @property
    def chunk(self) -> int:
        """How many frames to work on at once."""
        return max(1, _CHUNK // self.rig.cameras)

    def cost(self, state: State) -> float:
        total = 0.0
        for start in range(0, len(state.frames), self.chunk):
            frames = slice(start, start + self.chunk)
            total += float(self._robust_cost(self.residuals(state, frames), frames))
        values = state.frames
        total += float((self.precision * values**2).sum())
        total += sum(weight * float(((values[:, i] - values[:, j]) ** 2).sum()) for i, j, weight in self.coupling)
        total += self.limit_precision * float((self._excess(values) ** 2).sum())
        if len(values) > 2:
            bend = values[:-2] - 2 * values[1:-1] + values[2:]
            total += float((torch.from_numpy(self.tied)[:, None] * self.smoothness * bend**2).sum())
        total += self.identity_precision * float((state.identity**2).sum())
        if self.outline is not None:
            total += self.outline.cost(self, state)
        return total + self.focal_precision * (state.log_focal - self.focal_mean) ** 2

    def _excess(self, values: Tensor) -> Tensor:
        return (values - self.upper).clamp_min(0) + (values - self.lower).clamp_max(0)

    def _robust_cost(self, residual: Tensor, frames: slice) -> Tensor:
        scale = self.point_scale[frames][:, None]
        square = (residual**2).sum(-1) / scale**2
        cost = (self.weights[frames] * 2 * self.robust**2 * (torch.sqrt(1 + square / self.robust**2) - 1)).sum()
        if self.closures:
            upper, lower = (list(rows) for rows in zip(*self.closures, strict=True))
            gap = (residual[:, upper] - residual[:, lower]) / scale[..., None]
            cost = cost + self.closure_weight * (gap**2 * self._closure_seen(frames)[..., None]).sum()
        return cost

    def _closure_seen(self, frames: slice) -> Tensor:
        upper, lower = (list(rows) for rows in zip(*self.closures, strict=True))
        weights = self.weights[frames]
        return ((weights[:, upper] > 0) & (weights[:, lower] > 0)).double()

    def normal_equations(
        self, state: State, free_frame: Bool[Tensor, "P"], free_identity: bool, free_focal: bool
    ) -> Equations:
        """The normal equations of the landmarks and outlines, without priors."""
        blocks = []
        for start in range(0, len(state.frames), self.chunk):
            frames = slice(start, start + self.chunk)
            landmarks = self.landmarks(state, frames)
            projection, image = self.rig.select(frames).derivative(landmarks.points, state.log_focal)
            projection, image = projection.flatten(2, 3), image.flatten(2, 3)
            parts = self.frame_derivative(landmarks, state.frames[frames], free_frame, projection)
            if free_identity:
                parts.append(landmarks.identity_derivative(projection))
            if free_focal:
                parts.append(image[..., None])
            blocks.append(self._reduce(torch.cat(parts, -1), self.residuals(state, frames), frames))
        combined = torch.cat(blocks).numpy()
        hessian, gradient = combined[..., :-1].copy(), combined[..., -1].copy()
        if self.outline is not None:
            self.outline.add_to(hessian, gradient, self, state, free_frame, free_identity)
        return Equations(hessian, gradient)

    def frame_derivative(
        self, landmarks: LandmarkState, values: Tensor, free: Tensor, projection: Tensor
    ) -> list[Float64[Tensor, "N L R _"]]:
        """`projection` [N, L, R, 3] times the derivatives of points by a frame's unknowns, `values`."""
        joints = self.layout.joints(values)
        columns = [projection @ landmarks.joint_derivative(0, joints[self.layout.joint_names[0]]), projection]
        if not bool(free[6:].any()):
            return [*columns, projection.new_zeros(*projection.shape[:3], self.layout.size - 6)]
        turned: dict[int, Tensor] = {}
        for joint, axis in self.layout.joint_axes:
            if joint not in turned:
                angles = joints[self.layout.joint_names[joint]]
                turned[joint] = projection @ landmarks.joint_derivative(joint, angles)
            columns.append(turned[joint][..., axis : axis + 1])
        columns.append(landmarks.expression_derivative(projection)[..., list(self.layout.expression)])
        return columns

    def _reduce(self, jacobian: Tensor, residual: Tensor, frames: slice) -> Tensor:
        scale = self.point_scale[frames][:, None]
        square = (residual**2).sum(-1) / scale**2
        weight = self.weights[frames] / torch.sqrt(1 + square / self.robust**2) / scale**2
        rows, values, strengths = [jacobian.flatten(1, 2)], [residual.flatten(1, 3)], [_per_coordinate(weight)]
        if self.closures:
            upper, lower = (list(side) for side in zip(*self.closures, strict=True))
            rows.append((jacobian[:, upper] - jacobian[:, lower]).flatten(1, 2))
            values.append((residual[:, upper] - residual[:, lower]).flatten(1, 3))
            strengths.append(_per_coordinate(self.closure_weight * self._closure_seen(frames) / scale**2))
        everything, value, strength = torch.cat(rows, 1), torch.cat(values, 1), torch.cat(strengths, 1)
        augmented = torch.cat([everything, value[..., None]], -1)
        return (everything * strength[..., None]).transpose(1, 2) @ augmented


def _per_coordinate(weights: Float64[Tensor, "N L C"]) -> Float64[Tensor, "N _"]:
    """Weights of points as those of their coordinates, in the order of the residuals."""
    return weights.repeat_interleave(2, -1).flatten(1)


def minimise(
    problem: Problem,
    state: State,
    *,
    free_frame: Bool[Tensor, "P"],
    free_identity: bool,
    free_focal: bool,
    iterations: int,
    tolerance: float = 1e-6,
) -> tuple[State, bool, int]:
    """The state of (locally) least cost, whether it converged, and the number of steps taken."""
    damping, cost = 1e-3, problem.cost(state)
    size = problem.layout.size
    free = free_frame.numpy()
    for step in range(1, iterations + 1):
        equations = problem.normal_equations(state, free_frame, free_identity, free_focal)
        hessian, gradient = equations.hessian, equations.gradient
        frame_hessian, frame_gradient, bands = _with_frame_priors(problem, state, hessian, gradient, free)
        shared_hessian, shared_gradient = _with_shared_priors(
            problem, state, hessian, gradient, free_identity, free_focal
        )
        border = hessian[:, :size, size:] * free[None, :, None]
        for _ in range(8):
            proposal = _step(
                state,
                frame_hessian,
                frame_gradient,
                bands,
                border,
                shared_hessian,
                shared_gradient,
                equations.removed,
                damping,
                free_identity,
                free_focal,
            )
            new_cost = np.inf if proposal is None else problem.cost(proposal)
            if proposal is not None and new_cost < cost:
                break
            damping *= 8
        else:
            return state, True, step
        improvement, state, cost = cost - new_cost, proposal, new_cost
        damping = max(damping / 8, 1e-9)
        if improvement < tolerance * max(cost, 1e-12):
            return state, True, step
    return state, False, iterations


def _with_frame_priors(problem: Problem, state: State, hessian: np.ndarray, gradient: np.ndarray, free: np.ndarray):
    size = problem.layout.size
    values = state.frames
    frame_hessian, frame_gradient = hessian[:, :size, :size].copy(), gradient[:, :size].copy()
    diagonal = np.arange(size)
    excess = problem._excess(values).numpy()
    frame_hessian[:, diagonal, diagonal] += problem.precision.numpy() + problem.limit_precision * (excess != 0)
    frame_gradient += problem.precision.numpy() * values.numpy() + problem.limit_precision * excess
    for i, j, weight in problem.coupling:
        frame_hessian[:, i, i] += weight
        frame_hessian[:, j, j] += weight
        frame_hessian[:, i, j] -= weight
        frame_hessian[:, j, i] -= weight
        difference = weight * (values[:, i] - values[:, j]).numpy()
        frame_gradient[:, i] += difference
        frame_gradient[:, j] -= difference
    main, once, twice = second_difference(problem.smoothness.numpy() * free, problem.tied, len(values))
    frame_hessian[:, diagonal, diagonal] += main
    if len(values) > 2:
        bend = problem.tied[:, None] * problem.smoothness.numpy() * np.diff(values.numpy(), 2, axis=0)
        frame_gradient[:-2] += bend
        frame_gradient[1:-1] -= 2 * bend
        frame_gradient[2:] += bend
    frame_hessian *= free[None, :, None] * free[None, None, :]
    frame_hessian[:, diagonal, diagonal] += ~free
    frame_gradient *= free
    return frame_hessian, frame_gradient, (once, twice)


def _with_shared_priors(
    problem: Problem, state: State, hessian: np.ndarray, gradient: np.ndarray, free_identity: bool, free_focal: bool
) -> tuple[np.ndarray, np.ndarray]:
    size = problem.layout.size
    shared_hessian, shared_gradient = hessian[:, size:, size:].sum(0), gradient[:, size:].sum(0)
    if free_identity:
        count = len(state.identity)
        index = np.arange(count)
        shared_hessian[index, index] += problem.identity_precision
        shared_gradient[:count] += problem.identity_precision * state.identity.numpy()
    if free_focal:
        shared_hessian[-1, -1] += problem.focal_precision
        shared_gradient[-1] += problem.focal_precision * (state.log_focal - problem.focal_mean)
    return shared_hessian, shared_gradient


def _step(
    state: State,
    frame_hessian: np.ndarray,
    frame_gradient: np.ndarray,
    bands: tuple[np.ndarray, np.ndarray],
    border: np.ndarray,
    shared_hessian: np.ndarray,
    shared_gradient: np.ndarray,
    removed: np.ndarray | None,
    damping: float,
    free_identity: bool,
    free_focal: bool,
) -> State | None:
    index = np.arange(frame_hessian.shape[1])
    damped = frame_hessian.copy()
    damped[:, index, index] *= 1 + damping
    damped[:, index, index] += 1e-9
    damped_shared = shared_hessian.copy()
    damped_shared[np.diag_indices_from(damped_shared)] += damping * np.diag(shared_hessian) + 1e-9
    if removed is None:
        found = _by_frames(damped, frame_gradient, bands, border, damped_shared, shared_gradient)
    else:
        found = _all_at_once(damped, frame_gradient, bands, border, damped_shared, shared_gradient, removed)
    if found is None:
        return None
    change, shared = found
    count = len(state.identity)
    return replace(
        state,
        frames=state.frames - torch.from_numpy(change),
        identity=state.identity - torch.from_numpy(shared[:count]) if free_identity else state.identity,
        log_focal=state.log_focal - float(shared[-1]) if free_focal else state.log_focal,
    )


def _by_frames(
    frames: np.ndarray,
    gradient: np.ndarray,
    bands: tuple[np.ndarray, np.ndarray],
    border: np.ndarray,
    shared: np.ndarray,
    shared_gradient: np.ndarray,
) -> tuple[np.ndarray, np.ndarray] | None:
    """The solution for frames and what is shared, by eliminating the frames."""
    solved = solve_block_banded(frames, *bands, np.concatenate([border, gradient[..., None]], axis=-1))
    if solved is None:
        return None
    if not len(shared_gradient):
        return solved[..., -1], np.zeros(0)
    schur = shared - np.tensordot(border, solved[..., :-1], axes=([0, 1], [0, 1]))
    reduced = shared_gradient - np.tensordot(border, solved[..., -1], axes=([0, 1], [0, 1]))
    try:
        found = np.linalg.solve(schur, reduced)
    except np.linalg.LinAlgError:
        return None
    return solved[..., -1] - solved[..., :-1] @ found, found


def _all_at_once(
    frames: np.ndarray,
    gradient: np.ndarray,
    bands: tuple[np.ndarray, np.ndarray],
    border: np.ndarray,
    shared: np.ndarray,
    shared_gradient: np.ndarray,
    removed: np.ndarray,
) -> tuple[np.ndarray, np.ndarray] | None:
    """The same where `removed` ties every frame to every other: for few frames."""
    count, size = gradient.shape
    last = count * size
    matrix = np.zeros((last + len(shared), last + len(shared)))
    for frame in range(count):
        here = slice(frame * size, (frame + 1) * size)
        matrix[here, here] = frames[frame]
        matrix[last:, here] = border[frame].T
    for step, values in enumerate(bands, start=1):
        rows = np.arange(values.size)
        matrix[rows + step * size, rows] += values.ravel()
    matrix[last:, last:] = shared
    matrix -= removed.T @ removed
    try:
        factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return None
    found = cho_solve(factor, np.concatenate([gradient.ravel(), shared_gradient]), check_finite=False)
    return found[:last].reshape(count, size), found[last:]
