"""Compressed .ply files as PlayCanvas and SuperSplat write them: 16 bytes a splat, bounds for every 256 splats.

Element `chunk`: 18 floats, the bounds of positions, of logarithms of scales and of colours. Element `vertex`: four
unsigned integers of 32 bits: position and scale as 11, 10 and 11 bits between the chunk's bounds, rotation as the
index of its largest component and 10 bits for each of the others, colour and opacity as 8 bits each. Element `sh`
(optional): a byte for each higher coefficient, channel by channel. Splats are in Morton order, so that chunks
are small.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt32

from vultus.errors import VultusError
from vultus.splats.formats.arrays import SplatArrays
from vultus.splats.formats.ply_header import PlyHeader, header_bytes, read_table
from vultus.splats.sh import SH_C0

HIGHEST_DEGREE = 3
_CHUNK = 256
_BOUNDS = tuple(
    f"{end}_{name}" for group in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max") for name in group
)  # fmt: skip
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_LARGEST_LOG_SCALE = 20.0
_SH_RANGE = 8.0
_POSITION_BITS = (11, 10, 11)


def is_compressed(header: PlyHeader) -> bool:
    """Whether a .ply is of this kind."""
    vertex = header.element("vertex")
    return header.element("chunk") is not None and vertex is not None and _PACKED[0] in vertex.names


def encode(arrays: SplatArrays, comments: tuple[str, ...] = ()) -> tuple[bytes, Int[np.ndarray, "N"], float]:
    """The file's bytes, which splat each row is, and the largest position error (m)."""
    order = morton_order(arrays.means)
    arrays = arrays.ordered(order)
    n = len(arrays)
    starts = np.arange(0, n, _CHUNK)
    chunk_of = np.arange(n) // _CHUNK
    logs = np.log(np.maximum(arrays.scales.astype(np.float64), math.exp(-_LARGEST_LOG_SCALE)))
    groups = (arrays.means.astype(np.float64), np.minimum(logs, _LARGEST_LOG_SCALE), 0.5 + SH_C0 * arrays.sh[:, 0])
    bounds, shares = [], []
    for values in groups:
        # As float32, because that is what a reader interpolates between.
        low = np.minimum.reduceat(values, starts).astype(np.float32)
        high = np.maximum.reduceat(values, starts).astype(np.float32)
        extent = high.astype(np.float64) - low
        share = (values - low[chunk_of]) / np.where(extent > 0, extent, 1.0)[chunk_of]
        bounds += [low, high]
        shares.append(share)
    vertex = np.stack(
        [
            _pack(shares[0], _POSITION_BITS),
            _pack_rotations(arrays.rotations),
            _pack(shares[1], _POSITION_BITS),
            _pack(np.column_stack([shares[2], arrays.opacities]), (8, 8, 8, 8)),
        ],
        axis=1,
    )
    rest = 3 * (arrays.sh.shape[1] - 1)
    elements = [("chunk", len(starts), "float", _BOUNDS), ("vertex", n, "uint", _PACKED)]
    if rest:
        elements.append(("sh", n, "uchar", tuple(f"f_rest_{i}" for i in range(rest))))
    by_channel = arrays.sh[:, 1:].transpose(0, 2, 1).reshape(n, rest).astype(np.float64)
    harmonics = np.clip(np.trunc((by_channel / _SH_RANGE + 0.5) * 256), 0, 255).astype(np.uint8)
    content = header_bytes(elements, comments) + np.concatenate(bounds, axis=1).astype("<f4").tobytes()
    steps = (bounds[1] - bounds[0]) / (2.0 ** np.array(_POSITION_BITS) - 1)
    return content + vertex.astype("<u4").tobytes() + harmonics.tobytes(), order, float(steps.max()) / 2


def decode(path: Path, header: PlyHeader) -> SplatArrays:
    """Read a compressed .ply. Raises VultusError where its tables do not fit each other or are cut off."""
    _check(path, header)
    chunk, vertex = (read_table(path, header, name) for name in ("chunk", "vertex"))
    n = len(vertex)
    chunk_of = np.arange(n) // _CHUNK
    position, rotation, scale, color = (vertex[name].astype(np.uint32) for name in _PACKED)

    def between(share: np.ndarray, *names: str) -> np.ndarray:
        low = np.stack([chunk[f"min_{name}"] for name in names], axis=1).astype(np.float64)[chunk_of]
        high = np.stack([chunk[f"max_{name}"] for name in names], axis=1).astype(np.float64)[chunk_of]
        return low * (1 - share) + high * share

    shades = _unpack(color, (8, 8, 8, 8))
    rgb = between(shades[:, :3], "r", "g", "b") if "min_r" in (chunk.dtype.names or ()) else shades[:, :3]
    sh = np.zeros((n, 1, 3)) if header.element("sh") is None else _harmonics(read_table(path, header, "sh"))
    sh[:, 0] = (rgb - 0.5) / SH_C0
    with np.errstate(over="ignore", invalid="ignore"):
        return SplatArrays(
            means=between(_unpack(position, _POSITION_BITS), "x", "y", "z").astype(np.float32),
            rotations=_unpack_rotations(rotation).astype(np.float32),
            scales=np.exp(between(_unpack(scale, _POSITION_BITS), "scale_x", "scale_y", "scale_z")).astype(np.float32),
            opacities=shades[:, 3].astype(np.float32),
            sh=sh.astype(np.float32),
        )


