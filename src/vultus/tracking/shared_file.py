"""The frozen part of a fit as a file beside its capture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import HeadModel
from vultus.motion import HeadParams
from vultus.tracking.landmark_fit import SharedFit
from vultus.tracking.torso import TorsoTemplate

FILE_NAME = "shared.npz"
_JOINT = "neutral_joint_"


def write_shared(folder: str | Path, shared: SharedFit) -> None:
    """Write the shared fit into a capture's folder, atomically."""
    arrays = {
        "model": np.array(shared.model),
        "identity": shared.identity.numpy(),
        "focal": np.array(shared.focal),
        "size": np.array([shared.width, shared.height]),
    }
    if shared.offset is not None:
        arrays["offset"] = shared.offset.numpy()
    if shared.texture is not None:
        arrays["texture"] = shared.texture.numpy()
    if shared.bias is not None:
        arrays["bias"] = shared.bias.numpy()
    if shared.shift is not None:
        arrays["shift"] = shared.shift.numpy()
    if shared.crop is not None:
        arrays["crop"] = np.array(shared.crop)
    if shared.torso is not None:
        arrays["torso_picture"] = (shared.torso.picture * 255).round().to(torch.uint8).numpy()
        arrays["torso_region"] = shared.torso.region.numpy()
        arrays["torso_vertices"] = shared.torso.vertices.numpy()
        arrays["torso_places"] = shared.torso.places.numpy()
        arrays["torso_size"] = np.array(shared.torso.size)
    if shared.neutral is not None:
        arrays["neutral_expression"] = shared.neutral.expression.numpy()
        arrays["neutral_translation"] = shared.neutral.translation.numpy()
        arrays |= {_JOINT + name: value.numpy() for name, value in shared.neutral.joints.items()}
    write_npz(Path(folder) / FILE_NAME, **arrays)


def read_shared(folder: str | Path, head: HeadModel) -> SharedFit:
    """The shared fit of a tracked capture.

    Raises:
        VultusError: the folder has none, the file is damaged, or it belongs to another head model.
    """
    path = Path(folder) / FILE_NAME
    arrays = read_npz(path)
    try:
        if str(arrays["model"]) != head.fingerprint:
            raise VultusError(
                f"{path}: was made with another head model than {head.name}; use the one it was made with"
            )
        template = head.neutral()
        identity = torch.from_numpy(arrays["identity"]).float().reshape(template.identity.shape)
        offset = torch.from_numpy(arrays["offset"]).float().reshape(head.template.shape) if "offset" in arrays else None
        neutral = None
        if "neutral_expression" in arrays:
            joints = {
                name: torch.from_numpy(arrays[_JOINT + name]).float().reshape(3)
                for name in head.joint_names
                if _JOINT + name in arrays
            }
            neutral = HeadParams(
                model=head.fingerprint,
                identity=identity,
                expression=torch.from_numpy(arrays["neutral_expression"]).float().reshape(template.expression.shape),
                joints=joints,
                translation=torch.from_numpy(arrays["neutral_translation"]).float().reshape(3),
                scale=template.scale,
                offset=offset,
            )
        texture = None
        if "texture" in arrays:
            texture = torch.from_numpy(arrays["texture"]).float().reshape(-1, len(head.template))
        width, height = (int(value) for value in arrays["size"])
        crop = tuple(float(value) for value in arrays["crop"]) if "crop" in arrays else None
        return SharedFit(
            model=head.fingerprint,
            identity=identity,
            focal=float(arrays["focal"]),
            width=width,
            height=height,
            offset=offset,
            neutral=neutral,
            shift=torch.from_numpy(arrays["shift"]).float().reshape(3) if "shift" in arrays else None,
            crop=(crop[0], crop[1], crop[2]) if crop is not None else None,
            texture=texture,
            torso=_torso(arrays, head) if "torso_picture" in arrays else None,
            bias=torch.from_numpy(arrays["bias"]).float().reshape(-1, 3) if "bias" in arrays else None,
        )
    except (KeyError, ValueError, RuntimeError, TypeError, IndexError) as error:
        raise VultusError(f"{path}: is damaged ({error}); track the footage again") from error


def _torso(arrays: dict[str, np.ndarray], head: HeadModel) -> TorsoTemplate:
    picture = torch.from_numpy(arrays["torso_picture"])
    height, width, _ = picture.shape
    vertices = torch.from_numpy(arrays["torso_vertices"]).long().reshape(-1)
    if not bool(((vertices >= 0) & (vertices < len(head.template))).all()):
        raise ValueError("its torso is of another head")
    size = [int(value) for value in arrays["torso_size"]]
    return TorsoTemplate(
        picture=picture.float() / 255,
        region=torch.from_numpy(arrays["torso_region"]).bool().reshape(height, width, 1),
        vertices=vertices,
        places=torch.from_numpy(arrays["torso_places"]).float().reshape(len(vertices), 2),
        size=(size[0], size[1]),
    )
