"""Training Gaussians as samples: faint ones move to where opaque ones are, the number grows to a limit, means jitter.

Source: Kheradmand et al., "3D Gaussian Splatting as Markov Chain Monte Carlo" (NeurIPS 2024). There, lengths are in
units of a scene of about size 1; here they are divided by the extent. Positions are triangle-local, and a triangle
never loses its last Gaussian, as with the other strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.avatars.rigged.densify import Plan, removable
from vultus.avatars.rigged.strategy import Population
from vultus.splats import RasterInfo

_MOST_COPIES = 51
_GATE = 100.0


@dataclass(frozen=True)
class McmcSettings:
    """When and what to move and add.

    start, stop, every: steps between which, and how often, Gaussians are moved and added. min_opacity: those at or
    below it are moved. growth, limit: factor of the number each time, up to the limit. noise: length of the jitter of
    faint Gaussians, as a multiple of their covariance over the extent; it falls with the rate of the means. opacity,
    scale: weights of the mean opacity, and of the mean standard deviation over the extent, in the loss.
    """

    start: int = 10_000
    stop: int = 500_000
    every: int = 2_000
    min_opacity: float = 0.005
    growth: float = 1.05
    limit: int = 1_000_000
    noise: float = 80.0
    opacity: float = 0.01
    scale: float = 0.01


def shared_opacity(
    opacities: Float[Tensor, "N"], copies: Int[Tensor, "N"]
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """Opacity of each of `copies` equal Gaussians that together stand for one, and the factor of their scales.

    At their centre all copies together let the same light through as the one did. Along every line through the centre
    the integral of what they hide is the same. More than 51 copies are treated as 51.

    Args:
        opacities: of the one, in [0, 1). copies: 1 or more.
    """
    old = opacities.double()
    number = copies.clamp(1, _MOST_COPIES)
    new = -torch.expm1(torch.log1p(-old) / number)
    # Binomial expansion of the integral of 1 - (1 - new g)^n along a line, where the integral of g^k is that of
    # g over sqrt(k).
    total = torch.zeros_like(old)
    term = torch.ones_like(old)
    for k in range(1, _MOST_COPIES + 1):
        term = term * -new * (number - k + 1) / k  # zero beyond k = n
        total = total - term / k**0.5
    return new.to(opacities), torch.where(number > 1, old / total, 1.0).to(opacities)


def plan_relocation(population: Population, settings: McmcSettings, generator: torch.Generator) -> Plan:
    """Move faint Gaussians onto others, drawn in proportion to opacity, and add some in the same way.

    The drawn one and its copies share its opacity (`shared_opacity`). Where all Gaussians of a triangle are faint, they
    stay.
    """
    opacities, count = population.opacities, population.opacities.shape[0]
    faint = opacities <= settings.min_opacity
    moving = removable(faint, population.binding, population.face_count).nonzero()[:, 0]
    wanted = min(settings.limit, int(settings.growth * count))
    added = max(0, wanted - count)
    weights = torch.where(faint, 0.0, opacities)
    if not bool((weights > 0).any()):  # nothing to move onto
        moving, added = moving[:0], 0
    source = torch.arange(count + added, device=opacities.device)
    slots = torch.cat([moving, source[count:]])
    drawn = slots
    if len(slots):
        drawn = torch.multinomial(weights, len(slots), replacement=True, generator=generator)
    source[slots] = drawn
    copies = 1 + torch.bincount(drawn, minlength=count)
    opacity, factor = shared_opacity(opacities.clamp(max=1 - torch.finfo(opacities.dtype).eps), copies)
    shared = (copies > 1)[source]
    opacity = torch.where(shared, opacity[source].clamp_min(settings.min_opacity), opacities[source])
    scales = population.log_scales[source]
    log_scales = torch.where(shared[:, None], scales + factor[source].log()[:, None], scales)
    return Plan(source, shared, population.means[source], log_scales, opacity)


def jitter(
    population: Population, settings: McmcSettings, rate: float, generator: torch.Generator
) -> Float[Tensor, "N 3"]:
    """Steps of the means, triangle-local: covariance times a normal vector, times a gate that only faint ones pass."""
    normal = torch.randn(population.means.shape, generator=generator).to(population.means)
    gate = torch.sigmoid(-_GATE * (population.opacities - settings.min_opacity))
    # In the world the step is noise / extent times a covariance that grows with the square of the triangle's size.
    length = settings.noise * rate / population.extent * population.sizes * gate[:, None]
    along = (population.rotations.transpose(-1, -2) @ normal[..., None])[..., 0]
    turned = (population.rotations @ (population.log_scales.mul(2).exp() * along)[..., None])[..., 0]
    return length * turned


class Mcmc:
    """The strategy of `McmcSettings`."""

    def __init__(self, settings: McmcSettings) -> None:
        self._settings = settings

    def regulariser(
        self, scales: Float[Tensor, "N 3"], opacities: Float[Tensor, "N"], extent: float
    ) -> Float[Tensor, ""]:
        return self._settings.opacity * opacities.mean() + self._settings.scale * scales.mean() / extent

    def observe(self, step: int, raster: RasterInfo, width: int, height: int) -> None:
        pass  # what it does depends on opacities alone

    def due(self, step: int) -> bool:
        settings = self._settings
        return settings.every > 0 and settings.start < step < settings.stop and step % settings.every == 0

    def plan(self, step: int, population: Population, generator: torch.Generator) -> Plan:
        return plan_relocation(population, self._settings, generator)

    def lowers_opacity(self, step: int) -> bool:
        return False

    def noise(
        self, population: Callable[[], Population], rate: float, generator: torch.Generator
    ) -> Float[Tensor, "N 3"] | None:
        """The covariance times a normal vector times a gate that only faint Gaussians pass, in triangle-local units."""
        if self._settings.noise <= 0:
            return None
        return jitter(population(), self._settings, rate, generator)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        pass
