"""A motion of one head model as a motion of another, so that a driver tracked with one moves avatars of all."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.animation.retargeting import JAWLESS_LIMIT, NUMBERED_LIMIT
from vultus.heads.arkit import arkit_name, arkit_to_params, is_numbered, params_to_arkit
from vultus.heads.correspondence import Correspondence, correspond
from vultus.heads.model import SkinnedHead
from vultus.heads.transfer import PointHead, Unknowns, fit_places
from vultus.motion import HeadParams, Motion
from vultus.progress import Progress, silent
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle

_CHUNK = 64
_NAMED_SIGMA = 1.2e-3
"""Metres that a named component's whole range costs: names that both models have are worth more than their last bit."""
_NUMBERED_SIGMA = 5e-5
_EYES = ("left_eye", "right_eye")


def convert_motion(motion: Motion, source: SkinnedHead, target: SkinnedHead, *, progress: Progress = silent) -> Motion:
    """The motion of head model `source` as one of head model `target`, on the target's mean person.

    Pose: the skull turns exactly as before and is where it was, the middles of both models' landmarks coinciding; the
    root does what the root did, and what the joints between root and skull did together, the target's skull joint does.
    Gaze is carried as the turns of the eye joints, the jaw as that of the jaw joint where both models have one.
    Expression is fitted in every frame: skin that corresponds (`vultus.heads.correspondence`) moves away from the
    source's neutral face as it did there, relative to the models' sizes. Components that both models name start from
    each other's values. Identity and offset do not come along: what a motion is relative to is its neutral.

    Raises:
        ValueError: the motion is not one of `source`.
        VultusError: the models have no landmarks in common.
    """
    if motion.params.model != source.fingerprint:
        raise ValueError("the motion belongs to another head model than its source")
    shared = correspond(source, target)
    donor, taker = PointHead(source, shared.source), PointHead(target, shared.target)
    count = len(motion)
    parts = []
    for first in range(0, count, _CHUNK):
        rows = slice(first, min(first + _CHUNK, count))
        parts.append(_converted(motion.params[rows], source, target, shared, donor, taker))
        progress("converting motion", rows.stop, count, {})
    neutral = motion.neutral.expand(1)
    calm = _converted(neutral, source, target, shared, donor, taker)[0]
    own = target.neutral()
    params = HeadParams(
        model=target.fingerprint,
        identity=own.identity,
        expression=torch.cat([part.expression for part in parts]),
        joints={name: torch.cat([part.joint(name) for part in parts]) for name in target.joint_names},
        translation=torch.cat([part.translation for part in parts]),
        scale=own.scale,
    )
    return replace(motion, params=params, neutral=replace(calm, identity=own.identity, scale=own.scale))


def _converted(
    params: HeadParams,
    source: SkinnedHead,
    target: SkinnedHead,
    shared: Correspondence,
    donor: PointHead,
    taker: PointHead,
) -> HeadParams:
    batch = params.batch_shape[0]
    params = replace(params, offset=None).expand(batch)
    own = target.neutral(batch)
    identity = params.identity[:1]
    zero = source.neutral().expression
    moved = donor.places(params.identity, params.expression, params.joint("jaw"))
    moved = (moved - donor.places(identity, zero, params.translation.new_zeros(3))) * shared.scale
    rest = taker.places(own.identity[0], own.expression[0], own.translation[0])
    start = arkit_to_params(target, params_to_arkit(source, params), neutral=own)
    numbered = torch.tensor([is_numbered(name) for name in target.expression_names])
    both_jaws = donor.has_jaw and taker.has_jaw
    jaw = params.joint("jaw") if both_jaws else start.joint("jaw")
    reach = NUMBERED_LIMIT if taker.has_jaw else JAWLESS_LIMIT
    size = len(numbered)
    unknowns = Unknowns(
        start=torch.where(numbered, torch.zeros(size), start.expression),
        sigma=_NUMBERED_SIGMA if bool(numbered.any()) else _NAMED_SIGMA,
        lowest=torch.where(numbered, -reach, 0.0),
        highest=torch.where(numbered, reach, 1.0),
        # What only the inside of the mouth or the eyes shows cannot be seen from the skin: it stays as named.
        free=_moves_skin(taker) & torch.tensor([not _is_gaze(name) for name in target.expression_names]),
        jaw=taker.has_jaw and not both_jaws,
    )
    expression, jaw = fit_places(taker, own.identity[0], rest + moved, shared.weights, jaw, unknowns)
    joints = {name: params.joint(name) for name in _EYES if name in target.joint_names}
    if taker.has_jaw:
        joints["jaw"] = jaw
    return _posed(replace(own, expression=expression, joints=joints), params, source, target, shared)


def _posed(
    result: HeadParams, params: HeadParams, source: SkinnedHead, target: SkinnedHead, shared: Correspondence
) -> HeadParams:
    """`result` with the root, skull joint and translation that put the target's skull where the source's is."""
    skull = source.head_to_world(params)
    body = axis_angle_to_matrix(params.joint(source.joint_names[0]))
    root = target.joint_names[0]
    joints = dict(result.joints)
    if target.skull_joint == root:
        joints[root] = matrix_to_axis_angle(skull[..., :3, :3])
    else:
        joints[root] = params.joint(source.joint_names[0])
        joints[target.skull_joint] = matrix_to_axis_angle(body.transpose(-1, -2) @ skull[..., :3, :3])
    result = replace(
        result,
        joints={name: joints.get(name, torch.zeros_like(result.translation)) for name in target.joint_names},
        translation=torch.zeros_like(result.translation),
    )
    there = _carried(skull, shared.source_centre * params.scale[..., None])
    here = _carried(target.head_to_world(result), shared.target_centre.expand_as(there))
    return replace(result, translation=there - here)


def _carried(motion: Float[Tensor, "*B 4 4"], point: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    return (motion[..., :3, :3] @ point[..., None])[..., 0] + motion[..., :3, 3]


def _moves_skin(head: PointHead) -> Tensor:
    return head.basis.norm(dim=1).amax(0) > 1e-4


def _is_gaze(component: str) -> bool:
    return (arkit_name(component) or "").startswith("eyeLook")
