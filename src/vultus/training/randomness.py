"""Randomness without hidden state: what is drawn at a step depends only on the seed and the step's number.

A resumed run therefore draws exactly what the uninterrupted one would have drawn, with nothing to save.
"""

from __future__ import annotations

import functools

import torch
from jaxtyping import Int
from torch import Tensor

_MASK = (1 << 64) - 1


def step_generator(seed: int, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one use, determined by the seed and the counters (a step, a step and a purpose, ...)."""
    state = _mix(seed & _MASK)
    for counter in counters:
        state = _mix(state ^ _mix((counter + 0x9E3779B97F4A7C15) & _MASK))
    # PyTorch's CPU generator looks at 32 bits of its seed only.
    return torch.Generator(device).manual_seed(state >> 32)


def shuffled_index(seed: int, step: int, count: int) -> int:
    """Which of `count` items step `step` (from 1) works on: every epoch visits all of them in an order of its own."""
    epoch, place = divmod(step - 1, count)
    return int(_order(seed, epoch, count)[place])


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> Int[Tensor, "count"]:
    return torch.randperm(count, generator=step_generator(seed, epoch, 0x0E))


def _mix(value: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
