"""The coordinate systems of splat files.

Vultus' world has x to the subject's left (a viewer's right), y up and z towards a viewer in front: "RUB" in the names
that splat tools use, the axes of OpenGL and glTF. Scenes trained on COLMAP cameras, and with them the programs that
show `.ply` and `.splat` files, have y down and z away from the viewer: "RDF".
"""

from __future__ import annotations

from typing import Literal

import torch

from vultus.splats.gaussians import Gaussians
from vultus.splats.transforms import transform_gaussians

Axes = Literal["rub", "rdf"]
"""right-up-back, as in Vultus, or right-down-front."""


def rub_to_rdf(gaussians: Gaussians) -> Gaussians:
    """Half a turn about x: y and z change sign, rotations and spherical harmonics with them."""
    return transform_gaussians(gaussians, torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)))


def rdf_to_rub(gaussians: Gaussians) -> Gaussians:
    """The inverse of `rub_to_rdf`, which is the same half turn."""
    return rub_to_rdf(gaussians)
