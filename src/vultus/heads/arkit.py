"""ARKit's 52 face shapes: their names as various programs spell them, and what they do to a head model.

Source: Apple, ARFaceAnchor.BlendShapeLocation. Values are 0 to 1; Left and Right are the subject's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.errors import VultusError
from vultus.heads.model import HeadModel, SkinnedHead
from vultus.motion import HeadParams

ARKIT_NAMES: tuple[str, ...] = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight", "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel",
    "mouthPucker", "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft",
    "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft",
    "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft",
    "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip

JAW_OPEN_RADIANS = 0.4
"""Jaw rotation that jawOpen = 1 stands for."""
JAW_SIDE_RADIANS = 0.1
"""Jaw rotation of jawLeft = 1, for heads that have no such component."""
GAZE_YAW_RADIANS = 0.5
"""Eye rotation of eyeLookIn and eyeLookOut = 1."""
GAZE_PITCH_RADIANS = 0.4
"""Eye rotation of eyeLookUp and eyeLookDown = 1."""

_COLUMN = {name: column for column, name in enumerate(ARKIT_NAMES)}
_BY_LOWER = {name.lower(): name for name in ARKIT_NAMES}
_BY_LOWER |= {
    name.lower().removesuffix(side.lower()) + side[0].lower(): name
    for name in ARKIT_NAMES
    for side in ("Left", "Right")
    if name.endswith(side) and name.lower().removesuffix(side.lower()) not in ("jaw", "mouth")
}

# What turns which joint: name, joint, axis, radians at weight 1. Positive x looks down and opens the jaw, positive y
# turns to the subject's left.
_JOINTS = (
    ("jawOpen", "jaw", 0, JAW_OPEN_RADIANS),
    ("jawLeft", "jaw", 1, JAW_SIDE_RADIANS),
    ("jawRight", "jaw", 1, -JAW_SIDE_RADIANS),
    ("eyeLookDownLeft", "left_eye", 0, GAZE_PITCH_RADIANS),
    ("eyeLookUpLeft", "left_eye", 0, -GAZE_PITCH_RADIANS),
    ("eyeLookOutLeft", "left_eye", 1, GAZE_YAW_RADIANS),
    ("eyeLookInLeft", "left_eye", 1, -GAZE_YAW_RADIANS),
    ("eyeLookDownRight", "right_eye", 0, GAZE_PITCH_RADIANS),
    ("eyeLookUpRight", "right_eye", 0, -GAZE_PITCH_RADIANS),
    ("eyeLookInRight", "right_eye", 1, GAZE_YAW_RADIANS),
    ("eyeLookOutRight", "right_eye", 1, -GAZE_YAW_RADIANS),
)


def arkit_name(text: str) -> str | None:
    """ARKit's spelling of a name as other programs write it (any case, `_L`, `L`, `_left`), None for another word."""
    key = re.sub(r"[\s_\-.]", "", text).lower()
    return _BY_LOWER.get(key)


def mirrored_name(name: str) -> str:
    """The same shape of the other side of the face; itself where it has no side."""
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    if name.endswith("Right"):
        return name.removesuffix("Right") + "Left"
    return name


def arkit_weights(weights: Mapping[str, float | Tensor]) -> Float[Tensor, "*B 52"]:
    """Weights by name, in any spelling, as a tensor in the order of `ARKIT_NAMES`; names not given are 0.

    Raises:
        VultusError: a name that is none of the 52, or given twice.
    """
    columns: dict[str, Tensor] = {}
    for text, value in weights.items():
        name = arkit_name(text)
        if name is None:
            raise VultusError(f"{text!r} is not one of ARKit's 52 face shapes")
        if name in columns:
            raise VultusError(f"the face shape {name} is given twice")
        columns[name] = torch.as_tensor(value, dtype=torch.float32)
    batch = torch.broadcast_shapes(*(column.shape for column in columns.values()))
    result = torch.zeros(*batch, len(ARKIT_NAMES))
    for name, value in columns.items():
        result[..., _COLUMN[name]] = value
    return result


