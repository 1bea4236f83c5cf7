"""`read_splats` and `write_splats`: one door to every splat file format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from vultus.errors import VultusError
from vultus.files import write_bytes
from vultus.splats.formats import compressed_ply, dot_splat, gltf, spz
from vultus.splats.formats.arrays import arrays_of, file_bytes, gaussians_of
from vultus.splats.formats.axes import Axes, rdf_to_rub, rub_to_rdf
from vultus.splats.formats.ply import StoredSplats, read_ply, write_ply
from vultus.splats.formats.ply_header import read_header
from vultus.splats.gaussians import Gaussians

SUFFIXES = (".compressed.ply", ".ply", ".splat", ".spz", ".glb")
"""What `write_splats` writes, by the end of the file's name."""

_FIXED_AXES: dict[str, Axes] = {".spz": "rub", ".glb": "rub"}
_HIGHEST_DEGREE = {
    ".compressed.ply": compressed_ply.HIGHEST_DEGREE,
    ".ply": 4,
    ".splat": dot_splat.HIGHEST_DEGREE,
    ".glb": gltf.HIGHEST_DEGREE,
}


@dataclass(frozen=True)
class WrittenSplats:
    """What `write_splats` did.

    order: which Gaussian each splat of the file is; some formats sort. sh_degree: the highest one that is in the file.
    position_error: the largest difference (m) of a coordinate by rounding; 0 where float32 is stored.
    """

    path: Path
    bytes: int
    order: Int[np.ndarray, "N"]
    sh_degree: int
    position_error: float


def write_splats(
    path: str | os.PathLike[str],
    gaussians: Gaussians,
    *,
    axes: Axes | None = None,
    sh_degree: int | None = None,
    antialiased: bool = False,
    spz_version: int = 3,
    metadata: Mapping[str, str] | None = None,
) -> WrittenSplats:
    """Write splats, replacing the file only when it is complete. The end of the name says the format.

    Args:
        gaussians: unbatched, with spherical harmonics, in Vultus' axes (`rub`).
        axes: of the file. None takes what other programs expect: `rdf` for .ply, .compressed.ply and .splat. SPZ and
            GLB define theirs, `rub`.
        sh_degree: highest spherical-harmonics degree written; None: all that is used and the format has room for.
        antialiased: whether the splats are drawn with `RasterSettings.antialiased`; only SPZ has a place for it.
        spz_version: 2 or 3.
        metadata: text by name, for comments of .ply and `asset.extras` of GLB. The other formats have no place for it.

    Raises:
        VultusError: an unknown suffix, axes a format does not have, splats it cannot hold, or a file that cannot be
            written.
    """
    path = Path(path)
    suffix = format_suffix(path)
    fixed = _FIXED_AXES.get(suffix)
    if fixed is not None and axes not in (None, fixed):
        raise VultusError(f"cannot write {path}: {suffix} files have the axes {fixed}, not {axes}")
    degree = _degree(path, suffix, gaussians, sh_degree, spz_version)
    # Checked before and after: turning spreads one number that is not finite over its neighbours.
    where = f"cannot write {path}"
    arrays = arrays_of(where, gaussians, degree)
    if fixed is None and axes != "rub":
        arrays = arrays_of(where, rub_to_rdf(gaussians_of(path, arrays)), degree)
    order, error = np.arange(len(arrays)), 0.0
    comments = tuple(f"{name} {text}" for name, text in (metadata or {}).items())
    if suffix == ".ply":
        stored = StoredSplats.from_gaussians(gaussians_of(path, arrays))
        write_ply(path, replace(stored, comments=comments))
        return WrittenSplats(path, path.stat().st_size, order, degree, error)
    if suffix == ".compressed.ply":
        content, order, error = compressed_ply.encode(arrays, comments)
    elif suffix == ".splat":
        content, order = dot_splat.encode(arrays)
    elif suffix == ".spz":
        content, error = spz.encode(path, arrays, version=spz_version, antialiased=antialiased)
    else:
        content = gltf.encode(arrays, metadata)
    write_bytes(path, content)
    return WrittenSplats(path, len(content), order, degree, error)


def read_splats(path: str | os.PathLike[str], *, axes: Axes | None = None) -> Gaussians:
    """Read splats of any format into Vultus' axes. The content says the format; only .splat files, which have no
    signature, are known by their name.

    Args:
        axes: of the file, where the format leaves them open (.ply, .splat); None: `rdf`.

    Raises:
        VultusError: no such file, no splat file, cut off, damaged, or holding numbers that no splat has. Also for a
            .ply that is bound to a head model, which means nothing without it.
    """
    path = Path(path)
    if not path.is_file():
        raise VultusError(f"{path}: cannot be read: there is no such file")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    if start[:3] == b"ply":
        found, fixed = _read_any_ply(path), None
    elif start == b"glTF":
        found, fixed = gaussians_of(path, gltf.decode(path, file_bytes(path))), _FIXED_AXES[".glb"]
    elif start[:2] == b"\x1f\x8b" or start == b"NGSP":
        found, fixed = gaussians_of(path, spz.decode(path, file_bytes(path))), _FIXED_AXES[".spz"]
    elif path.suffix.lower() == ".splat":
        found, fixed = gaussians_of(path, dot_splat.decode(path, file_bytes(path))), None
    else:
        raise VultusError(f"{path}: is no splat file; {', '.join(SUFFIXES)} are read")
    if fixed is not None and axes not in (None, fixed):
        raise VultusError(f"{path}: files of this format have the axes {fixed}, not {axes}")
    return rdf_to_rub(found) if fixed is None and axes != "rub" else found


def _read_any_ply(path: Path) -> Gaussians:
    header = read_header(path)
    if compressed_ply.is_compressed(header):
        return gaussians_of(path, compressed_ply.decode(path, header))
    stored = read_ply(path)
    if stored.binding is not None:
        raise VultusError(
            f"{path}: its splats are bound to the triangles of a head model; export the avatar it belongs to instead"
        )
    return gaussians_of(path, arrays_of(str(path), stored.activated(), _HIGHEST_DEGREE[".ply"]))


def format_suffix(path: str | os.PathLike[str]) -> str:
    """Which of `SUFFIXES` a file's name ends with. Raises VultusError if none."""
    for suffix in SUFFIXES:
        if Path(path).name.lower().endswith(suffix):
            return suffix
    raise VultusError(f"{path}: no splat format has this ending; choose one of {', '.join(SUFFIXES)}")


def _degree(path: Path, suffix: str, gaussians: Gaussians, wanted: int | None, spz_version: int) -> int:
    room = spz.HIGHEST_DEGREES.get(spz_version, 0) if suffix == ".spz" else _HIGHEST_DEGREE[suffix]
    there = gaussians.active_degree or 0
    if wanted is None:
        return min(room, there)
    if not 0 <= wanted <= room:
        raise VultusError(f"cannot write {path}: spherical harmonics of degree {wanted}; {suffix} has 0 to {room}")
    return min(wanted, there)
