"""What GAGAvatar's tracker keeps of a picture: head parameters without pose, and a camera that has the pose.

The head never turns. `transform_matrix` is `[R | T]` (3x4) in PyTorch3D's convention (row vectors,
`x_camera = x R + T`, +X left, +Y up, +Z forward), lengths in 1/5 m, focal length 12 half image sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from vultus.cameras import Camera, look_at
from vultus.errors import VultusError
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams, Motion
from vultus.rotations import matrix_to_axis_angle

FOCAL = 12.0
"""Focal length in half image sides."""
UNITS = 5.0
"""Lengths per metre."""
SIZE = 512
SHAPES, EXPRESSIONS = 300, 100
_AXES = (-1.0, -1.0, 1.0)
_CODES = {"shapecode": SHAPES, "expcode": EXPRESSIONS, "posecode": 6, "eyecode": 6, "bbox": 4}


@dataclass(frozen=True)
class Record:
    """One picture's tracking, float32: head box (left, top, right, bottom in shares of the side), shape and expression
    coefficients, jaw behind three zeros, left and right eye, and the camera."""

    bbox: Float[ndarray, "4"]
    shapecode: Float[ndarray, "300"]
    expcode: Float[ndarray, "100"]
    posecode: Float[ndarray, "6"]
    eyecode: Float[ndarray, "6"]
    transform_matrix: Float[ndarray, "3 4"]


@dataclass(frozen=True)
class TrackedFrame:
    """A picture and its parameters (of the head model, without pose), camera matrix and head box."""

    picture: UInt8[Tensor, "H W 3"]
    params: HeadParams
    transform: Float[Tensor, "3 4"]
    box: Float[Tensor, "4"]


def record_of(
    head: HeadModel, params: HeadParams, camera: Camera, box: Float[ndarray, "4"] | Float[Tensor, "4"]
) -> Record:
    """The record of unbatched parameters seen by a camera with the layout's own lens.

    Raises:
        VultusError: the camera has another lens, or the head model more coefficients than the layout has room for.
    """
    half = camera.width / 2
    wanted = camera.K.new_tensor([[FOCAL * half, 0.0, half], [0.0, FOCAL * half, half], [0.0, 0.0, 1.0]])
    if camera.width != camera.height or not torch.allclose(camera.K, wanted, rtol=1e-4, atol=1e-3 * half):
        raise VultusError("the camera's pictures have to be square, with a focal length of 6 sides and centred")
    for what, count, room in (
        ("identity", params.identity.shape[-1], SHAPES),
        ("expression", params.expression.shape[-1], EXPRESSIONS),
    ):
        if count > room:
            raise VultusError(f"{head.name} has {count} {what} coefficients; this layout has room for {room}")
    if abs(float(params.scale) - 1) > 1e-5 or params.offset is not None:
        raise VultusError("this layout has no place for a scale or an offset of the head")
    pose = (camera.world_to_camera @ head.head_to_world(params)).double()
    axes = pose.new_tensor(_AXES)
    matrix = torch.cat([pose[:3, :3].T * axes, (pose[:3, 3] * axes * UNITS)[:, None]], dim=1)

    def padded(values: Tensor, count: int) -> ndarray:
        return np.pad(values.detach().float().numpy(), (0, count - values.shape[-1]))

    return Record(
        bbox=np.asarray(box, dtype=np.float32),
        shapecode=padded(params.identity, SHAPES),
        expcode=padded(params.expression, EXPRESSIONS),
        posecode=np.concatenate([np.zeros(3, np.float32), params.joint("jaw").detach().float().numpy()]),
        eyecode=torch.cat([params.joint("left_eye"), params.joint("right_eye")]).detach().float().numpy(),
        transform_matrix=matrix.float().numpy(),
    )


def camera_of(transform: Float[Tensor, "3 4"], size: int) -> Camera:
    """The camera (metres) that a matrix stands for, with square pictures of `size` pixels."""
    axes = transform.new_tensor(_AXES)[:, None]
    pose = torch.eye(4)
    pose[:3] = torch.cat([transform[:, :3].T * axes, transform[:, 3:] * axes / UNITS], dim=1)
    return Camera.from_focal(FOCAL * size / 2, size, size, pose)


def head_box(points: Float[Tensor, "N 2"], size: int) -> Float[ndarray, "4"]:
    """The box around projected points of the head, in shares of the picture's side, within it."""
    low, high = points.amin(0), points.amax(0)
    return (torch.cat([low, high]) / size).clamp(0, 1).numpy().astype(np.float32)


