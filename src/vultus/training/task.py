"""`Task`: what the loop trains, as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class Task(Protocol):
    """Something that has a differentiable loss per step.

    The order of one step is `loss`, backward, `before_update`, the optimisers' step, `after_update`. Steps count from
    1. All randomness comes from the generator handed in, which depends on the seed and the step only;
    everything else that influences later steps is in the two states or in the optimisers.
    """

    name: str
    """What the progress bar shows."""
    optimizers: Mapping[str, torch.optim.Optimizer]
    """By name. `before_update` may replace their parameters; the loop saves and restores their state."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Float[Tensor, ""], Mapping[str, float]]:
        """The loss of a step and figures worth showing. Learning rates of the step are set here as well."""
        ...

    def before_update(self, step: int, generator: torch.Generator) -> None:
        """After gradients are there, before the optimisers use them: collect statistics, add and remove parameters."""
        ...

    def after_update(self, step: int) -> None:
        """After the optimisers' step: project parameters back into their domain."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the model is, and what only training needs (statistics). References: the loop copies them to disk."""
        ...

    def restore(self, model: Mapping[str, Tensor], training: Mapping[str, Tensor]) -> None:
        """Take over states that `state` gave. Parameter shapes may differ from the present ones.

        Raises:
            VultusError: the states do not fit this task.
        """
        ...
