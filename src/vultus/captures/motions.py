"""Motions as files: head parameters by the names of their components and joints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import HeadModel
from vultus.motion import HeadParams, Motion

_FORMAT, _VERSION = "vultus-motion", 1
_MAX_INSTANTS = 10_000_000


def write_motion(path: str | Path, motion: Motion, head: HeadModel) -> None:
    """Write a motion with the names of `head`'s components and joints, atomically, as .npz.

    Raises:
        VultusError: the motion belongs to another head model, or the file cannot be written.
        ValueError: times that do not increase, or values that are not finite.
    """
    _check_model(motion.params.model, head, str(path))
    if bool((motion.times[1:] <= motion.times[:-1]).any()):
        raise ValueError("the times of a motion have to increase")
    joint_names = [name for name in head.joint_names if name in motion.params.joints or name in motion.neutral.joints]
    arrays: dict[str, np.ndarray] = {
        "format": np.array(_FORMAT),
        "version": np.array(_VERSION),
        "head_name": np.array(head.name),
        "head_fingerprint": np.array(head.fingerprint),
        "identity_names": np.array(head.identity_names, dtype=np.str_),
        "expression_names": np.array(head.expression_names, dtype=np.str_),
        "joint_names": np.array(joint_names, dtype=np.str_),
        "times": motion.times.double().cpu().numpy(),
        "valid": motion.valid.cpu().numpy(),
        "shots": motion.shots.cpu().numpy(),
    }
    for prefix, params in (("", motion.params), ("neutral_", motion.neutral)):
        fields = {
            "identity": params.identity,
            "expression": params.expression,
            "translation": params.translation,
            "scale": params.scale,
            "joints": _stack_joints(params, joint_names),
        }
        if params.offset is not None:
            fields["offset"] = params.offset
        for name, value in fields.items():
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"the motion's {prefix + name} is not finite")
            arrays[prefix + name] = value.detach().float().cpu().numpy()
    write_npz(path, **arrays)


def read_motion(path: str | Path, head: HeadModel | None = None) -> Motion:
    """Read a motion. With `head`, its components and joints are placed by name; those the file lacks are zero.

    Raises:
        VultusError: not a motion file, values that are not finite or do not fit together, a component the head does
            not have, or a motion made for another head model.
    """
    arrays = read_npz(path)
    if str(arrays.get("format")) != _FORMAT:
        raise VultusError(f"{path}: is not a Vultus motion (.npz with format={_FORMAT})")
    if _number(path, arrays, "version") > _VERSION:
        raise VultusError(f"{path}: was written by a newer version of Vultus; update to read it")
    model = _text(path, arrays, "head_fingerprint")
    if head is not None:
        _check_model(model, head, str(path), _text(path, arrays, "head_name"))
    names = {kind: _names(path, arrays, f"{kind}_names") for kind in ("identity", "expression", "joint")}
    times = _array(path, arrays, "times", "T").double()
    count = times.shape[0]
    if count == 0 or count > _MAX_INSTANTS:
        raise VultusError(f"{path}: holds {count} instants")
    if bool((times[1:] <= times[:-1]).any()):
        raise VultusError(f"{path}: its times do not increase")
    motion = Motion(
        params=_params(path, arrays, "", names, model, head, count),
        times=times.float(),
        neutral=_params(path, arrays, "neutral_", names, model, head, 0),
        valid=_array(path, arrays, "valid", "T", count).bool(),
        shots=_array(path, arrays, "shots", "T", count).long(),
    )
    if motion.params.batch_shape != (count,):
        raise VultusError(f"{path}: none of its parameters has {count} rows, one per instant")
    return motion


def head_of_motion(path: str | Path) -> tuple[str, str]:
    """Name and fingerprint of the head model a motion file was written for. Raises VultusError like `read_motion`."""
    arrays = read_npz(path)
    return _text(path, arrays, "head_name"), _text(path, arrays, "head_fingerprint")


def _check_model(fingerprint: str, head: HeadModel, where: str, name: str = "") -> None:
    if fingerprint != head.fingerprint:
        made_for = f"{name} " if name else ""
        raise VultusError(
            f"{where}: the motion belongs to the head model {made_for}({fingerprint[:12]}), not to {head.name} "
            f"({head.fingerprint[:12]}); coefficients of different models do not mean the same. Load the model the "
            "motion was made with, or track the footage again with this one"
        )


def _stack_joints(params: HeadParams, names: Sequence[str]) -> Tensor:
    batch = params.batch_shape
    if not names:
        return params.translation.new_zeros(*batch, 0, 3)
    return torch.stack([params.joint(name).expand(*batch, 3) for name in names], dim=-2)


def _params(
    path: str | Path,
    arrays: dict[str, np.ndarray],
    prefix: str,
    names: dict[str, tuple[str, ...]],
    model: str,
    head: HeadModel | None,
    count: int,
) -> HeadParams:
    """Parameters with `count` rows (or shared ones); `count` 0 stands for no batch dimension."""

    def read(name: str, *event: int | None) -> Tensor:
        value = _array(path, arrays, prefix + name)
        batch = value.shape[: value.dim() - len(event)]
        fits = value.dim() >= len(event) and all(
            size is None or size == have for size, have in zip(event, value.shape[len(batch) :], strict=True)
        )
        if not fits or tuple(batch) not in (((), (count,), (1,)) if count else ((),)):
            raise VultusError(f"{path}: {prefix + name} has the unexpected shape {tuple(value.shape)}")
        return value[0] if count != 1 and tuple(batch) == (1,) else value

    identity = read("identity", len(names["identity"]))
    expression = read("expression", len(names["expression"]))
    joints = read("joints", len(names["joint"]), 3)
    offset = read("offset", None, 3) if prefix + "offset" in arrays else None
    if head is not None:
        identity = _placed(path, identity, names["identity"], head.identity_names, head.name)
        expression = _placed(path, expression, names["expression"], head.expression_names, head.name)
        if unknown := set(names["joint"]) - set(head.joint_names):
            raise VultusError(f"{path}: the head {head.name} has no joint {min(unknown)!r}")
        if offset is not None and offset.shape[-2] != head.template.shape[0]:
            raise VultusError(
                f"{path}: offsets of {offset.shape[-2]} vertices do not fit {head.name} ({head.template.shape[0]})"
            )
    return HeadParams(
        model=model,
        identity=identity,
        expression=expression,
        joints={name: joints[..., index, :] for index, name in enumerate(names["joint"])},
        translation=read("translation", 3),
        scale=read("scale"),
        offset=offset,
    )


def _placed(path: str | Path, values: Tensor, names: Sequence[str], wanted: Sequence[str], head_name: str) -> Tensor:
    if tuple(names) == tuple(wanted):
        return values
    columns = {name: column for column, name in enumerate(wanted)}
    if unknown := [name for name in names if name not in columns]:
        raise VultusError(f"{path}: the head {head_name} has no component {unknown[0]!r}")
    placed = values.new_zeros(*values.shape[:-1], len(wanted))
    placed[..., [columns[name] for name in names]] = values
    return placed


def _array(path: str | Path, arrays: dict[str, np.ndarray], name: str, shape: str = "", size: int = -1) -> Tensor:
    value = arrays.get(name)
    if value is None:
        raise VultusError(f"{path}: has no {name!r}; it is not a complete motion")
    if value.dtype.kind not in "biuf":
        raise VultusError(f"{path}: {name} holds {value.dtype} values instead of numbers")
    if shape == "T" and (value.ndim != 1 or size not in (-1, value.shape[0])):
        raise VultusError(f"{path}: {name} has the unexpected shape {value.shape}")
    if value.dtype.kind == "f":
        if not np.isfinite(value).all() or (value.size and np.abs(value).max() > 1e9):
            raise VultusError(f"{path}: {name} holds values that are not finite or absurdly large")
        # 64-bit times keep their precision until they are compared.
        value = value.astype(np.float64 if name == "times" else np.float32)
    else:
        value = value.astype(np.int64)
    return torch.from_numpy(value.copy(order="C"))


def _names(path: str | Path, arrays: dict[str, np.ndarray], name: str) -> tuple[str, ...]:
    value = arrays.get(name)
    if value is None or value.ndim != 1 or (value.size and value.dtype.kind != "U"):
        raise VultusError(f"{path}: has no list {name!r}; it is not a complete motion")
    names = tuple(str(item) for item in value)
    if len(set(names)) != len(names):
        raise VultusError(f"{path}: {name} repeats a name")
    return names


def _text(path: str | Path, arrays: dict[str, np.ndarray], name: str) -> str:
    value = arrays.get(name)
    if value is None or value.shape != () or value.dtype.kind != "U":
        raise VultusError(f"{path}: has no {name!r}; it is not a complete motion")
    return str(value)


def _number(path: str | Path, arrays: dict[str, np.ndarray], name: str) -> int:
    value = arrays.get(name)
    if value is None or value.shape != () or value.dtype.kind not in "iu":
        raise VultusError(f"{path}: has no {name!r}; it is not a complete motion")
    return int(value)
