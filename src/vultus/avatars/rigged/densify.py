"""Adding and removing Gaussians during training: clone, split, prune, with at least one left on every triangle.

Source: Kerbl et al., "3D Gaussian Splatting" (2023), adaptive density control; GaussianAvatars (Qian et al., CVPR 2024)
for the binding. A densification is first planned, as a list of which old Gaussian each new one comes from, and then
applied to parameters, optimiser moments and statistics alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class DensifySettings:
    """When and what to densify.

    start, stop, every: steps; `every` 0 turns densification off. reset_every: steps between opacity resets (0: never);
    reset_at: one more reset at this step. gradient: mean screen-space gradient (half image sizes) above which a
    Gaussian is copied or split. small: world size, as a share of the extent, up to which it is copied instead of split.
    min_opacity, large, screen_radius: what is removed; the last two only after the first opacity reset. limit: no
    growth beyond this many. world_noise: scatter a split's children by the world scale, as published, although
    positions are triangle-local; otherwise by the local scale.
    """

    start: int = 10_000
    stop: int = 600_000
    every: int = 2_000
    reset_every: int = 60_000
    reset_at: int = 10_000
    gradient: float = 0.0002
    small: float = 0.01
    min_opacity: float = 0.005
    large: float = 0.1
    screen_radius: float = 20.0
    limit: int = 1_000_000
    world_noise: bool = False


@dataclass
class Statistics:
    """Per Gaussian, since the last densification: summed screen gradient, times seen, largest radius (pixels)."""

    gradient: Float[Tensor, "N"]
    seen: Float[Tensor, "N"]
    radius: Float[Tensor, "N"]

    @staticmethod
    def zeros(count: int, device: torch.device | str = "cpu") -> Statistics:
        return Statistics(*(torch.zeros(count, device=device) for _ in range(3)))

    def collect(
        self, means2d_gradient: Float[Tensor, "N 2"], radii: Int[Tensor, "N 2"], width: int, height: int
    ) -> None:
        """Take in one view: the loss's gradient with respect to pixel positions, and the drawn radii."""
        radius = radii.amax(-1).to(self.radius.dtype)
        visible = radius > 0
        gradient = (means2d_gradient * means2d_gradient.new_tensor([width / 2, height / 2])).norm(dim=-1)
        self.gradient += torch.where(visible, gradient, 0.0)
        self.seen += visible
        self.radius = torch.maximum(self.radius, radius)


@dataclass(frozen=True)
class Plan:
    """A new set of Gaussians: new number i is old number `source[i]`; `fresh` ones start without optimiser moments.

    `means` and `log_scales` are the new local values, which differ from the source's for the children of splits.
    `opacities`, in [0, 1], are the new ones; None: the sources'.
    """

    source: Int[Tensor, "M"]
    fresh: Bool[Tensor, "M"]
    means: Float[Tensor, "M 3"]
    log_scales: Float[Tensor, "M 3"]
    opacities: Float[Tensor, "M"] | None = None


def removable(requested: Bool[Tensor, "N"], binding: Int[Tensor, "N"] | None, face_count: int = 0) -> Bool[Tensor, "N"]:
    """Which of the Gaussians requested for removal may go: none of a triangle that would lose all it has."""
    if binding is None:
        return requested
    present = torch.bincount(binding, minlength=face_count)
    leaving = torch.bincount(binding[requested], minlength=face_count)
    return requested & (present > leaving)[binding]


