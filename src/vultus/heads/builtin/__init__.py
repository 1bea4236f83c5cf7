"""The built-in head: a parametric head in FLAME's layout, made entirely by the code in `sculpt`, free of any licence.

It ships as a data file; users never run the generator.
"""

from __future__ import annotations

import io
from importlib import resources
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from PIL import Image
from torch import Tensor

from vultus.errors import VultusError
from vultus.heads.model import LandmarkSet, SkinnedHead

NAME = "builtin_v1"

_ATTRIBUTES = ("hair_weight", "brow_weight", "lip_weight", "lid_weight", "occlusion", "mirror_vertices", "part")


def load_builtin() -> SkinnedHead:
    """The built-in head (metres, CPU, float32).

    Identity components are 48 named measurements, residual and asymmetric directions, `scale` and `hair_volume`;
    coefficient 1 is one standard deviation (for `hair_volume`: short full hair). Expression components carry ARKit's
    names; the eyeLook names and jawOpen are the eye and jaw joints' (see `jaw_open_radians`). `attributes` holds
    per-vertex masks, ambient occlusion, the mirror vertex, the part and colours of six styles (`color_a` … `color_f`,
    float in [0, 1]).
    """
    data = _arrays()
    count = len(data["v_template"])
    attributes = {key: data[key] for key in _ATTRIBUTES}
    attributes |= {key: data[key].astype(np.float32) / 255 for key in data if key.startswith("color_")}
    regressor = np.zeros((len(data["joint_names"]), count), dtype=np.float32)
    regressor[data["J_regressor_rows"], data["J_regressor_columns"]] = data["J_regressor_values"]
    pose = np.zeros((count, 3, int(data["pose_feature_count"])), dtype=np.float32)
    pose[..., data["pose_feature"]] = _dense(data, "pose", count)
    spans = zip(data["region_names"], data["region_offsets"][:-1], data["region_offsets"][1:], strict=True)
    return SkinnedHead(
        name=NAME,
        license=str(data["license"]),
        v_template=torch.from_numpy(data["v_template"]),
        faces=torch.from_numpy(data["f"]),
        identity_basis=torch.from_numpy(_identity(data, count)),
        expression_basis=torch.from_numpy(_dense(data, "expression", count)),
        pose_basis=torch.from_numpy(pose),
        joint_regressor=torch.from_numpy(regressor),
        weights=torch.from_numpy(data["weights"]),
        parents=data["kintree_table"][0].tolist(),
        joint_names=data["joint_names"].tolist(),
        identity_names=data["identity_names"].tolist(),
        expression_names=data["expression_names"].tolist(),
        uvs=torch.from_numpy(data["vt"]),
        uv_faces=torch.from_numpy(data["ft"]),
        correctives=torch.from_numpy(_dense(data, "corrective", count)),
        corrective_drivers=torch.from_numpy(data["corrective_expression"]),
        regions={str(name): torch.from_numpy(data["region_vertices"][a:b]).long() for name, a, b in spans},
        landmark_sets={name: _landmarks(data, name) for name in ("ibug68", "mediapipe")},
        attributes={
            key: torch.from_numpy(value.astype(np.float32) if value.dtype == np.float16 else value)
            for key, value in attributes.items()
        },
    )


def texture_styles() -> tuple[str, ...]:
    """Names of the texture styles the data file ships."""
    return tuple(key.removeprefix("atlas_").removesuffix("_jpeg") for key in _arrays() if key.startswith("atlas_"))


def load_texture(style: str = "a") -> Float[Tensor, "H W 3"]:
    """Texture image of a style (sRGB in [0, 1]) for the head's UVs; row 0 is v = 1.

    Raises VultusError for a style that does not exist.
    """
    data = _arrays()
    if f"atlas_{style}_jpeg" not in data:
        names = ", ".join(texture_styles())
        raise VultusError(f"the built-in head has no texture style {style!r}; choose one of: {names}")
    with Image.open(io.BytesIO(data[f"atlas_{style}_jpeg"].tobytes())) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255)


def _arrays() -> dict[str, ndarray]:
    source = resources.files("vultus.heads.builtin").joinpath(f"{NAME}.npz")
    with source.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _identity(data: dict[str, ndarray], count: int) -> ndarray:
    """Identity modes [V, 3, S] from the stored half: the other half is its mirror image, negated where parity is -1."""
    mirror = data["mirror_vertices"]
    half = np.flatnonzero(mirror >= np.arange(count))
    modes = data["identity_half"].astype(np.float32) * data["identity_scale"]
    out = np.zeros((count, *modes.shape[1:]), dtype=np.float32)
    out[mirror[half]] = modes * data["identity_parity"] * np.array([-1, 1, 1], dtype=np.float32)[:, None]
    out[half] = modes
    return out


def _dense(data: dict[str, ndarray], prefix: str, count: int) -> ndarray:
    """Displacement fields [V, 3, K] from the vertices each one moves."""
    offsets, scale = data[f"{prefix}_offsets"], data[f"{prefix}_scale"]
    out = np.zeros((count, 3, len(scale)), dtype=np.float32)
    for k, (a, b) in enumerate(pairwise(offsets)):
        out[data[f"{prefix}_vertices"][a:b], :, k] = data[f"{prefix}_values"][a:b].astype(np.float32) * scale[k]
    return out


def _landmarks(data: dict[str, ndarray], name: str) -> LandmarkSet:
    return LandmarkSet(
        ids=torch.from_numpy(data[f"landmark_{name}_ids"]).long(),
        faces=torch.from_numpy(data[f"landmark_{name}_faces"]).long(),
        barycentric=torch.from_numpy(data[f"landmark_{name}_bary"]),
    )
