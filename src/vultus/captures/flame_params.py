"""FLAME parameters in the files of GaussianAvatars and VHAP: one .npz per timestep, or one for a whole sequence.

Keys of one timestep: `shape (300,)`, `expr (1,100)`, `rotation`, `neck_pose`, `jaw_pose`, `translation (1,3)`,
`eyes_pose (1,6)` (left eye, right eye), optional `static_offset (1,V,3)`. A `dynamic_offset` is not read: the published
trainer does not apply it either. A sequence has T rows instead of one; `shape` and `static_offset` are shared.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import HeadModel
from vultus.heads.arkit import is_numbered
from vultus.motion import HeadParams

N_SHAPE, N_EXPRESSION = 300, 100
FLAME_JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
LIDS = ("eyeBlinkLeft", "eyeBlinkRight")
_CANONICAL_JAW = 0.3
_JOINTS = {"root": "rotation", "neck": "neck_pose", "jaw": "jaw_pose"}
_SEQUENCE = {"expr": N_EXPRESSION, **dict.fromkeys(("translation", *_JOINTS.values()), 3), "eyes_pose": 6}
_MAX_ROWS = 1_000_000
_MAX_VALUE = 1e4


def is_flame(head: HeadModel) -> bool:
    """Whether a head's parameters are FLAME's: its name and its five joints."""
    return head.name.startswith("flame") and head.joint_names == FLAME_JOINTS


def canonical_params(first: HeadParams) -> HeadParams:
    """The person of the first instant with the mouth slightly open, as the published exporter defines it."""
    zero = first.map(torch.zeros_like)
    jaw = zero.translation.new_tensor([_CANONICAL_JAW, 0.0, 0.0])
    return replace(
        zero,
        identity=first.identity,
        offset=first.offset,
        scale=torch.ones_like(first.scale),
        joints={**zero.joints, "jaw": jaw},
    )


def write_flame_params(path: Path, params: HeadParams) -> None:
    """One instant (no batch) as `flame_param/*.npz`. Coefficients beyond 300 + 100 (eyelids) have no place there."""
    arrays = {
        "shape": _fitted(params.identity, N_SHAPE),
        "expr": _fitted(params.expression, N_EXPRESSION)[None],
        "translation": params.translation[None],
        "eyes_pose": torch.cat([params.joint("left_eye"), params.joint("right_eye")])[None],
        **{key: params.joint(joint)[None] for joint, key in _JOINTS.items()},
    }
    if params.offset is not None:
        arrays["static_offset"] = params.offset[None]
    write_npz(path, **{key: value.detach().float().cpu().numpy() for key, value in arrays.items()})


def read_flame_params(path: Path, model: str, head: HeadModel | None = None) -> HeadParams:
    """One instant of FLAME parameters without batch dimensions; `model` becomes their fingerprint.

    With `head`, coefficients are cut or padded with zeros to its components and the offset to its vertices.

    Raises:
        VultusError: a key is missing, has the wrong size or holds values that are not finite; or `head` is no FLAME.
    """
    arrays = read_npz(path)
    identity, expression = _vector(path, arrays, "shape", N_SHAPE), _vector(path, arrays, "expr", N_EXPRESSION)
    eyes = _vector(path, arrays, "eyes_pose", 6)
    joints = {joint: _vector(path, arrays, key, 3) for joint, key in _JOINTS.items()}
    offset = _offset(path, arrays)
    if head is not None:
        identity, expression, offset = _for_head(path, head, identity, expression, offset)
    return HeadParams(
        model=model,
        identity=identity,
        expression=expression,
        joints={**joints, "left_eye": eyes[:3], "right_eye": eyes[3:]},
        translation=_vector(path, arrays, "translation", 3),
        scale=torch.ones(()),
        offset=offset,
    )


def read_flame_sequence(path: Path, model: str, head: HeadModel | None = None) -> tuple[HeadParams, Tensor | None]:
    """FLAME parameters of T instants, and `timestep_id [T]` where the file has it. `model` becomes their fingerprint.

    These are `flame_param.npz` of a trained avatar and `tracked_flame_params*.npz` of VHAP. With `head`, coefficients
    and offset are fitted to it as in `read_flame_params`.

    Raises:
        VultusError: a key is missing, has the wrong size or holds values that are not finite; or `head` is no FLAME.
    """
    arrays = read_npz(path)
    rows = {key: _rows(path, arrays, key, size) for key, size in _SEQUENCE.items()}
    counts = {len(values) for values in rows.values()}
    count = max(counts)
    if not 0 < count < _MAX_ROWS or min(counts) != count:
        sizes = ", ".join(f"{key} {len(values)}" for key, values in rows.items())
        raise VultusError(f"{path}: its rows do not belong together ({sizes})")
    identity, offset = _vector(path, arrays, "shape", N_SHAPE), _offset(path, arrays)
    expression = rows["expr"]
    if head is not None:
        identity, expression, offset = _for_head(path, head, identity, expression, offset)
    eyes = rows["eyes_pose"]
    params = HeadParams(
        model=model,
        identity=identity,
        expression=expression,
        joints={
            **{joint: rows[key] for joint, key in _JOINTS.items()},
            "left_eye": eyes[:, :3],
            "right_eye": eyes[:, 3:],
        },
        translation=rows["translation"],
        scale=torch.ones(()),
        offset=offset,
    )
    stamps = arrays.get("timestep_id")
    if stamps is not None and stamps.shape == (count,) and stamps.dtype.kind in "iu":
        return params, torch.from_numpy(stamps.astype(np.int64))
    return params, None


def write_flame_sequence(path: Path, params: HeadParams, vertices: int) -> None:
    """Parameters with one batch dimension T as the `flame_param.npz` of a trained avatar, for a mesh of `vertices`.

    Coefficients beyond 300 + 100 (eyelids) have no place there. The published viewer wants a `dynamic_offset`: zeros.
    """
    count = params.batch_shape[0]
    offset = torch.zeros(vertices, 3) if params.offset is None else params.offset
    missing = vertices - offset.shape[-2]
    whole = params.expand(count)
    arrays = {
        "shape": _fitted(params.identity.reshape(-1, params.identity.shape[-1])[0], N_SHAPE),
        "expr": _fitted(whole.expression, N_EXPRESSION),
        "translation": whole.translation,
        "eyes_pose": torch.cat([whole.joint("left_eye"), whole.joint("right_eye")], dim=-1),
        **{key: whole.joint(joint) for joint, key in _JOINTS.items()},
        "static_offset": torch.nn.functional.pad(offset, (0, 0, 0, missing))[None],
        "dynamic_offset": torch.zeros(count, vertices, 3),
    }
    write_npz(path, **{key: value.detach().float().cpu().numpy() for key, value in arrays.items()})


def _rows(path: Path, arrays: dict[str, np.ndarray], key: str, size: int) -> Tensor:
    value = _finite(path, arrays, key)
    if value.dim() != 2 or value.shape[1] != size:
        raise VultusError(f"{path}: {key} has the shape {tuple(value.shape)} instead of (T, {size})")
    return value


def _vector(path: Path, arrays: dict[str, np.ndarray], key: str, size: int) -> Tensor:
    value = _finite(path, arrays, key)
    if value.numel() != size or value.shape[-1:] != (size,):
        raise VultusError(f"{path}: {key} has the shape {tuple(value.shape)} instead of ({size},)")
    return value.reshape(size)


def _offset(path: Path, arrays: dict[str, np.ndarray]) -> Tensor | None:
    if "static_offset" not in arrays:
        return None
    offset = _finite(path, arrays, "static_offset")
    if offset.numel() % 3 or offset.shape[-1:] != (3,):
        raise VultusError(f"{path}: static_offset has the unexpected shape {tuple(offset.shape)}")
    return offset.reshape(-1, 3)


def _for_head(
    path: Path, head: HeadModel, identity: Tensor, expression: Tensor, offset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Coefficients and offset for a FLAME model with other numbers of components or vertices."""
    if not is_flame(head):
        raise VultusError(f"{path}: FLAME parameters do not fit the head model {head.name}; give a FLAME model")
    if offset is not None:
        # Teeth come last, so that offsets of the toothless mesh are a prefix.
        missing = head.template.shape[0] - offset.shape[0]
        if missing < 0:
            offset = offset[:missing]
        offset = torch.nn.functional.pad(offset, (0, 0, 0, max(missing, 0)))
    return _fitted(identity, len(head.identity_names)), fitted_expression(head, expression), offset


