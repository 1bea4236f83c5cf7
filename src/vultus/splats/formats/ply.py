"""Splat files in the `.ply` layout of 3D Gaussian Splatting, with the optional triangle binding of rigged avatars.

One element `vertex`, all properties float32: x y z, nx ny nz (zero), f_dc_0..2, f_rest_* (channel by channel: all red
coefficients first), opacity (logit), scale_0..2 (log), rot_0..3 (wxyz), and binding_0 (triangle index) if rigged.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from vultus.errors import VultusError
from vultus.files import write_bytes
from vultus.splats.formats.ply_header import header_bytes, read_header, read_table
from vultus.splats.gaussians import Gaussians


@dataclass(frozen=True)
class StoredSplats:
    """Splats as files store them: before activation, and local to a triangle where `binding` is given.

    xyz: positions. f_dc, f_rest: spherical-harmonics coefficients of degree 0 and of the higher degrees.
    opacity: logit. scaling: natural logarithm. rotation: wxyz, any norm. binding: triangle of each splat.
    comments: the comment lines of the header, some programs keep their settings there.
    """

    xyz: Float[np.ndarray, "N 3"]
    f_dc: Float[np.ndarray, "N 1 3"]
    f_rest: Float[np.ndarray, "N K 3"]
    opacity: Float[np.ndarray, "N 1"]
    scaling: Float[np.ndarray, "N 3"]
    rotation: Float[np.ndarray, "N 4"]
    binding: Int[np.ndarray, "N"] | None = None
    comments: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.xyz)

    def activated(self) -> Gaussians:
        """The splats as the rasteriser takes them. Only meaningful without `binding`."""
        sh = np.concatenate([self.f_dc, self.f_rest], axis=1)
        return Gaussians(
            means=torch.from_numpy(self.xyz.copy()),
            rotations=torch.nn.functional.normalize(torch.from_numpy(self.rotation), dim=-1),
            scales=torch.from_numpy(self.scaling).exp(),
            opacities=torch.from_numpy(self.opacity[:, 0]).sigmoid(),
            sh=torch.from_numpy(sh),
        )

    @staticmethod
    def from_gaussians(gaussians: Gaussians) -> StoredSplats:
        """The stored form of activated, unbatched splats with spherical harmonics.

        Opacities are kept within 1e-6 of 0 and 1 and scales above 1e-12 m, because their stored forms are infinite
        at the ends.
        """
        if gaussians.sh is None or gaussians.batch_shape != ():
            raise VultusError("only unbatched Gaussians with spherical harmonics can be stored as .ply")
        with torch.no_grad():
            sh = gaussians.sh.float().cpu()
            return StoredSplats(
                xyz=gaussians.means.float().cpu().numpy(),
                f_dc=sh[:, :1].numpy(),
                f_rest=sh[:, 1:].numpy(),
                opacity=gaussians.opacities.float().cpu().clamp(1e-6, 1 - 1e-6).logit()[:, None].numpy(),
                scaling=gaussians.scales.float().cpu().clamp(min=1e-12).log().numpy(),
                rotation=gaussians.rotations.float().cpu().numpy(),
            )


def property_names(rest: int, bound: bool) -> list[str]:
    """The properties of a file with `rest` coefficients per channel above degree 0, in order."""
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(3 * rest)),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
        *(["binding_0"] if bound else []),
    ]


def write_ply(path: str | os.PathLike[str], splats: StoredSplats) -> None:
    """Write splats, replacing the file only when it is complete. Raises VultusError for arrays that do not fit."""
    n, rest = len(splats.xyz), splats.f_rest.shape[1] if splats.f_rest.ndim == 3 else -1
    shapes = {"xyz": (n, 3), "f_dc": (n, 1, 3), "f_rest": (n, rest, 3), "opacity": (n, 1), "scaling": (n, 3)}
    shapes["rotation"] = (n, 4)
    for name, shape in shapes.items():
        if getattr(splats, name).shape != shape:
            raise VultusError(f"cannot write {path}: {name} has shape {getattr(splats, name).shape}, not {shape}")
    if splats.binding is not None and splats.binding.shape != (n,):
        raise VultusError(f"cannot write {path}: binding has shape {splats.binding.shape}, not {(n,)}")
    if splats.binding is not None and n and not 0 <= splats.binding.min() <= splats.binding.max() < 2**24:
        raise VultusError(f"cannot write {path}: triangle indices must lie in 0 ... 2^24 - 1 to survive as float32")
    columns = [
        splats.xyz,
        np.zeros((n, 3)),
        splats.f_dc.reshape(n, 3),
        splats.f_rest.transpose(0, 2, 1).reshape(n, 3 * rest),
        splats.opacity,
        splats.scaling,
        splats.rotation,
    ]
    if splats.binding is not None:
        columns.append(splats.binding[:, None])
    table = np.concatenate([np.asarray(column, dtype="<f4") for column in columns], axis=1)
    header = header_bytes([("vertex", n, "float", property_names(rest, splats.binding is not None))], splats.comments)
    write_bytes(Path(path), header + table.tobytes())


def read_ply(path: str | os.PathLike[str]) -> StoredSplats:
    """Read splats. Properties are found by name: normals and unknown properties are ignored, any scalar type is taken.

    Raises VultusError where the file is not such a .ply, promises more than it holds, or contains numbers that are not
    finite.
    """
    path = Path(path)
    header = read_header(path)
    return _splats(path, read_table(path, header, "vertex"), header.comments)


def _splats(path: Path, table: np.ndarray, comments: tuple[str, ...]) -> StoredSplats:
    names = table.dtype.names or ()
    rest = sum(name.startswith("f_rest_") for name in names)
    needed = [name for name in property_names(rest // 3, bound=False) if not name.startswith("n")]
    missing = [name for name in needed if name not in names]
    if "packed_position" in names:
        raise VultusError(f"{path} is a compressed PlayCanvas .ply, which `read_splats` reads")
    if missing:
        raise VultusError(f"{path} is not a splat file: its vertices have no {', '.join(missing[:4])}")
    if rest % 3 or rest // 3 not in (0, 3, 8, 15, 24):
        raise VultusError(f"{path} has {rest} properties f_rest_*; degrees 0 to 4 have 0, 9, 24, 45 or 72")

    def columns(*wanted: str) -> np.ndarray:
        stacked = np.empty((len(table), len(wanted)), dtype=np.float32)
        with np.errstate(over="ignore"):
            for i, name in enumerate(wanted):
                stacked[:, i] = table[name]
        bad = ~np.isfinite(stacked)
        if bad.any():
            raise VultusError(f"{path}: splat {int(bad.any(axis=1).argmax())} has a {wanted[0]} that is not finite")
        return stacked

    binding = None
    if "binding_0" in names:
        index = columns("binding_0")[:, 0]
        if len(index) and (index.min() < 0 or index.max() >= 2**31 or (index != np.floor(index)).any()):
            raise VultusError(f"{path}: binding_0 holds numbers that are not triangle indices")
        binding = index.astype(np.int32)
    f_rest = columns(*(f"f_rest_{i}" for i in range(rest))).reshape(len(table), 3, rest // 3).transpose(0, 2, 1)
    return StoredSplats(
        xyz=columns("x", "y", "z"),
        f_dc=columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None, :],
        f_rest=np.ascontiguousarray(f_rest),
        opacity=columns("opacity"),
        scaling=columns("scale_0", "scale_1", "scale_2"),
        rotation=columns("rot_0", "rot_1", "rot_2", "rot_3"),
        binding=binding,
        comments=comments,
    )