def arkit_to_params(
    head: HeadModel,
    weights: Float[Tensor, "*B 52"] | Mapping[str, float | Tensor],
    *,
    neutral: HeadParams | None = None,
) -> HeadParams:
    """The head parameters of ARKit weights, relative to `neutral` (default: the mean person).

    A weight drives the expression component of its name (for an unpaired name also the pair `...Left`, `...Right`);
    jawOpen, jawLeft and jawRight turn the jaw joint of heads that have no such component; the eyeLook names turn the
    eye joints in any case.
    Numbered components (FLAME's, GNM's) do the remaining names as well as they can: the built-in head's shapes are
    fitted with them, once per head model. What a head can do in no way has no effect (see `unsupported`).
    Differentiable.

    Raises:
        VultusError: a name that is none of the 52.
        ValueError: weights of another width.
    """
    values = arkit_weights(weights) if isinstance(weights, Mapping) else weights
    if values.shape[-1] != len(ARKIT_NAMES):
        raise ValueError(f"ARKit has 52 weights, not {values.shape[-1]}")
    start = head.neutral() if neutral is None else neutral
    values = values.to(start.expression)
    batch = torch.broadcast_shapes(values.shape[:-1], start.batch_shape)
    expression = start.expression.expand(*batch, -1) + values @ _expression_matrix(head).to(values)
    joints = {name: rotation.expand(*batch, 3) for name, rotation in start.joints.items()}
    for joint in ("jaw", "left_eye", "right_eye"):
        turn = values @ _joint_matrix(head, joint).to(values)
        joints[joint] = start.joint(joint) + turn if joint in head.joint_names else start.joint(joint)
    return HeadParams(
        model=start.model,
        identity=start.identity,
        expression=expression,
        joints={name: rotation for name, rotation in joints.items() if name in head.joint_names},
        translation=start.translation,
        scale=start.scale,
        offset=start.offset,
    )


def params_to_arkit(
    head: HeadModel, params: HeadParams, *, neutral: HeadParams | None = None
) -> Float[Tensor, "*B 52"]:
    """The ARKit weights, 0 to 1, that come closest to head parameters relative to `neutral`. For reports."""
    start = head.neutral() if neutral is None else neutral
    matrix = torch.cat([_expression_matrix(head), *(_joint_matrix(head, name) for name in _TURNED)], dim=-1)
    differences = [params.expression - start.expression]
    differences += [params.joint(name) - start.joint(name) for name in _TURNED]
    batch = params.batch_shape
    moved = torch.cat([difference.expand(*batch, -1) for difference in differences], dim=-1)
    if any(map(is_numbered, head.expression_names)):
        # Numbered components serve many names: all weights at once, by least squares.
        inverse = torch.linalg.pinv(matrix, rtol=1e-3)
        return (moved.to(matrix) @ inverse).clamp(0, 1)
    # Every column of the matrix has one driver or two opposed ones, so that each weight is read off its own columns.
    scale = matrix.square().sum(-1).clamp_min(1e-12)
    return (moved.to(matrix) @ matrix.T / scale).clamp(0, 1)


_TURNED = ("jaw", "left_eye", "right_eye")


def unsupported(head: HeadModel) -> tuple[str, ...]:
    """The ARKit names that this head can do neither by components nor by a joint."""
    matrix = torch.cat([_expression_matrix(head), *(_joint_matrix(head, name) for name in _TURNED)], dim=-1)
    return tuple(name for name, row in zip(ARKIT_NAMES, matrix, strict=True) if not bool(row.any()))


def is_numbered(component: str) -> bool:
    """Whether a component has a number in place of a meaning, as FLAME's `expression_007` has."""
    return re.search(r"_\d+$", component) is not None


