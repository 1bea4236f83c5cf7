"""Motions from ARKit weights, and the CSV files that face-capture apps write."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.errors import VultusError
from vultus.heads.arkit import ARKIT_NAMES, arkit_name, arkit_to_params
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams, Motion
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle

_MAX_BYTES = 256 << 20
_HEAD_COLUMNS = ("headyaw", "headpitch", "headroll")
_TIME_COLUMNS = ("time", "timestamp", "seconds")


@dataclass(frozen=True)
class ArkitTake:
    """A recording: times (s), weights in ARKit's order, the head's yaw, pitch and roll (radians), and which rows were
    tracked."""

    times: Float[Tensor, "T"]
    weights: Float[Tensor, "T 52"]
    head_angles: Float[Tensor, "T 3"]
    valid: Bool[Tensor, "T"]


def arkit_motion(
    head: HeadModel,
    weights: Float[Tensor, "T 52"],
    times: Float[Tensor, "T"],
    *,
    head_angles: Float[Tensor, "T 3"] | None = None,
    body_share: float = 0.0,
    valid: Bool[Tensor, "T"] | None = None,
) -> Motion:
    """The motion of ARKit weights on the mean person.

    head_angles: yaw (to the subject's left), pitch (downwards) and roll (to the subject's right shoulder), radians;
    the neck turns, or the whole head where the model has no neck. body_share: the part of it that the body does.
    """
    params = arkit_to_params(head, weights)
    joints: dict[str, Tensor] = dict(params.joints)
    if head_angles is not None:
        has_neck = "neck" in head.joint_names
        share = body_share if has_neck else 1.0
        if has_neck:
            joints["neck"] = rotation_from_angles(head_angles * (1 - share))
        joints["root"] = rotation_from_angles(head_angles * share)
    moved = HeadParams(
        params.model, params.identity, params.expression, joints, params.translation, params.scale, params.offset
    )
    mask = torch.ones(len(times), dtype=torch.bool) if valid is None else valid
    return Motion(moved, times.float(), head.neutral(), valid=mask)


def rotation_from_angles(angles: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """Axis-angle of yaw about y, then pitch about x, then roll about z (each in the frame turned so far)."""
    axes = torch.eye(3, dtype=angles.dtype)
    yaw, pitch, roll = (axis_angle_to_matrix(angles[..., i, None] * axes[axis]) for i, axis in enumerate((1, 0, 2)))
    return matrix_to_axis_angle(yaw @ pitch @ roll)


def read_arkit_csv(path: str | Path, *, fps: float | None = None) -> ArkitTake:
    """Read a CSV of ARKit weights: Live Link Face, or any table whose columns have the names in some spelling.

    Rows without values (tracking lost) hold the last ones and are not valid. Times come from a column `time`
    (seconds) or from `Timecode` (HH:MM:SS:FF.sub); where they do not increase, rows are equally spaced.
    The head angles are relative to the first tracked row; their signs are ARKit's face axes.

    Args:
        fps: rows per second; default what the time code's frame numbers imply, 60 where they imply nothing.

    Raises:
        VultusError: unreadable, not a table with ARKit's names, a cell that is no number, or no tracked row.
    """
    path = Path(path)
    header, rows = _read_table(path)
    columns = {name: index for index, text in enumerate(header) if (name := arkit_name(text)) is not None}
    keys = [re.sub(r"[\s_]", "", text).lower() for text in header]
    if len(columns) < 10:
        raise VultusError(
            f"{path}: has {len(columns)} columns with names of ARKit's face shapes (such as JawOpen, EyeBlinkLeft); "
            "a recording has 52"
        )
    weights = torch.zeros(len(rows), len(ARKIT_NAMES))
    angles = torch.zeros(len(rows), 3)
    valid = torch.zeros(len(rows), dtype=torch.bool)
    wanted = [(columns[name], weights, target) for target, name in enumerate(ARKIT_NAMES) if name in columns]
    wanted += [(keys.index(key), angles, target) for target, key in enumerate(_HEAD_COLUMNS) if key in keys]
    for row, (line, cells) in enumerate(rows):
        values = [_number(path, line, header[source], cells, source) for source, _, _ in wanted]
        present = [value for value in values if value is not None]
        if row:
            weights[row], angles[row] = weights[row - 1], angles[row - 1]
        if len(present) < len(columns) / 2:
            continue
        valid[row] = True
        for (_, tensor, target), value in zip(wanted, values, strict=True):
            if value is not None:
                tensor[row, target] = value
    if not bool(valid.any()):
        raise VultusError(f"{path}: no row has values; the app lost the face during the whole recording")
    first = int(valid.nonzero()[0])
    angles[:first] = angles[first]
    return ArkitTake(_times(header, keys, rows, fps), weights.clamp(0, 1), angles - angles[first], valid)


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise VultusError(f"{path}: is larger than {_MAX_BYTES >> 20} MB")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise VultusError(f"{path}: is not a text file; a CSV of ARKit weights was expected") from error
    first = text.split("\n", 1)[0]
    try:
        table = list(csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count)))
    except csv.Error as error:
        raise VultusError(f"{path}: is not a readable CSV table: {error}") from error
    rows = [(line, row) for line, row in enumerate(table[1:], start=2) if row]
    if not table or not rows:
        raise VultusError(f"{path}: has no rows under its header")
    return [cell.strip() for cell in table[0]], rows


def _number(path: Path, line: int, column: str, cells: list[str], index: int) -> float | None:
    text = cells[index].strip() if index < len(cells) else ""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise VultusError(f"{path}: line {line}, column {column}: {text[:40]!r} is not a number") from error
    return value if math.isfinite(value) and abs(value) < 1e3 else None


def _times(
    header: list[str], keys: list[str], rows: list[tuple[int, list[str]]], fps: float | None
) -> Float[Tensor, "T"]:
    """Seconds since the first row."""
    times, rate = None, fps or 60.0
    for key in _TIME_COLUMNS:
        if key in keys:
            times = _plain_times([cells[keys.index(key) : keys.index(key) + 1] for _, cells in rows])
            break
    else:
        if "timecode" in keys:
            column = keys.index("timecode")
            codes = [_TIMECODE.fullmatch(cells[column].strip()) if column < len(cells) else None for _, cells in rows]
            frames = [float(code[4]) for code in codes if code]
            if fps is None and frames and len(frames) > 60 and max(frames) < 30:
                rate = 30.0
            if len(frames) == len(rows):
                times = [
                    int(code[1]) * 3600 + int(code[2]) * 60 + int(code[3]) + float(code[4]) / rate
                    for code in codes
                    if code
                ]
    steps = torch.arange(len(rows), dtype=torch.float64) / rate
    if times is None:
        return steps.float()
    seconds = torch.tensor(times, dtype=torch.float64)
    if not bool(torch.isfinite(seconds).all()) or bool((seconds[1:] <= seconds[:-1]).any()):
        return steps.float()
    return (seconds - seconds[0]).float()


_TIMECODE = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})[:;](\d{1,3}(?:\.\d+)?)")


def _plain_times(cells: list[list[str]]) -> list[float] | None:
    try:
        return [float(cell[0]) for cell in cells]
    except (ValueError, IndexError):
        return None
