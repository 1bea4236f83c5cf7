"""SPZ files, versions 2 and 3: a gzip stream of a 16-byte header and six arrays of bytes.

Positions are 24-bit fixed-point numbers. Their step is 2^-fractional_bits metres, which the header states: the 12 bits
that other programs take make steps of 0.24 mm, visible on a head, so `encode` takes as many as the content allows.
Scales are steps of 1/16 of a natural logarithm (6 %), from 45 µm upwards. The axes are right-up-back, as in Vultus.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from vultus.errors import VultusError
from vultus.splats.formats.arrays import MAX_BYTES, SplatArrays

HIGHEST_DEGREES = {2: 3, 3: 4}
"""Highest spherical-harmonics degree by version."""
_MAGIC = 0x5053474E
_HEADER = struct.Struct("<IIIBBBB")
_ANTIALIASED = 1
_MOST_SPLATS = 30_000_000
_MOST_FRACTIONAL_BITS = 24
# Finer steps than 4 µm show on no head and only make files larger.
_USEFUL_FRACTIONAL_BITS = 18
_LARGEST_POSITION = 2**23 - 1
_COLOR_SCALE = 0.15
_SQRT_HALF = math.sqrt(0.5)
# Splats hardly shrink to less than a third of their bytes; a small file that unpacks to gigabytes is a trap.
_MAX_RATIO, _HARMLESS_BYTES = 32, 64 << 20
_MOST_EXTENSION_BYTES = 16 << 20


def encode(
    path: Path, arrays: SplatArrays, *, version: int = 3, antialiased: bool = False, fractional_bits: int | None = None
) -> tuple[bytes, float]:
    """The file's bytes and the largest position error (m).

    Raises:
        VultusError: a version other than 2 and 3, or positions beyond what 24 bits hold.
    """
    if version not in HIGHEST_DEGREES:
        raise VultusError(f"cannot write {path}: SPZ version {version} is not written; choose 2 or 3")
    if len(arrays) > _MOST_SPLATS:
        raise VultusError(f"cannot write {path}: {len(arrays)} splats are more than the {_MOST_SPLATS} of the format")
    extent = float(np.abs(arrays.means).max())
    bits = fitting_bits(extent) if fractional_bits is None else fractional_bits
    if not 0 <= bits <= _MOST_FRACTIONAL_BITS or round(extent * 2.0**bits) > _LARGEST_POSITION:
        raise VultusError(
            f"cannot write {path}: a splat is {extent:.4g} m from the origin, too far for {bits} fractional bits"
        )
    fixed = np.rint(arrays.means.astype(np.float64) * 2.0**bits).astype("<i4")
    logs = np.log(np.maximum(arrays.scales.astype(np.float64), 1e-30))
    parts = [
        _HEADER.pack(_MAGIC, version, len(arrays), arrays.degree, bits, _ANTIALIASED if antialiased else 0, 0),
        fixed.view(np.uint8).reshape(-1, 4)[:, :3],
        _byte(255 * arrays.opacities),
        _byte(255 * (_COLOR_SCALE * arrays.sh[:, 0] + 0.5)),
        _byte(16 * (logs + 10)),
        _pack_first_three(arrays.rotations) if version == 2 else _pack_smallest_three(arrays.rotations),
        _pack_harmonics(arrays.sh[:, 1:]),
    ]
    # zlib's own gzip header has no time in it: the same splats make the same bytes.
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    content = b"".join(packer.compress(part if isinstance(part, bytes) else part.tobytes()) for part in parts)
    return content + packer.flush(), 0.5 * 2.0**-bits


def decode(path: Path, content: bytes) -> SplatArrays:
    """Read a file's bytes.

    Raises:
        VultusError: another version, cut off, damaged, or a header that promises more than the file can hold.
    """
    if content[:4] == struct.pack("<I", _MAGIC):
        raise VultusError(f"{path}: is an SPZ file of version 4 (Zstandard); save it as version 3, which is gzip")
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    head = _inflate(path, unpacker, content, _HEADER.size)
    magic, version, count, degree, bits, _, _ = _HEADER.unpack(head)
    if magic != _MAGIC:
        raise VultusError(f"{path}: is a gzip file, but not an SPZ file")
    if version not in HIGHEST_DEGREES:
        raise VultusError(f"{path}: is an SPZ file of version {version}; versions 2 and 3 are read")
    if degree > HIGHEST_DEGREES[version] or bits > _MOST_FRACTIONAL_BITS:
        raise VultusError(f"{path}: claims spherical harmonics of degree {degree} and {bits} fractional bits; damaged")
    sizes = [9, 1, 3, 3, 3 if version == 2 else 4, 3 * ((degree + 1) ** 2 - 1)]
    wanted = count * sum(sizes)
    if count == 0:
        raise VultusError(f"{path}: holds no splats")
    limit = min(MAX_BYTES, max(_HARMLESS_BYTES, _MAX_RATIO * len(content)))
    if count > _MOST_SPLATS or wanted > limit:
        raise VultusError(f"{path}: claims {count} splats, too many for a file of {len(content)} bytes; it is damaged")
    body = np.frombuffer(_inflate(path, unpacker, unpacker.unconsumed_tail, wanted), np.uint8)
    _check_end(path, unpacker)
    parts = np.split(body, np.cumsum([count * size for size in sizes])[:-1])
    position, opacity, color, scale, rotation, harmonics = (
        part.reshape(count, size) for part, size in zip(parts, sizes, strict=True)
    )
    fixed = np.zeros((count, 3, 4), np.uint8)
    # The three bytes go to the upper end of an integer, so that a shift spreads their sign.
    fixed[:, :, 1:] = position.reshape(count, 3, 3)
    higher = (harmonics.astype(np.float32) - 128) / 128
    return SplatArrays(
        means=((fixed.view("<i4")[..., 0] >> 8) / 2.0**bits).astype(np.float32),
        rotations=_unpack_first_three(rotation) if version == 2 else _unpack_smallest_three(rotation),
        scales=np.exp(scale / 16.0 - 10).astype(np.float32),
        opacities=(opacity[:, 0] / 255.0).astype(np.float32),
        sh=np.concatenate(
            [((color / 255.0 - 0.5) / _COLOR_SCALE).astype(np.float32)[:, None], higher.reshape(count, -1, 3)], axis=1
        ),
    )


def fitting_bits(extent: float) -> int:
    """The most fractional bits, at most 18, with which a coordinate of `extent` metres fits into 24 bits."""
    fitting = [bits for bits in range(_USEFUL_FRACTIONAL_BITS + 1) if round(extent * 2.0**bits) <= _LARGEST_POSITION]
    return fitting[-1] if fitting else 0


def _inflate(path: Path, unpacker: zlib._Decompress, content: bytes, wanted: int) -> bytes:
    """The next `wanted` unpacked bytes, never more."""
    try:
        found = unpacker.decompress(content, wanted) if wanted else b""
    except zlib.error as error:
        raise VultusError(f"{path}: is no readable gzip stream ({error}); get the file again") from error
    if len(found) < wanted:
        raise VultusError(f"{path}: ends after {len(found)} of {wanted} bytes; it was cut off, get it again")
    return found


def _check_end(path: Path, unpacker: zlib._Decompress) -> None:
    """Read to gzip's checksum, over extensions, which are skipped."""
    try:
        rest = unpacker.decompress(unpacker.unconsumed_tail, _MOST_EXTENSION_BYTES)
    except zlib.error as error:
        raise VultusError(f"{path}: is damaged ({error}); get the file again") from error
    if not unpacker.eof:
        what = "goes on after its last splat" if len(rest) == _MOST_EXTENSION_BYTES else "was cut off at its end"
        raise VultusError(f"{path}: {what}; get the file again")


