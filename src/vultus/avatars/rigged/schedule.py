"""Learning rates of rigged Gaussians over the course of training."""

from __future__ import annotations

import math


def position_rate(
    step: float,
    spatial_scale: float = 1.0,
    *,
    initial: float = 0.005,
    final: float = 0.00005,
    steps: int = 600_000,
    delay_steps: int = 0,
    delay_factor: float = 0.01,
) -> float:
    """Learning rate of positions: log-linear from `initial` to `final` (both times `spatial_scale`) over `steps`.

    During the first `delay_steps` it is reduced, from `delay_factor` of its value up along a sine. GaussianAvatars
    takes the extent of the cameras as `spatial_scale`.
    """
    progress = min(max(step / steps, 0.0), 1.0)
    rate = math.exp((1 - progress) * math.log(initial) + progress * math.log(final)) * spatial_scale
    if delay_steps > 0:
        ramp = math.sin(math.pi / 2 * min(max(step / delay_steps, 0.0), 1.0))
        rate *= delay_factor + (1 - delay_factor) * ramp
    return rate


def active_degree(step: int, degree: int, every: int) -> int:
    """Spherical-harmonics degree in use at a step: one more after every `every` steps, up to `degree`."""
    return min(degree, step // every) if every > 0 else degree
