"""GLB files (binary glTF 2.0) with the extension KHR_gaussian_splatting: float32 throughout, nothing is lost.

A point primitive with the attributes POSITION, `KHR_gaussian_splatting:ROTATION` (xyzw), `:SCALE` (linear), `:OPACITY`
and `:SH_DEGREE_l_COEF_n`, and with COLOR_0 for programs that show plain points. The axes of glTF are those of Vultus.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from vultus.errors import VultusError
from vultus.splats.formats.arrays import SplatArrays, arrays_of, gaussians_of
from vultus.splats.formats.gltf_scene import GltfFile, primitives
from vultus.splats.sh import SH_C0
from vultus.splats.transforms import transform_gaussians

HIGHEST_DEGREE = 3
EXTENSION = "KHR_gaussian_splatting"
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
# A mesh may be used by several nodes, but a small file must not grow without bounds.
_HARMLESS_COUNT, _MOST_PRIMITIVES = 1_000_000, 1000
_FLOAT, _UNSIGNED_BYTE, _ARRAY_BUFFER, _POINTS = 5126, 5121, 34962, 0


def encode(arrays: SplatArrays, metadata: Mapping[str, str] | None = None) -> bytes:
    """The file's bytes; `metadata` goes into `asset.extras`."""
    from vultus import __version__

    shown = np.clip(np.column_stack([0.5 + SH_C0 * arrays.sh[:, 0], arrays.opacities]), 0, 1)
    values = {
        "POSITION": arrays.means,
        "COLOR_0": np.rint(255 * shown).astype(np.uint8),
        f"{EXTENSION}:ROTATION": arrays.rotations[:, [1, 2, 3, 0]],
        f"{EXTENSION}:SCALE": arrays.scales,
        f"{EXTENSION}:OPACITY": arrays.opacities,
        **{name: arrays.sh[:, index] for index, name in enumerate(_sh_names(arrays.degree))},
    }
    views, accessors, content, offset = [], [], [], 0
    for name, array in values.items():
        data = array.astype("<f4" if array.dtype != np.uint8 else "u1").tobytes()
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(data), "target": _ARRAY_BUFFER})
        accessor: dict[str, object] = {
            "bufferView": len(accessors),
            "componentType": _UNSIGNED_BYTE if array.dtype == np.uint8 else _FLOAT,
            "count": len(arrays),
            "type": "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}",
        }
        if array.dtype == np.uint8:
            accessor["normalized"] = True
        if name == "POSITION":
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        accessors.append(accessor)
        content.append(data)  # every one a multiple of 4 bytes
        offset += len(data)
    primitive = {
        "attributes": {name: index for index, name in enumerate(values)},
        "mode": _POINTS,
        "extensions": {
            EXTENSION: {
                "kernel": "ellipse",
                "colorSpace": "srgb_rec709_display",
                "projection": "perspective",
                "sortingMethod": "cameraDistance",
            }
        },
    }
    document = {
        "asset": {"version": "2.0", "generator": f"Vultus {__version__}", "extras": dict(metadata or {})},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "splats"}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), _JSON) + text + struct.pack("<II", offset, _BIN) + b"".join(content)
    return struct.pack("<III", _MAGIC, 2, 12 + len(chunks)) + chunks


def decode(path: Path, content: bytes) -> SplatArrays:
    """All splats of a file's scene in world coordinates.

    Raises:
        VultusError: no GLB, cut off, no splats in it, or something that this reader does not understand: compressed
            splats, other kernels or colour spaces, nodes that stretch, shear or mirror.
    """
    file = _open(path, content)
    parts, total = [], 0
    for primitive, matrix in primitives(file, EXTENSION):
        gaussians = gaussians_of(path, _arrays(file, primitive))
        total += gaussians.count
        if len(parts) == _MOST_PRIMITIVES or total > max(_HARMLESS_COUNT, len(content) // 8):
            raise VultusError(f"{path}: draws the same splats again and again; join them into one primitive, once")
        turn, factor = _similarity(path, matrix[:3, :3])
        if not np.array_equal(matrix, np.eye(4)):
            translation = torch.from_numpy(matrix[:3, 3])
            gaussians = transform_gaussians(gaussians, torch.from_numpy(turn), scale=factor, translation=translation)
        parts.append(arrays_of(str(path), gaussians, HIGHEST_DEGREE))
    if not parts:
        raise VultusError(f"{path}: has no Gaussian splats in its scene (no primitive with {EXTENSION})")
    count = max(part.sh.shape[1] for part in parts)
    padded = [np.pad(part.sh, ((0, 0), (0, count - part.sh.shape[1]), (0, 0))) for part in parts]
    return SplatArrays(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("means", "rotations", "scales")),
        opacities=np.concatenate([part.opacities for part in parts]),
        sh=np.concatenate(padded),
    )