def _expression_matrix(head: HeadModel) -> Float[Tensor, "52 E"]:
    matrix = _named_matrix(head)
    if isinstance(head, SkinnedHead) and any(map(is_numbered, head.expression_names)):
        matrix = matrix + _fitted_matrix(head, matrix)
    return matrix


def _named_matrix(head: HeadModel) -> Float[Tensor, "52 E"]:
    matrix = torch.zeros(len(ARKIT_NAMES), len(head.expression_names))
    for column, component in enumerate(head.expression_names):
        name = arkit_name(component)
        if name is not None:
            matrix[_COLUMN[name], column] = 1
        elif component.endswith(("Left", "Right")):
            whole = arkit_name(re.sub("(Left|Right)$", "", component))
            if whole is not None:
                matrix[_COLUMN[whole], column] = 1
    return matrix


def _fitted_matrix(head: SkinnedHead, named: Float[Tensor, "52 E"]) -> Float[Tensor, "52 E"]:
    """What numbered components do for the names that nothing else of this head does: the built-in head's shapes, by
    least squares over corresponding skin. Zero for a head without landmarks."""
    if head.fingerprint in _fitted:
        return _fitted[head.fingerprint]
    from vultus.heads.builtin import load_builtin
    from vultus.heads.correspondence import correspond
    from vultus.heads.transfer import PointHead, Unknowns, fit_places

    turned = torch.cat([_joint_matrix(head, joint) for joint in _TURNED], -1)
    missing = ~(named.any(1) | turned.any(1))
    result = torch.zeros_like(named)
    source = load_builtin()
    try:
        shared = correspond(source, head)
    except VultusError:
        return _fitted.setdefault(head.fingerprint, result)
    donor, taker = PointHead(source, shared.source), PointHead(head, shared.target)
    poses = arkit_to_params(source, torch.eye(len(ARKIT_NAMES))[missing])
    zero = source.neutral()
    moved = donor.places(zero.identity, poses.expression, poses.joint("jaw"))
    moved = (moved - donor.places(zero.identity, zero.expression, zero.joint("jaw"))) * shared.scale
    own = head.neutral()
    rest = taker.places(own.identity, own.expression, torch.zeros(3))
    size = len(head.expression_names)
    unknowns = Unknowns(
        start=torch.zeros(size),
        sigma=_FIT_SIGMA,
        lowest=torch.full((size,), -_FIT_LIMIT),
        highest=torch.full((size,), _FIT_LIMIT),
        free=torch.tensor([is_numbered(name) for name in head.expression_names]),
        jaw=False,
    )
    closed = torch.zeros(int(missing.sum()), 3)
    result[missing] = fit_places(taker, own.identity, rest + moved, shared.weights, closed, unknowns)[0]
    # What comes out as next to nothing is nothing: the face has no such movement in its components.
    reached = taker.places(own.identity, result[missing], closed) - rest
    best = reached.norm(dim=-1).amax(-1)
    result[torch.nonzero(missing)[:, 0][best < _FIT_LEAST]] = 0
    return _fitted.setdefault(head.fingerprint, result)


_fitted: dict[str, Tensor] = {}
"""By fingerprint of the head model: fitting takes a second or two."""
_FIT_SIGMA, _FIT_LIMIT, _FIT_LEAST = 5e-5, 12.0, 2e-4
"""Metres that a standard deviation costs, standard deviations allowed (an open mouth takes many where there is no jaw
joint), and metres that the skin has to move somewhere."""


def _joint_matrix(head: HeadModel, joint: str) -> Float[Tensor, "52 3"]:
    matrix = torch.zeros(len(ARKIT_NAMES), 3)
    if joint not in head.joint_names:
        return matrix
    components = _components(head.expression_names)
    for name, turned, axis, radians in _JOINTS:
        # Shapes called eyeLook move the lids; the eyeballs are the joints'.
        if turned == joint and (name not in components or joint != "jaw"):
            matrix[_COLUMN[name], axis] = radians
    return matrix


def _components(names: Iterable[str]) -> set[str]:
    return {name for name in map(arkit_name, names) if name is not None}
