"""Carrying a motion from one person to another of the same head model, smoothing and mirroring it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.heads.arkit import is_numbered, mirrored_name
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams, Motion, retarget
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rotation_between

NUMBERED_LIMIT, JAWLESS_LIMIT = 3.0, 12.0
"""Standard deviations of numbered components; an open mouth takes many of a model without a jaw joint."""
_CHUNK = 512


@dataclass(frozen=True)
class Sight:
    """Where a camera stands (metres) and along which axis (of length 1) it looks."""

    eye: Float[Tensor, "3"]
    axis: Float[Tensor, "3"]

    @staticmethod
    def of(camera: Camera) -> Sight:
        """That of a camera without batch dimensions."""
        return Sight(camera.center, camera.world_to_camera[2, :3])


@dataclass(frozen=True)
class Retargeting:
    """How a driver's motion is carried over.

    mode: `relative`: relative to both neutrals. `paper`: expression, rotations and translation are copied as they are,
    as GaussianAvatars does it; only identity, scale and offset stay the target's, and nothing else here counts but
    `smoothing` and `mirror`.
    neutral_at: the driver's instant (seconds from its start) that counts as its neutral; None: the motion's own.
    expression_gain: how strongly expressions are transferred. translation_gain: how far the head moves where the
    driver's moves; None: by the ratio of the two eye distances, and along the viewing axis so that the head grows and
    shrinks in the picture as the driver's does (see `retarget_motion`). smoothing: standard deviation, seconds, of a
    Gaussian over time. mirror: swap left and right, as in a mirror.
    """

    mode: Literal["relative", "paper"] = "relative"
    neutral_at: float | None = None
    expression_gain: float = 1.0
    translation_gain: float | None = None
    smoothing: float = 0.0
    mirror: bool = False


def retarget_motion(
    motion: Motion,
    head: HeadModel,
    target: HeadParams,
    options: Retargeting | None = None,
    *,
    source_sight: Sight | None = None,
    target_sight: Sight | None = None,
) -> Motion:
    """A driver's motion as the motion of the person whose rest parameters are `target`.

    Relative to both neutrals (`vultus.motion.retarget`); identity, scale and offset are the target's. Expressions are
    kept within what faces do: named components in [0, 1], numbered ones within 3 standard deviations (12 where there is
    no jaw joint), either widened to include the target's own rest.

    Where both cameras are given (`source_sight` in the driver's world, `target_sight` in the avatar's), movement along
    the driver's viewing axis is scaled by the ratio of the distances at rest instead of that of the eyes: perspective
    shows it as a change of size, `distance / (distance + movement)`. A focal length that the tracker guessed too long
    makes distances and movements along the axis longer alike, and so falls out.

    Raises:
        VultusError: a `neutral_at` that the motion does not reach; motion and target of different head models; or
            mirroring is asked of a head model whose components have no sides.
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
    if options.mode == "paper":
        own = {"identity": target.identity, "scale": target.scale, "offset": target.offset}
        return replace(motion, params=replace(motion.params, **own), neutral=target)
    if options.neutral_at is not None:
        motion = replace(motion, neutral=replace(_at(motion, options.neutral_at), offset=motion.neutral.offset))
    gain = options.translation_gain
    if gain is None:
        gain = _eye_distance(head, target) / _eye_distance(head, motion.neutral)
        if source_sight is not None and target_sight is not None:
            motion = _along_sight(motion, head, target, gain, source_sight, target_sight)
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


def _at(motion: Motion, seconds: float) -> HeadParams:
    """The parameters of the valid instant nearest to a time from the motion's start."""
    times = motion.times - motion.times[0]
    if not 0 <= seconds <= float(times[-1]) + 1 / motion.fps:
        raise VultusError(f"the driver has no instant at {seconds:g} s; it lasts from 0 to {float(times[-1]):.2f} s")
    away = torch.where(motion.valid, (times - seconds).abs(), torch.inf)
    return motion.params[int(away.argmin())]


def _along_sight(
    motion: Motion,
    head: HeadModel,
    target: HeadParams,
    gain: float,
    source: Sight,
    goal: Sight,
) -> Motion:
    """The motion with its movement along the viewing axis scaled so that `gain` times it is seen as the driver's."""
    distances = [
        float((head.pose(params).vertices.mean(-2) - sight.eye) @ sight.axis)
        for params, sight in ((motion.neutral, source), (target, goal))
    ]
    if not all(_LEAST_DISTANCE < distance < _MOST_DISTANCE for distance in distances):
        return motion
    share = distances[1] / distances[0] / gain
    if abs(share - 1) < 1e-4:
        return motion
    moved = motion.params.translation - motion.neutral.translation
    along = (moved * source.axis).sum(-1, keepdim=True) * source.axis
    params = replace(motion.params, translation=motion.params.translation + (share - 1) * along)
    return replace(motion, params=params)


_LEAST_DISTANCE, _MOST_DISTANCE = 0.05, 100.0
"""Metres between a camera and a head that can be believed."""


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