def plan_densification(
    means: Float[Tensor, "N 3"],
    log_scales: Float[Tensor, "N 3"],
    rotations: Float[Tensor, "N 3 3"],
    opacities: Float[Tensor, "N"],
    sizes: Float[Tensor, "N 1"],
    statistics: Statistics,
    extent: float,
    settings: DensifySettings,
    *,
    binding: Int[Tensor, "N"] | None,
    face_count: int = 0,
    prune_large: bool = False,
    noise: Float[Tensor, "K 3"] | None = None,
    generator: torch.Generator | None = None,
) -> Plan:
    """Clone small and split large Gaussians with a large screen-space gradient, then remove faint and huge ones.

    Args:
        means, log_scales, rotations: triangle-local values, rotations as matrices. opacities: in [0, 1].
        sizes: size of each Gaussian's triangle, metres (ones where nothing is bound).
        extent: size of the scene, metres.
        prune_large: also remove what is too large in the world.
        noise: standard normals, at least two per split, for tests; otherwise drawn from `generator`.
    """
    mean_gradient = torch.where(statistics.seen > 0, statistics.gradient / statistics.seen.clamp_min(1), 0.0)
    largest = (sizes * log_scales.exp()).amax(-1)
    grow = mean_gradient >= settings.gradient
    small = largest <= settings.small * extent
    if int(grow.sum()) + means.shape[0] > settings.limit:
        grow = _strongest(grow, mean_gradient, settings.limit - means.shape[0])
    clones = (grow & small).nonzero()[:, 0]
    parents = (grow & ~small).nonzero()[:, 0]

    children = parents.repeat(2)
    spread = log_scales[children].exp()
    if settings.world_noise:
        spread = spread * sizes[children]
    if noise is None:
        noise = torch.randn(children.shape[0], 3, generator=generator).to(means)
    shift = (rotations[children] @ (noise[: children.shape[0]] * spread)[..., None])[..., 0]

    old = torch.arange(means.shape[0], device=means.device)
    source = torch.cat([old, clones, children])
    fresh = torch.cat(
        [torch.zeros_like(old, dtype=torch.bool), torch.ones_like(source[old.shape[0] :], dtype=torch.bool)]
    )
    new_means = torch.cat([means, means[clones], means[children] + shift])
    new_scales = torch.cat([log_scales, log_scales[clones], (log_scales[children].exp() / 1.6).log()])
    # The radius is that of the old Gaussians; what was just made has not been seen.
    radius = torch.cat([statistics.radius, statistics.radius.new_zeros(source.shape[0] - old.shape[0])])
    plan = Plan(source, fresh, new_means, new_scales)

    split = torch.zeros(source.shape[0], dtype=torch.bool, device=means.device)
    split[parents] = True
    keep = ~_removable(split, plan.source, binding, face_count)
    plan, radius = _select(plan, keep), radius[keep]

    unwanted = opacities[plan.source] < settings.min_opacity
    if prune_large:
        world = (sizes[plan.source] * plan.log_scales.exp()).amax(-1)
        unwanted |= (radius > settings.screen_radius) | (world > settings.large * extent)
    return _select(plan, ~_removable(unwanted, plan.source, binding, face_count))


def _removable(requested: Tensor, source: Tensor, binding: Tensor | None, face_count: int) -> Tensor:
    return removable(requested, None if binding is None else binding[source], face_count)


def _select(plan: Plan, keep: Tensor) -> Plan:
    return Plan(plan.source[keep], plan.fresh[keep], plan.means[keep], plan.log_scales[keep])


def _strongest(grow: Tensor, gradient: Tensor, room: int) -> Tensor:
    chosen = torch.zeros_like(grow)
    if room > 0:
        order = torch.where(grow, gradient, -1.0).argsort(descending=True, stable=True)
        chosen[order[:room]] = True
    return chosen & grow


def replace_parameter(
    optimizer: torch.optim.Optimizer,
    old: torch.nn.Parameter,
    value: Tensor,
    source: Int[Tensor, "M"],
    fresh: Bool[Tensor, "M"],
) -> torch.nn.Parameter:
    """Swap a parameter of an optimiser for one with other rows, carrying the moments of rows that stay."""
    new = torch.nn.Parameter(value.detach().clone().contiguous())
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    state = optimizer.state.pop(old, None)
    if state:
        stays = (~fresh).to(value.dtype)
        optimizer.state[new] = {
            key: moment if moment.dim() == 0 else moment[source] * stays.view(-1, *[1] * (moment.dim() - 1))
            for key, moment in state.items()
        }
    return new


def reset_opacity(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, ceiling: float = 0.01) -> None:
    """Lower all opacities (stored as logits) to at most `ceiling` and forget the optimiser's moments of them."""
    with torch.no_grad():
        parameter.clamp_(max=torch.logit(torch.tensor(ceiling)).item())
    for key, moment in optimizer.state.get(parameter, {}).items():
        if key != "step":
            moment.zero_()
