"""How the set of Gaussians changes while it is trained: one interface, and the published strategy behind it.

`vultus.avatars.rigged.mcmc` has the other one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.avatars.rigged.densify import DensifySettings, Plan, Statistics, plan_densification
from vultus.splats import RasterInfo


@dataclass(frozen=True)
class Population:
    """The Gaussians that are trained, without gradients.

    means, log_scales: triangle-local values. rotations: as matrices. opacities: in [0, 1]. sizes: of each Gaussian's
    triangle at rest, metres (ones where nothing is bound). binding: the triangle of each; None: not bound.
    face_count: how many triangles there are. extent: size of the scene, metres.
    """

    means: Float[Tensor, "N 3"]
    log_scales: Float[Tensor, "N 3"]
    rotations: Float[Tensor, "N 3 3"]
    opacities: Float[Tensor, "N"]
    sizes: Float[Tensor, "N 1"]
    binding: Int[Tensor, "N"] | None
    face_count: int
    extent: float


class Strategy(Protocol):
    """When and how Gaussians are added, removed and moved. Steps count from 1.

    In every step the loss includes `regulariser`; after its gradient is there come `observe`, then `plan` if `due`,
    then `lowers_opacity`, then `noise`, which is added to the means after the optimiser's step. What influences later
    steps is in `tensors`.
    """

    def regulariser(
        self, scales: Float[Tensor, "N 3"], opacities: Float[Tensor, "N"], extent: float
    ) -> Float[Tensor, ""] | None:
        """A term of the loss, of standard deviations (metres) and opacities; None where there is nothing to add."""
        ...

    def observe(self, step: int, raster: RasterInfo, width: int, height: int) -> None:
        """Look at what a step drew and at its gradients; width and height of the picture in pixels."""
        ...

    def due(self, step: int) -> bool:
        """Whether the set changes at this step."""
        ...

    def plan(self, step: int, population: Population, generator: torch.Generator) -> Plan:
        """The new set. Every triangle keeps at least one Gaussian."""
        ...

    def lowers_opacity(self, step: int) -> bool:
        """Whether all opacities are reset to faint values at this step."""
        ...

    def noise(
        self, population: Callable[[], Population], rate: float, generator: torch.Generator
    ) -> Float[Tensor, "N 3"] | None:
        """What to add to the means; `rate` is the share of their initial learning rate that is left. None: nothing."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What has to be kept to go on from here. References."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave. Raises KeyError where something is missing."""
        ...


class Densification:
    """The published strategy: clone, split, prune, and lower all opacities now and then. See `DensifySettings`.

    Args:
        count: number of Gaussians at the start. white: whether the background is white, where one more reset helps.
    """

    def __init__(self, settings: DensifySettings, count: int, *, white: bool) -> None:
        self._settings, self._white = settings, white
        self._statistics = Statistics.zeros(count)

    def regulariser(self, scales: Tensor, opacities: Tensor, extent: float) -> None:
        return None

    def observe(self, step: int, raster: RasterInfo, width: int, height: int) -> None:
        gradient = raster.means2d.grad
        if self._active(step) and gradient is not None:
            self._statistics.collect(gradient, raster.radii, width, height)

    def due(self, step: int) -> bool:
        return self._active(step) and step > self._settings.start and step % self._settings.every == 0

    def plan(self, step: int, population: Population, generator: torch.Generator) -> Plan:
        plan = plan_densification(
            population.means,
            population.log_scales,
            population.rotations,
            population.opacities,
            population.sizes,
            self._statistics,
            population.extent,
            self._settings,
            binding=population.binding,
            face_count=population.face_count,
            prune_large=0 < self._settings.reset_every < step,
            generator=generator,
        )
        self._statistics = Statistics.zeros(len(plan.source))
        return plan

    def lowers_opacity(self, step: int) -> bool:
        settings = self._settings
        often = settings.reset_every > 0 and step % settings.reset_every == 0
        once = settings.reset_at > 0 and step == settings.reset_at and self._white
        return self._active(step) and (often or once)

    def noise(self, population: Callable[[], Population], rate: float, generator: torch.Generator) -> None:
        return None

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self._statistics))

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._statistics = Statistics(*(tensors[name].clone() for name in ("gradient", "seen", "radius")))

    def _active(self, step: int) -> bool:
        return self._settings.every > 0 and step < self._settings.stop