def _open(path: Path, content: bytes) -> GltfFile:
    if len(content) < 20:
        raise VultusError(f"{path}: {len(content)} bytes are too few for a GLB file; it was cut off")
    magic, version, length, first, kind = struct.unpack_from("<IIIII", content)
    if magic != _MAGIC or version != 2 or kind != _JSON:
        raise VultusError(f"{path}: is not a GLB file of version 2 that begins with JSON")
    if length > len(content) or 20 + first > length:
        raise VultusError(f"{path}: promises {length} bytes but holds {len(content)}; it was cut off, get it again")
    binary, start = b"", 20 + first
    if start + 8 <= length:
        size, kind = struct.unpack_from("<II", content, start)
        if kind == _BIN:
            if start + 8 + size > length:
                raise VultusError(f"{path}: its binary chunk is cut off; get the file again")
            binary = content[start + 8 : start + 8 + size]
    return GltfFile.parse(path, content[20 : 20 + first], binary)


def _arrays(file: GltfFile, primitive: Mapping[str, object]) -> SplatArrays:
    extension = file.mapping(file.mapping(primitive.get("extensions"), "extensions").get(EXTENSION), EXTENSION)
    for key, understood in (("kernel", "ellipse"), ("colorSpace", "srgb_rec709_display")):
        if extension.get(key, understood) != understood:
            raise VultusError(f"{file.path}: has splats with the {key} {extension[key]!r}; only {understood!r} is read")
    if extension.get("extensions"):
        names = ", ".join(file.mapping(extension["extensions"], "extensions"))
        raise VultusError(f"{file.path}: its splats need the extension {names}, which is not read; save them without")
    if primitive.get("mode", 4) != _POINTS:
        raise VultusError(f"{file.path}: has splats in a primitive that is not of points")
    attributes = file.mapping(primitive.get("attributes"), "attributes")
    means = file.attribute(attributes, "POSITION", 3)

    def value(name: str, width: int) -> np.ndarray:
        found = file.attribute(attributes, f"{EXTENSION}:{name}", width)
        if len(found) != len(means):
            raise VultusError(f"{file.path}: has {len(means)} positions but {len(found)} values of {name}")
        return found

    degree = 0
    while degree < HIGHEST_DEGREE and f"{EXTENSION}:SH_DEGREE_{degree + 1}_COEF_0" in attributes:
        degree += 1
    coefficients = [value(name.removeprefix(f"{EXTENSION}:"), 3) for name in _sh_names(degree)]
    return SplatArrays(
        means=means,
        rotations=value("ROTATION", 4)[:, [3, 0, 1, 2]],
        scales=value("SCALE", 3),
        opacities=value("OPACITY", 1)[:, 0],
        sh=np.stack(coefficients, axis=1),
    )


def _sh_names(degree: int) -> list[str]:
    return [f"{EXTENSION}:SH_DEGREE_{level}_COEF_{n}" for level in range(degree + 1) for n in range(2 * level + 1)]


def _similarity(path: Path, matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """The rotation and the factor that a node's 3×3 matrix is made of."""
    factor = float(abs(np.linalg.det(matrix)) ** (1 / 3))
    turn = matrix / factor if 0 < factor < np.inf else matrix
    if not (np.isfinite(turn).all() and np.linalg.det(turn) > 0 and np.abs(turn @ turn.T - np.eye(3)).max() < 1e-4):
        raise VultusError(f"{path}: a node stretches, shears or mirrors its splats; apply its transform to them first")
    return turn, factor