def morton_order(points: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, "N"]:
    """An order in which neighbours in space are neighbours in the list: by interleaved bits of the coordinates."""
    wide = points.astype(np.float64)
    low, high = wide.min(0), wide.max(0)
    cells = ((wide - low) / np.where(high > low, high - low, 1.0) * (2**21 - 1)).astype(np.uint64)
    key = np.zeros(len(points), dtype=np.uint64)
    for axis in range(3):
        key |= _spread(cells[:, axis]) << np.uint64(axis)
    return np.argsort(key, kind="stable")


def _spread(values: np.ndarray) -> np.ndarray:
    """Two zero bits after each of the 21 lowest bits."""
    for shift, mask in (
        (32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F), (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):  # fmt: skip
        values = (values | (values << np.uint64(shift))) & np.uint64(mask)
    return values


def _pack(shares: Float[np.ndarray, "N C"], bits: tuple[int, ...]) -> UInt32[np.ndarray, "N"]:
    """Numbers in [0, 1] as fields of one integer, the first one highest, each rounded to its bits."""
    packed = np.zeros(len(shares), dtype=np.uint32)
    for column, width in enumerate(bits):
        top = (1 << width) - 1
        field = np.clip(np.floor(shares[:, column].astype(np.float64) * top + 0.5), 0, top).astype(np.uint32)
        packed = (packed << np.uint32(width)) | field
    return packed


def _unpack(packed: UInt32[np.ndarray, "N"], bits: tuple[int, ...]) -> Float[np.ndarray, "N C"]:
    columns = []
    for width in reversed(bits):
        top = (1 << width) - 1
        columns.append((packed & np.uint32(top)) / top)
        packed = packed >> np.uint32(width)
    return np.stack(columns[::-1], axis=1)


def _pack_rotations(rotations: Float[np.ndarray, "N 4"]) -> UInt32[np.ndarray, "N"]:
    rows = np.arange(len(rotations))
    largest = np.abs(rotations).argmax(axis=1)
    signed = rotations * np.where(rotations[rows, largest] < 0, -1.0, 1.0)[:, None]
    others = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[largest]
    shares = np.take_along_axis(signed, others, axis=1) * (math.sqrt(2) / 2) + 0.5
    return (largest.astype(np.uint32) << np.uint32(30)) | _pack(shares, (10, 10, 10))


def _unpack_rotations(packed: UInt32[np.ndarray, "N"]) -> Float[np.ndarray, "N 4"]:
    values = (_unpack(packed, (10, 10, 10)) - 0.5) * math.sqrt(2)
    largest = (packed >> np.uint32(30)).astype(np.int64)
    others = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[largest]
    rotations = np.zeros((len(packed), 4))
    np.put_along_axis(rotations, others, values, axis=1)
    rotations[np.arange(len(packed)), largest] = np.sqrt(np.maximum(0.0, 1.0 - (values**2).sum(axis=1)))
    return rotations


def _harmonics(table: np.ndarray) -> Float[np.ndarray, "N K 3"]:
    """Coefficients with a first row left at zero. The outermost bytes mean the ends of the range."""
    names = table.dtype.names or ()
    stored = np.stack([table[f"f_rest_{i}"] for i in range(len(names))], axis=1).astype(np.float64)
    shares = np.where(stored == 0, 0.0, np.where(stored == 255, 1.0, (stored + 0.5) / 256))
    coefficients = ((shares - 0.5) * _SH_RANGE).reshape(len(table), 3, len(names) // 3).transpose(0, 2, 1)
    return np.concatenate([np.zeros((len(table), 1, 3)), coefficients], axis=1)


def _check(path: Path, header: PlyHeader) -> None:
    chunk, vertex, sh = header.element("chunk"), header.element("vertex"), header.element("sh")
    assert chunk is not None, "is_compressed looked for it"
    assert vertex is not None, "is_compressed looked for it"
    # Older files have no bounds of colours.
    for element, kind, names in (
        (chunk, "f4", _BOUNDS if "min_r" in chunk.names else _BOUNDS[:12]),
        (vertex, "u4", _PACKED),
    ):
        missing = [name for name in names if (name, kind) not in element.properties]
        if missing:
            raise VultusError(
                f"{path}: element {element.name!r} of the compressed PLY has no {missing[0]} of type {kind}"
            )
    chunks = (vertex.count + _CHUNK - 1) // _CHUNK
    if chunk.count != chunks:
        raise VultusError(f"{path}: {vertex.count} splats need {chunks} chunks, but the file has {chunk.count}")
    if sh is not None:
        wanted = tuple((f"f_rest_{i}", "u1") for i in range(len(sh.properties)))
        if len(wanted) not in (9, 24, 45) or set(sh.properties) != set(wanted):
            raise VultusError(f"{path}: element 'sh' must have 9, 24 or 45 bytes f_rest_0, f_rest_1, ...")
        if sh.count != vertex.count:
            raise VultusError(f"{path}: {vertex.count} splats have {sh.count} rows of spherical harmonics")