def _byte(values: np.ndarray) -> UInt8[np.ndarray, "*shape"]:
    return np.clip(np.floor(values.astype(np.float64) + 0.5), 0, 255).astype(np.uint8)


def _pack_harmonics(coefficients: Float[np.ndarray, "N K 3"]) -> UInt8[np.ndarray, "N K 3"]:
    """Bytes around 128, rounded to multiples of 8 (degree 1) and 16 (above), which gzip packs well."""
    bucket = np.where(np.arange(coefficients.shape[1]) < 3, 8, 16)[:, None]
    stored = np.rint(128 * np.clip(coefficients.astype(np.float64), -2, 2)).astype(np.int64) + 128
    return np.clip((stored + bucket // 2) // bucket * bucket, 0, 255).astype(np.uint8)


def _pack_first_three(rotations: Float[np.ndarray, "N 4"]) -> UInt8[np.ndarray, "N 3"]:
    """x, y, z of the quaternion with w ≥ 0, as bytes."""
    signed = rotations * np.where(rotations[:, :1] < 0, -1.0, 1.0)
    return _byte(127.5 * signed[:, 1:] + 127.5)


def _unpack_first_three(stored: UInt8[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 4"]:
    xyz = stored / 127.5 - 1
    w = np.sqrt(np.maximum(0.0, 1.0 - (xyz**2).sum(axis=1, keepdims=True)))
    return np.concatenate([w, xyz], axis=1).astype(np.float32)


# The components beside the largest one, in the order x, y, z, w of the format.
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


def _pack_smallest_three(rotations: Float[np.ndarray, "N 4"]) -> UInt8[np.ndarray, "N 4"]:
    """Index of the largest component in 2 bits, then for each other one a sign and 9 bits of magnitude."""
    xyzw = rotations[:, [1, 2, 3, 0]].astype(np.float64)
    largest = np.abs(xyzw).argmax(axis=1)
    signed = xyzw * np.where(np.take_along_axis(xyzw, largest[:, None], axis=1) < 0, -1.0, 1.0)
    others = np.take_along_axis(signed, _OTHERS[largest], axis=1)
    magnitude = np.minimum(np.floor(511 * np.abs(others) / _SQRT_HALF + 0.5), 511).astype(np.uint32)
    fields = magnitude | ((others < 0).astype(np.uint32) << np.uint32(9))
    packed = largest.astype(np.uint32)
    for column in range(3):
        packed = (packed << np.uint32(10)) | fields[:, column]
    return packed.astype("<u4").view(np.uint8).reshape(-1, 4)


def _unpack_smallest_three(stored: UInt8[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    packed = np.ascontiguousarray(stored).view("<u4")[:, 0]
    largest = (packed >> 30).astype(np.int64)
    fields = np.stack([packed >> 20, packed >> 10, packed], axis=1) & 0x3FF
    others = (fields & 0x1FF) * (_SQRT_HALF / 511) * np.where(fields & 0x200, -1.0, 1.0)
    xyzw = np.zeros((len(packed), 4))
    np.put_along_axis(xyzw, _OTHERS[largest], others, axis=1)
    xyzw[np.arange(len(packed)), largest] = np.sqrt(np.maximum(0.0, 1.0 - (others**2).sum(axis=1)))
    return xyzw[:, [3, 0, 1, 2]].astype(np.float32)
