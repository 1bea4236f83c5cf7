"""Numeric arrays in MATLAB's level-5 files, read without trusting a single size in them.

Source: The MathWorks, *MAT-File Format*, level 5.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vultus.errors import VultusError

_MAX_BYTES = 1 << 30
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


def read_matlab(path: str | Path, *, max_bytes: int = _MAX_BYTES) -> dict[str, np.ndarray]:
    """The numeric arrays of a .mat file by name; text, structures and sparse arrays in it are passed over.

    Raises:
        VultusError: missing, not a level-5 file (version 7.3 files are another format), damaged, or larger than
            `max_bytes` when unpacked.
    """
    try:
        if Path(path).stat().st_size > max_bytes:
            raise VultusError(f"{path}: is larger than the limit of {max_bytes} bytes")
        content = Path(path).read_bytes()
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    mark = content[126:128]
    if len(content) < _HEADER or mark not in (b"IM", b"MI") or content[:8] == b"\x89HDF\r\n\x1a\n":
        raise VultusError(f"{path}: is not a MATLAB level-5 file; save it with -v7 in MATLAB")
    order = "<" if mark == b"IM" else ">"
    arrays: dict[str, np.ndarray] = {}
    left = max_bytes
    try:
        for kind, data in _elements(content[_HEADER:], order):
            if kind == _COMPRESSED:
                unpacker = zlib.decompressobj()
                data = unpacker.decompress(data, left)
                if unpacker.unconsumed_tail:
                    raise ValueError(f"unpacks to more than {max_bytes} bytes")
                left -= len(data)
                kind, data = next(_elements(data, order))
            if kind == _MATRIX and (named := _matrix(data, order)) is not None:
                arrays[named[0]] = named[1]
    except (ValueError, struct.error, zlib.error, StopIteration, UnicodeDecodeError) as error:
        raise VultusError(f"{path}: is not a readable .mat file: {error or 'it ends too early'}") from error
    return arrays


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, position)
        if kind >> 16:  # a small element: four bytes of data follow in the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
            following = position + 8
            if size > 4:
                raise ValueError("a small element that is not small")
        else:
            start = position + 8
            following = start + size if kind == _COMPRESSED else start + (size + 7) // 8 * 8
        if start + size > len(content):
            raise ValueError("an element larger than the file; it is cut off")
        yield kind, content[start : start + size]
        position = following


def _matrix(content: bytes, order: str) -> tuple[str, np.ndarray] | None:
    parts = _elements(content, order)
    flags, shape, name = next(parts)[1], next(parts)[1], next(parts)[1]
    (kind,) = struct.unpack_from(order + "I", flags)
    target = _CLASSES.get(kind & 0xFF)
    if target is None or kind & 0x800:  # not numeric, or complex
        return None
    sizes = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    stored, data = next(parts)
    if stored not in _NUMBERS or any(size < 0 for size in sizes):
        raise ValueError(f"an array of kind {stored} and shape {sizes}")
    values = np.frombuffer(data, np.dtype(order + _NUMBERS[stored]))
    if math.prod(sizes) != len(values):
        raise ValueError(f"an array of shape {sizes} with {len(values)} numbers")
    return name.decode("ascii"), values.astype(target).reshape(sizes, order="F")
