"""Random weights for networks whose published ones cannot be had."""

import math

import torch
from torch import Tensor


def random_weights(network: torch.nn.Module) -> dict[str, Tensor]:
    """Of a size at which signals keep theirs through many layers."""
    generator = torch.Generator().manual_seed(4)
    weights = {}
    for name, value in network.state_dict().items():
        if value.dim() > 1:
            scale = math.sqrt(1 / value[0].numel())
            weights[name] = scale * torch.randn(value.shape, generator=generator)
        elif name.endswith(("running_var", "weight")):
            weights[name] = 0.5 + torch.rand(value.shape, generator=generator)
        elif not name.endswith("num_batches_tracked"):
            weights[name] = 0.1 * torch.randn(value.shape, generator=generator)
    return weights