def params_of(head: HeadModel, record: Record, where: object) -> HeadParams:
    """A record's head parameters; root and neck are at rest.

    Raises:
        VultusError: the head model lacks components that the record uses.
    """
    neutral = head.neutral()
    values = {}
    for name, code, count in (
        ("shape", record.shapecode, neutral.identity.shape[-1]),
        ("expression", record.expcode, neutral.expression.shape[-1]),
    ):
        if len(code) > count and bool(code[count:].any()):
            raise VultusError(f"{where}: has {name} codes that {head.name} does not have")
        values[name] = torch.zeros(count)
        values[name][: min(count, len(code))] = torch.from_numpy(code[:count])
    joints = dict(neutral.joints)
    turned = {"jaw": record.posecode[3:], "left_eye": record.eyecode[:3], "right_eye": record.eyecode[3:]}
    joints |= {name: torch.from_numpy(turn.copy()) for name, turn in turned.items() if name in joints}
    return replace(neutral, identity=values["shape"], expression=values["expression"], joints=joints)


def parse_record(path: Path, key: str, value: Mapping[Any, Any]) -> Record:
    """A record from a file, checked. Raises VultusError naming what is missing or malformed."""
    arrays = {}
    for name, size in (*_CODES.items(), ("transform_matrix", 12)):
        found = value.get(name)
        if found is None:
            raise VultusError(f"{path}: the record {key!r} has no {name!r}")
        array = np.asarray(found)
        if array.dtype.kind not in "fiu" or array.size != size or array.ndim > 3:
            raise VultusError(f"{path}: {name} of {key!r} has shape {array.shape}; {size} numbers are needed")
        array = array.astype(np.float32).reshape(3, 4) if size == 12 else array.astype(np.float32).reshape(size)
        if not np.isfinite(array).all():
            raise VultusError(f"{path}: {name} of {key!r} holds numbers that are not finite")
        arrays[name] = array
    rotation = arrays["transform_matrix"][:, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2:
        raise VultusError(f"{path}: the transform_matrix of {key!r} does not hold a rotation")
    return Record(**arrays)


def motion_of(
    head: HeadModel, records: Sequence[Record], groups: Sequence[int], fps: float, where: object
) -> tuple[Motion, Camera]:
    """Records as the motion of a head in front of one camera that stands still, and that camera (of 512 pixels).

    Every picture shows what the record's own camera shows of the head without pose. The camera stands in front of the
    world's origin, as far away as the records' are on average. At rest the face is the codes' zero.

    Args:
        groups: number of the uninterrupted take of each record.

    Raises:
        VultusError: the head model lacks components that a record uses, or has no joint that turns all of it.
    """
    if "root" not in head.joint_names:
        raise VultusError(f"{where}: the head model {head.name} has no root joint, so that it cannot take its pose")
    rows = [params_of(head, record, where) for record in records]
    poses = torch.stack([camera_of(torch.from_numpy(r.transform_matrix.copy()), SIZE).world_to_camera for r in records])
    distance = float(poses[:, 2, 3].median())
    still = look_at(torch.tensor([0.0, 0.0, distance]), torch.zeros(3))
    placed = torch.linalg.inv(still) @ poses
    joints = {name: torch.stack([row.joint(name) for row in rows]) for name in rows[0].joints}
    joints["root"] = matrix_to_axis_angle(placed[:, :3, :3])
    same = len({tuple(record.shapecode) for record in records}) == 1
    params = replace(
        rows[0],
        identity=rows[0].identity if same else torch.stack([row.identity for row in rows]),
        expression=torch.stack([row.expression for row in rows]),
        joints=joints,
        translation=torch.zeros(len(rows), 3),
    )
    # The root joint turns about a place of its own; what that moves is taken back.
    moved = head.head_to_world(params)[..., :3, 3]
    params = replace(params, translation=placed[:, :3, 3] - moved)
    middle = params[len(rows) // 2]
    at_rest = {name: torch.zeros(3) for name in joints} | {"root": middle.joint("root")}
    neutral = replace(
        middle,
        identity=rows[0].identity if same else params.identity.mean(0),
        expression=torch.zeros_like(middle.expression),
        joints=at_rest,
    )
    motion = Motion(params, torch.arange(len(rows)) / fps, neutral, shots=torch.tensor(list(groups)))
    return motion, Camera.from_focal(FOCAL * SIZE / 2, SIZE, SIZE, still)
