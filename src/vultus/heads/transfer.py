"""Expressions of one head model on another: the displacement of corresponding skin, fitted by least squares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.heads.correspondence import SurfacePoints
from vultus.heads.model import SkinnedHead
from vultus.motion import HeadParams

_ITERATIONS = 8
_SWEEPS = 6
_STEP = 1e-3
"""Radians by which the jaw is turned to see what it moves."""
_JAW_LIMITS = ((-0.05, 0.7), (-0.2, 0.2), (-0.1, 0.1))
_JAW_SIGMA = 0.02
"""Metres that one radian of jaw rotation costs, against jaws that turn where an expression would do."""


@dataclass(frozen=True)
class Unknowns:
    """What may change and what holds it.

    start: expression to begin with and be held to. sigma: metres of error at the skin that one unit away from it costs.
    lowest, highest: limits. free: components that may change. jaw: whether the jaw joint may turn from where it is.
    """

    start: Float[Tensor, "*#T E"]
    sigma: float
    lowest: Float[Tensor, "E"]
    highest: Float[Tensor, "E"]
    free: Bool[Tensor, "E"]
    jaw: bool


class PointHead:
    """A head model cut down to some points of its skin, posed quickly; root, neck and eyes at rest."""

    def __init__(self, head: SkinnedHead, points: SurfacePoints) -> None:
        chosen = points.vertices.flatten()
        self.head, self.weights = part_of(head, chosen), points.weights
        self.has_jaw = "jaw" in head.joint_names

    @property
    def basis(self) -> Float[Tensor, "P 3 E"]:
        """Displacement of the points per unit of each expression component, jaw closed."""
        corners = self.head.expression_basis.unflatten(0, (-1, 3))
        return (corners * self.weights[..., None, None]).sum(1)

    def places(
        self, identity: Float[Tensor, "*#T S"], expression: Float[Tensor, "*#T E"], jaw: Float[Tensor, "*#T 3"]
    ) -> Float[Tensor, "*T P 3"]:
        """Positions of the points in head space, metres."""
        neutral = self.head.neutral()
        joints = {"jaw": jaw} if self.has_jaw else {}
        params = HeadParams(
            neutral.model, identity, expression, joints, torch.zeros_like(jaw), jaw.new_ones(jaw.shape[:-1])
        )
        corners = self.head.pose(params).vertices.unflatten(-2, (-1, 3))
        return (corners * self.weights[..., None]).sum(-2)


def part_of(head: SkinnedHead, vertices: Int[Tensor, "N"]) -> SkinnedHead:
    """A head of some of its vertices, with the joints of the whole. Three vertices in a row are a triangle."""
    shapes = torch.cat([head.identity_basis, head.expression_basis], -1)
    if head.joint_template is None or head.joint_basis is None:
        template = head.joint_regressor @ head.v_template
        basis = (head.joint_regressor @ shapes.flatten(1)).unflatten(1, (3, -1))
    else:
        template, basis = head.joint_template, head.joint_basis
    return SkinnedHead(
        name=head.name,
        license=head.license,
        v_template=head.v_template[vertices],
        faces=torch.arange(len(vertices)).reshape(-1, 3),
        identity_basis=head.identity_basis[vertices],
        expression_basis=head.expression_basis[vertices],
        pose_basis=head.pose_basis[vertices],
        joint_regressor=head.joint_regressor[:, vertices],
        joint_template=template,
        joint_basis=basis,
        weights=head.weights[vertices],
        parents=head.parents,
        joint_names=head.joint_names,
        identity_names=head.identity_names,
        expression_names=head.expression_names,
        correctives=head.correctives[vertices],
        corrective_drivers=head.corrective_drivers,
    )


def fit_places(
    head: PointHead,
    identity: Float[Tensor, "S"],
    wanted: Float[Tensor, "T P 3"],
    importance: Float[Tensor, "P"],
    jaw: Float[Tensor, "T 3"],
    unknowns: Unknowns,
) -> tuple[Float[Tensor, "T E"], Float[Tensor, "T 3"]]:
    """Expression (and jaw, where it is free) whose points come closest to the wanted ones.

    Gauss-Newton on `Σ_p w_p |x_p − wanted_p|² + sigma² |e − start|²`, weights summing to 1, with the limits kept by
    coordinate descent. The derivative of expressions is taken with the jaw closed; repeated, that is exact.
    """
    count, size = len(wanted), unknowns.start.shape[-1]
    start = unknowns.start.expand(count, size)
    expression = start.clone()
    share = (importance / importance.sum()).sqrt()[:, None]
    columns = (head.basis * share[..., None]).flatten(0, 1)  # [3P, E]
    free_jaw = unknowns.jaw and head.has_jaw
    limits = torch.tensor(_JAW_LIMITS).to(wanted)
    lowest, highest = torch.cat([unknowns.lowest, limits[:, 0]]), torch.cat([unknowns.highest, limits[:, 1]])
    free = torch.cat([unknowns.free, torch.full((3,), free_jaw)])
    ridge = torch.cat([wanted.new_full((size,), unknowns.sigma**2), wanted.new_full((3,), _JAW_SIGMA**2)])
    first_jaw, jaw = jaw, jaw.clone()
    square = columns.T @ columns
    for _ in range(_ITERATIONS):
        at = head.places(identity, expression, jaw)
        error = ((wanted - at) * share).flatten(1)
        hessian = wanted.new_zeros(count, size + 3, size + 3)
        hessian[:, :size, :size] = square
        slope = torch.cat([error @ columns, wanted.new_zeros(count, 3)], 1)
        if free_jaw:
            turns = []
            for axis in range(3):
                turned = jaw.clone()
                turned[:, axis] += _STEP
                turns.append(((head.places(identity, expression, turned) - at) / _STEP * share).flatten(1))
            lever = torch.stack(turns, -1)  # [T, 3P, 3]
            hessian[:, size:, size:] = lever.transpose(1, 2) @ lever
            hessian[:, :size, size:] = columns.T @ lever
            hessian[:, size:, :size] = hessian[:, :size, size:].transpose(1, 2)
            slope[:, size:] = (error[:, None] @ lever)[:, 0]
        now = torch.cat([expression, jaw], 1)
        hessian = hessian + torch.diag(ridge)
        slope = slope - ridge * (now - torch.cat([start, first_jaw], 1))
        now = _bounded_step(hessian, slope, now, lowest, highest, free)
        expression, jaw = now[:, :size], now[:, size:]
    return expression, jaw


def _bounded_step(
    hessian: Float[Tensor, "T N N"],
    slope: Float[Tensor, "T N"],
    now: Float[Tensor, "T N"],
    lowest: Float[Tensor, "N"],
    highest: Float[Tensor, "N"],
    free: Bool[Tensor, "N"],
) -> Float[Tensor, "T N"]:
    """Minimum of the quadratic within the limits, nearly: solved without them, clamped, and improved one by one.

    A coordinate that starts outside its limits may stay there, but goes no further.
    """
    lowest, highest = torch.minimum(lowest, now), torch.maximum(highest, now)
    which = torch.nonzero(free)[:, 0]
    step = torch.zeros_like(now)
    if not len(which):
        return now
    block = hessian[:, which][:, :, which]
    step[:, which] = torch.linalg.solve(block, slope[:, which, None])[..., 0]
    step = (now + step).clamp(lowest, highest) - now
    for _ in range(_SWEEPS):
        for index in which.tolist():
            rest = slope[:, index] - (hessian[:, index] * step).sum(1)
            change = rest / hessian[:, index, index]
            moved = now[:, index] + step[:, index] + change
            step[:, index] = moved.clamp(lowest[:, index], highest[:, index]) - now[:, index]
    return now + step
