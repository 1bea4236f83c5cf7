"""Identity and expression by networks that the user brings: Vultus ships none and invents none.

Face-recognition and expression networks have terms of their own, so they are given as functions from Python.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


class FaceNetwork(Protocol):
    """A network's answer to one picture of one face: a vector, None where it finds no face. It aligns by itself."""

    name: str

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "D"] | None: ...


def identity_similarity(
    network: FaceNetwork, prediction: UInt8[np.ndarray, "H W 3"], target: UInt8[np.ndarray, "H W 3"]
) -> float | None:
    """Cosine similarity of the two faces' embeddings (CSIM), 1 for the same; None where either has no face."""
    first, second = network(prediction), network(target)
    if first is None or second is None:
        return None
    return float(torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=0))


def code_distance(
    network: FaceNetwork, prediction: UInt8[np.ndarray, "H W 3"], target: UInt8[np.ndarray, "H W 3"]
) -> float | None:
    """Mean absolute difference of the two faces' expression (AED) or pose codes (APD); None where either has no
    face."""
    first, second = network(prediction), network(target)
    return None if first is None or second is None else float((first.double() - second.double()).abs().mean())
