"""Weights that a user brings, put into a network of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from vultus.errors import VultusError

Network = TypeVar("Network", bound=nn.Module)
_COUNTER = "num_batches_tracked"


def load_weights(network: Network, weights: Mapping[str, Tensor], where: str) -> Network:
    """The network, made on the device `meta`, with these weights in float32, for use and not for training.

    Weights that it has no place for are ignored; `where` is for messages.

    Raises:
        VultusError: a weight is missing, has another shape or is not finite.
    """
    found: dict[str, Tensor] = {}
    for name, wanted in network.state_dict().items():
        value = weights.get(name)
        if name.endswith(_COUNTER):
            found[name] = torch.zeros((), dtype=torch.int64)
            continue
        if value is None or value.shape != wanted.shape or not value.is_floating_point():
            what = "is missing" if value is None else f"has the shape {tuple(value.shape)}"
            raise VultusError(
                f"{where}: {name} {what}, it should have {tuple(wanted.shape)}; these are not the weights that are "
                "needed"
            )
        if not bool(torch.isfinite(value).all()):
            raise VultusError(f"{where}: {name} is not finite; the file is damaged")
        found[name] = value.detach().float()
    network.load_state_dict(found, assign=True)
    return network.eval().requires_grad_(False)
