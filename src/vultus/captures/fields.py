"""Numbers out of files that strangers wrote: whole numbers, real numbers, poses and intrinsics, checked and named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.errors import VultusError


class MirroredPose(VultusError):
    """A camera pose with one axis flipped, which makes left and right change places."""


MAX_INDEX = 1_000_000
MAX_SIDE = 32_768


def whole(entry: Mapping[str, Any], key: str, where: str, low: int, high: int) -> int:
    """`entry[key]` as a whole number from `low` to `high`. Raises VultusError beginning with `where`."""
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise VultusError(f"{where}: {key} = {str(value)[:40]} is not a whole number from {low} to {high}")
    return value


def real(entry: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    """`entry[key]` as a number of sensible size. Raises VultusError beginning with `where`."""
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e7:
        raise VultusError(f"{where}: {key} = {str(value)[:40]} is not a usable number")
    return float(value)


def matrix(value: object, where: str, name: str, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    """A finite matrix (float64) from nested lists or an array. Raises VultusError beginning with `where`."""
    try:
        result = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise VultusError(f"{where}: {name} is not a matrix of numbers") from error
    if result.shape != (rows, columns) or not bool(torch.isfinite(result).all()) or float(result.abs().max()) > 1e7:
        raise VultusError(f"{where}: {name} is not a finite {rows}x{columns} matrix")
    return result


def rigid_pose(value: object, where: str, name: str, meaning: str) -> Float[Tensor, "4 4"]:
    """A rotation and a translation (float64) from a 4x4 or 3x4 matrix; `meaning` is for the message.

    Raises:
        VultusError: not a rigid motion; the message says in which of the usual ways.
    """
    try:
        is_short = len(value) == 3  # pyright: ignore[reportArgumentType]
    except TypeError:
        is_short = False
    pose = matrix(value, where, name, 3 if is_short else 4, 4)
    if is_short:
        pose = torch.cat([pose, pose.new_tensor([[0.0, 0.0, 0.0, 1.0]])])
    rotation = pose[:3, :3]
    problem = None
    if not torch.allclose(pose[3], pose.new_tensor([0, 0, 0, 1]), atol=1e-6):
        is_transposed = torch.allclose(pose[:, 3], pose.new_tensor([0, 0, 0, 1]), atol=1e-6)
        problem = "it is transposed" if is_transposed else "its last row is not 0 0 0 1"
    elif not torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=pose.dtype), atol=1e-3):
        problem = "its 3x3 part is not a rotation; scaled axes have to be divided by their length"
    elif float(torch.linalg.det(rotation)) < 0:
        raise MirroredPose(
            f"{where}: {name} is not a rigid {meaning} pose: it is mirrored, one of its axes is flipped, so that left "
            "and right change places"
        )
    if problem is not None:
        raise VultusError(f"{where}: {name} is not a rigid {meaning} pose: {problem}")
    return pose


def intrinsics(value: object, where: str, name: str = "K") -> Float[Tensor, "3 3"]:
    """A camera matrix (float64) with positive focal lengths, without skew. Raises VultusError."""
    K = matrix(value, where, name, 3, 3)
    if not 1e-3 < float(K[0, 0]) < 1e7 or not 1e-3 < float(K[1, 1]) < 1e7:
        raise VultusError(f"{where}: {name} has the focal lengths {float(K[0, 0]):g} and {float(K[1, 1]):g}")
    bottom, skew = K[2] - K.new_tensor([0.0, 0.0, 1.0]), torch.stack([K[0, 1], K[1, 0]])
    if float(bottom.abs().max()) > 1e-6 or float(skew.abs().max()) > 1e-3 * float(K[0, 0]):
        raise VultusError(f"{where}: {name} is not a camera matrix [fx 0 cx; 0 fy cy; 0 0 1]")
    return K * K.new_tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