def fitted_expression(
    head: HeadModel, values: Float[Tensor, "*B E"], lids: Float[Tensor, "*B 2"] | None = None
) -> Float[Tensor, "*B N"]:
    """FLAME's expression coefficients for a model with another number of them, in its order of components.

    `lids` (left, right; 0 open, 1 closed) is for models whose eyelid shapes lay beside them; others have no place for
    it.
    """
    count = sum(map(is_numbered, head.expression_names))
    result = values.new_zeros(*values.shape[:-1], len(head.expression_names))
    result[..., :count] = _fitted(values, count)
    if lids is not None:
        for column, name in enumerate(LIDS):
            if name in head.expression_names:
                result[..., head.expression_names.index(name)] = lids[..., column]
    return result


def _finite(path: Path, arrays: dict[str, np.ndarray], key: str) -> Tensor:
    value = arrays.get(key)
    if value is None or value.dtype.kind not in "iuf":
        raise VultusError(f"{path}: has no numbers {key!r}; it is not a FLAME parameter file")
    if not np.isfinite(value).all() or (value.size and np.abs(value).max() > _MAX_VALUE):
        raise VultusError(f"{path}: {key} holds values that are not finite or absurdly large")
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))


def _fitted(values: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(values[..., :size], (0, max(0, size - values.shape[-1])))
