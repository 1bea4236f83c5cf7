"""The pose and expression a person returns to, which retargeting is relative to."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from vultus.motion import HeadParams

_CALM_SHARE = 0.2


def neutral_of(params: HeadParams, valid: Bool[Tensor, "N"]) -> HeadParams:
    """The median over the calmest fifth of the valid frames, by expression and jaw; without a batch dimension.

    Of a single frame it is that frame's pose with no expression, a closed jaw and straight eyes: a photo says nothing
    of how the face looks at rest.
    """
    frames = torch.nonzero(valid)[:, 0]
    if len(frames) < 2:
        index = int(frames[0]) if len(frames) else 0
        still = params[index]
        joints = {
            name: value if name in ("root", "neck") else torch.zeros_like(value) for name, value in still.joints.items()
        }
        return replace(still, expression=torch.zeros_like(still.expression), joints=joints)
    expression = params.expression[frames]
    energy = expression.square().sum(-1) + 4 * params.joint("jaw")[frames].square().sum(-1)
    count = max(1, round(_CALM_SHARE * len(frames)))
    calm = frames[energy.argsort()[:count]]

    def middle(values: Tensor) -> Tensor:
        return values[calm].median(0).values

    return replace(
        params[int(calm[0])],
        expression=middle(params.expression),
        joints={name: middle(value) for name, value in params.joints.items()},
        translation=middle(params.translation),
    )
