"""Carrying a motion from one person to another of the same head model, smoothing and mirroring it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.errors import VultusError
from vultus.heads.arkit import is_numbered, mirrored_name
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams, Motion, retarget
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rotation_between

NUMBERED_LIMIT, JAWLESS_LIMIT = 3.0, 12.0
"""Standard deviations of numbered components; an open mouth takes many of a model without a jaw joint."""
_CHUNK = 512


@dataclass(frozen=True)
class Retargeting:
    """How a driver's motion is carried over.

    expression_gain: how strongly expressions are transferred. translation_gain: how far the head moves where the
    driver's moves; None: by the ratio of the two eye distances. smoothing: standard deviation, seconds, of a Gaussian
    over time. mirror: swap left and right, as in a mirror.
    """

    expression_gain: float = 1.0
    translation_gain: float | None = None
    smoothing: float = 0.0
    mirror: bool = False


def retarget_motion(motion: Motion, head: HeadModel, target: HeadParams, options: Retargeting | None = None) -> Motion:
    """A driver's motion as the motion of the person whose rest parameters are `target`.

    Relative to both neutrals (`vultus.motion.retarget`); identity, scale and offset are the target's. Expressions are
    kept within what faces do: named components in [0, 1], numbered ones within 3 standard deviations (12 where there is
    no jaw joint), either widened to include the target's own rest.

    Raises:
        VultusError: motion and target belong to different head models, or mirroring is asked of a head model whose
            components have no sides.
    """
    options = options or Retargeting()
    if not motion.params.model == target.model == head.fingerprint:
        raise VultusError(
            f"the motion was made with another head model ({motion.params.model[:12]}) than {head.name} "
            f"({head.fingerprint[:12]}); track the driving video with the avatar's head model"
        )
    if options.mirror:
        motion = mirror(motion, head)
    if options.smoothing > 0:
        motion = smooth(motion, options.smoothing)
    gain = options.translation_gain
    if gain is None:
        gain = _eye_distance(head, target) / _eye_distance(head, motion.neutral)
    moved = retarget(
        motion.params,
        motion.neutral,
        target,
        expression_gain=options.expression_gain,
        translation_gain=gain,
    )
    lowest, highest = _expression_limits(head, target.expression)
    params = replace(moved, expression=moved.expression.clamp(lowest, highest))
    return replace(motion, params=params, neutral=target)


def _expression_limits(head: HeadModel, rest: Float[Tensor, "E"]) -> tuple[Tensor, Tensor]:
    numbered = torch.tensor([is_numbered(name) for name in head.expression_names])
    limit = NUMBERED_LIMIT if "jaw" in head.joint_names else JAWLESS_LIMIT
    lowest = torch.where(numbered, -limit, 0.0).to(rest)
    highest = torch.where(numbered, limit, 1.0).to(rest)
    return torch.minimum(lowest, rest), torch.maximum(highest, rest)


def _eye_distance(head: HeadModel, params: HeadParams) -> float:
    names = head.joint_names
    if "left_eye" not in names or "right_eye" not in names:
        return 1.0
    joints = head.pose(params.detach()).joints
    distance = joints[..., names.index("left_eye"), :] - joints[..., names.index("right_eye"), :]
    return float(distance.norm(dim=-1).mean().clamp_min(1e-6))


def mirror(motion: Motion, head: HeadModel) -> Motion:
    """The motion seen in a mirror: left is right in expressions, eyes, rotations and translation.

    Raises:
        VultusError: the head's expression components have no sides that could be swapped (FLAME's are unnamed).
    """
    names = head.expression_names
    swapped = [mirrored_name(name) for name in names]
    if any(map(is_numbered, names)) or set(swapped) != set(names):
        raise VultusError(f"a motion of the head model {head.name} cannot be mirrored: its components have no sides")
    order = torch.tensor([names.index(name) for name in swapped])

    def flip(params: HeadParams) -> HeadParams:
        return replace(
            params,
            expression=params.expression[..., order],
            joints={
                _other_side(name): rotation * rotation.new_tensor([1.0, -1.0, -1.0])
                for name, rotation in params.joints.items()
            },
            translation=params.translation * params.translation.new_tensor([-1.0, 1.0, 1.0]),
        )

    return replace(motion, params=flip(motion.params), neutral=flip(motion.neutral))


def _other_side(joint: str) -> str:
    return {"left_eye": "right_eye", "right_eye": "left_eye"}.get(joint, joint)


def smooth(motion: Motion, sigma: float) -> Motion:
    """Gaussian smoothing over time, `sigma` seconds, by the instants' real times.

    Never across a change of shot; instants at which the head was not found count for nothing, and get what their
    neighbours say. Rotations are smoothed as rotation vectors about the shot's mean. Shared parameters stay.
    """
    if sigma <= 0 or len(motion) < 2:
        return motion
    params = motion.params
    count = len(motion)

    def timed(tensor: Tensor, event: int) -> bool:
        return tensor.dim() > event and tensor.shape[0] == count

    def plain(tensor: Tensor, event: int = 1) -> Tensor:
        return _blur(tensor, motion, sigma) if timed(tensor, event) else tensor

    def rotation(tensor: Tensor) -> Tensor:
        if not timed(tensor, 1):
            return tensor
        matrices = axis_angle_to_matrix(tensor)
        result = torch.empty_like(tensor)
        for shot in motion.shots.unique():
            rows = motion.shots == shot
            # The middle instant stands for the mean: near it rotation vectors add up like vectors.
            center = matrices[rows][int(rows.sum()) // 2]
            relative = matrix_to_axis_angle(rotation_between(center, matrices[rows]))
            blurred = _blur(relative, motion[rows], sigma)
            result[rows] = matrix_to_axis_angle(center @ axis_angle_to_matrix(blurred))
        return result

    return replace(
        motion,
        params=replace(
            params,
            expression=plain(params.expression),
            joints={name: rotation(value) for name, value in params.joints.items()},
            translation=plain(params.translation),
        ),
    )


def _blur(values: Float[Tensor, "T D"], motion: Motion, sigma: float) -> Float[Tensor, "T D"]:
    times = motion.times
    result = torch.empty_like(values)
    for start in range(0, len(motion), _CHUNK):
        rows = slice(start, min(start + _CHUNK, len(motion)))
        low = int(torch.searchsorted(times, times[rows][0] - 4 * sigma))
        high = int(torch.searchsorted(times, times[rows][-1] + 4 * sigma, right=True))
        near = slice(low, high)
        weights = torch.exp(-((times[rows, None] - times[None, near]) ** 2) / (2 * sigma**2))
        weights = weights * (motion.shots[rows, None] == motion.shots[None, near]) * motion.valid[None, near]
        total = weights.sum(1, keepdim=True)
        blurred = (weights.to(values) @ values[near]) / total.to(values).clamp_min(1e-12)
        result[rows] = torch.where(total > 1e-6, blurred, values[rows])
    return result
