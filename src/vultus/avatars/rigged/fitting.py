"""Head parameters of the training frames as trainable tensors, starting from what was tracked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.avatars.rigged.settings import Rates
from vultus.motion import HeadParams, Motion


class FittedMotion(nn.Module):
    """A motion whose joint rotations, translations and expressions can be optimised. Identity and offset stay."""

    expression: nn.Parameter
    translation: nn.Parameter

    def __init__(self, motion: Motion) -> None:
        super().__init__()
        self.tracked = motion
        count = len(motion)
        params = motion.params.expand(count)
        self.expression = nn.Parameter(params.expression.detach().clone())
        self.translation = nn.Parameter(params.translation.detach().clone())
        self.joint_names = tuple(sorted(params.joints))
        self.joints = nn.ParameterList(
            [nn.Parameter(params.joints[name].detach().clone()) for name in self.joint_names]
        )

    def at(self, timestep: int) -> HeadParams:
        """Head parameters of one instant (no batch)."""
        joints = zip(self.joint_names, self.joints, strict=True)
        return replace(
            self.tracked.params[timestep],
            expression=self.expression[timestep],
            translation=self.translation[timestep],
            joints={name: values[timestep] for name, values in joints},
        )

    def change(self, timestep: int) -> Float[Tensor, ""]:
        """Squared distance of one instant from what was tracked; rotations in radians, translation in centimetres."""
        params = self.tracked.params[timestep]
        total = (self.expression[timestep] - params.expression).square().sum()
        total = total + (100 * (self.translation[timestep] - params.translation)).square().sum()
        for name, values in zip(self.joint_names, self.joints, strict=True):
            total = total + (values[timestep] - params.joint(name)).square().sum()
        return total

    def center(self) -> None:
        """Take the mean change of all instants away from each.

        What all share is as well said by the avatar, and poses that are tracked later do not have it.
        """
        params = self.tracked.params
        pairs = [(self.expression, params.expression), (self.translation, params.translation)]
        pairs += [(values, params.joint(name)) for name, values in zip(self.joint_names, self.joints, strict=True)]
        with torch.no_grad():
            for now, tracked in pairs:
                now -= (now - tracked).mean(0)

    def motion(self) -> Motion:
        """The motion as it is now, detached."""
        joints = zip(self.joint_names, self.joints, strict=True)
        params = replace(
            self.tracked.params,
            expression=self.expression.detach().clone(),
            translation=self.translation.detach().clone(),
            joints={name: values.detach().clone() for name, values in joints},
        )
        return replace(self.tracked, params=params)

    def groups(self, rates: Rates) -> list[dict[str, object]]:
        """Parameter groups for the optimiser."""
        return [
            {"params": list(self.joints), "lr": rates.pose, "name": "pose"},
            {"params": [self.translation], "lr": rates.translation, "name": "translation"},
            {"params": [self.expression], "lr": rates.expression, "name": "expression"},
        ]

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a `state_dict`."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(tensors[name])
