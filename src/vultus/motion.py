"""`HeadParams`, one instant or a batch of a head model's parameters, and `Motion`, head parameters over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rotation_between


@dataclass(frozen=True)
class HeadParams:
    """Parameters of one head model; batch dimensions lead and broadcast against each other.

    `model` is the fingerprint of the head model they belong to, `identity` and `expression` are coefficients of its
    components in standard-deviation units (named components: 0 to 1), `joints` are axis-angle rotations (radians) by
    joint name relative to the parent, absent ones being zero, `translation` is in metres, `scale` multiplies the posed
    head, `offset` (metres, `[*B V 3]`) moves the vertices of the rest pose.
    """

    model: str
    identity: Float[Tensor, "*#B S"]
    expression: Float[Tensor, "*#B E"]
    joints: Mapping[str, Float[Tensor, "*#B 3"]]
    translation: Float[Tensor, "*#B 3"]
    scale: Float[Tensor, "*#B"]
    offset: Float[Tensor, "*#B V 3"] | None = None

    @property
    def batch_shape(self) -> torch.Size:
        shapes = [self.identity.shape[:-1], self.expression.shape[:-1], self.translation.shape[:-1], self.scale.shape]
        shapes += [rotation.shape[:-1] for rotation in self.joints.values()]
        if self.offset is not None:
            shapes.append(self.offset.shape[:-2])
        return torch.broadcast_shapes(*shapes)

    def joint(self, name: str) -> Float[Tensor, "*#B 3"]:
        """Rotation of a joint (axis-angle, radians), zero where none is stored."""
        rotation = self.joints.get(name)
        return torch.zeros_like(self.translation) if rotation is None else rotation

    def map(self, function: Callable[[Tensor], Tensor]) -> HeadParams:
        """Apply a function to every tensor."""
        return replace(
            self,
            identity=function(self.identity),
            expression=function(self.expression),
            joints={name: function(rotation) for name, rotation in self.joints.items()},
            translation=function(self.translation),
            scale=function(self.scale),
            offset=None if self.offset is None else function(self.offset),
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> HeadParams:
        return self.map(lambda tensor: tensor.to(device, dtype))

    def detach(self) -> HeadParams:
        return self.map(torch.Tensor.detach)

    def expand(self, *batch: int) -> HeadParams:
        """Broadcast every tensor but the offset, which is large and may stay shared, to one batch shape."""
        return replace(
            self,
            identity=self.identity.expand(*batch, -1),
            expression=self.expression.expand(*batch, -1),
            joints={name: rotation.expand(*batch, 3) for name, rotation in self.joints.items()},
            translation=self.translation.expand(*batch, 3),
            scale=self.scale.expand(*batch),
        )

    def __getitem__(self, index: int | slice | Tensor) -> HeadParams:
        """Select along the first batch dimension. A tensor without a batch (shared by all) stays as it is."""
        batch = self.batch_shape
        if len(batch) == 0:
            raise IndexError("head parameters without a batch dimension cannot be indexed")

        def select(tensor: Tensor, event: int) -> Tensor:
            if tensor.dim() - event < len(batch):
                return tensor
            return tensor.expand(batch[0], *tensor.shape[1:])[index]

        return replace(
            self,
            identity=select(self.identity, 1),
            expression=select(self.expression, 1),
            joints={name: select(rotation, 1) for name, rotation in self.joints.items()},
            translation=select(self.translation, 1),
            scale=select(self.scale, 0),
            offset=None if self.offset is None else select(self.offset, 2),
        )


@dataclass(frozen=True)
class Motion:
    """Head parameters over time. `params` has one batch dimension T; identity, scale and offset may be shared.

    `times` are seconds, `valid` marks instants at which the head was found, `shots` numbers uninterrupted takes, and
    `neutral` (no batch) is the pose and expression of this person at rest, which retargeting is relative to.
    """

    params: HeadParams
    times: Float[Tensor, "T"]
    neutral: HeadParams
    valid: Bool[Tensor, "T"] = field(default_factory=lambda: torch.ones(0, dtype=torch.bool))
    shots: Int[Tensor, "T"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        count = self.times.shape[0]
        if self.valid.shape[0] != count:
            object.__setattr__(self, "valid", torch.ones(count, dtype=torch.bool))
        if self.shots.shape[0] != count:
            object.__setattr__(self, "shots", torch.zeros(count, dtype=torch.int64))

    def __len__(self) -> int:
        return int(self.times.shape[0])

    @property
    def fps(self) -> float:
        """Frames per second from the median time step; 25 for a single instant."""
        if len(self) < 2:
            return 25.0
        return float(1.0 / torch.median(self.times[1:] - self.times[:-1]).clamp_min(1e-6))

    def __getitem__(self, index: slice | Tensor) -> Motion:
        return replace(
            self, params=self.params[index], times=self.times[index], valid=self.valid[index], shots=self.shots[index]
        )


def retarget(
    params: HeadParams,
    source_neutral: HeadParams,
    target_neutral: HeadParams,
    *,
    expression_gain: float = 1.0,
    translation_gain: float = 1.0,
) -> HeadParams:
    """Carry a movement from one person to another of the same head model, relative to both neutrals.

    Expression: difference to the source's neutral added to the target's. Rotations: the rotation from the source's
    neutral, applied after the target's, `R = R_target0 · (R_source0ᵀ · R_source)`. Translation: displacement times
    `translation_gain` (ratio of the two heads' sizes). Offset: where the source's moves, its difference to the
    neutral's is added to the target's. Identity and scale are the target's.
    """
    joints, offset = {}, target_neutral.offset
    if params.offset is not None and source_neutral.offset is not None:
        away = params.offset - source_neutral.offset
        if bool(away.any()):
            offset = away if offset is None else offset + away
    for name in {*params.joints, *source_neutral.joints, *target_neutral.joints}:
        moved = rotation_between(
            axis_angle_to_matrix(source_neutral.joint(name)), axis_angle_to_matrix(params.joint(name))
        )
        joints[name] = matrix_to_axis_angle(axis_angle_to_matrix(target_neutral.joint(name)) @ moved)
    return replace(
        target_neutral,
        expression=target_neutral.expression + expression_gain * (params.expression - source_neutral.expression),
        joints=joints,
        translation=target_neutral.translation + translation_gain * (params.translation - source_neutral.translation),
        offset=offset,
    )
