"""The header of a binary .ply file and the tables under it, with every size checked against the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vultus.errors import VultusError

_HEADER_LIMIT = 1 << 16
_LIST = "list"
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class PlyElement:
    """A table: its name, number of rows, and properties as (name, NumPy type without byte order, or "list")."""

    name: str
    count: int
    properties: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.properties)

    @property
    def has_list(self) -> bool:
        return any(kind == _LIST for _, kind in self.properties)

    @property
    def row_bytes(self) -> int:
        return sum(np.dtype(kind).itemsize for _, kind in self.properties)


@dataclass(frozen=True)
class PlyHeader:
    """offset: where the data starts. order: "<" or ">". comments: the comment lines."""

    offset: int
    order: str
    elements: tuple[PlyElement, ...]
    comments: tuple[str, ...]

    def element(self, name: str) -> PlyElement | None:
        return next((element for element in self.elements if element.name == name), None)


def read_header(path: Path) -> PlyHeader:
    """The header of a .ply file. Raises VultusError if it is not a binary one or not understood."""
    try:
        with path.open("rb") as file:
            return _parse(path, file.read(_HEADER_LIMIT))
    except OSError as error:
        raise VultusError(f"cannot read {path}: {error.strerror or error}") from None


def read_table(path: Path, header: PlyHeader, name: str) -> np.ndarray:
    """The rows of an element as a structured array. Raises VultusError where the file holds fewer than it promises."""
    skipped = 0
    for element in header.elements:
        if element.has_list:
            raise VultusError(f"{path}: element {element.name!r} has a list property, which splat files do not have")
        if element.name == name:
            break
        skipped += element.count * element.row_bytes
    else:
        raise VultusError(f"{path}: the PLY has no element {name!r}")
    if len(set(element.names)) != len(element.names):
        raise VultusError(f"{path}: element {name!r} has repeated properties")
    if not element.properties:
        raise VultusError(f"{path}: element {name!r} has no properties")
    wanted = element.count * element.row_bytes
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if header.offset + skipped + wanted > size:
                raise VultusError(
                    f"{path} promises {element.count} rows of {name} of {element.row_bytes} bytes but holds only "
                    f"{size - header.offset} bytes of data; it was cut off, get it again"
                )
            file.seek(header.offset + skipped)
            content = file.read(wanted)
    except OSError as error:
        raise VultusError(f"cannot read {path}: {error.strerror or error}") from None
    dtype = np.dtype([(name, header.order + kind) for name, kind in element.properties])
    return np.frombuffer(content, dtype) if wanted else np.zeros(0, dtype)


def header_bytes(elements: Sequence[tuple[str, int, str, Sequence[str]]], comments: Sequence[str]) -> bytes:
    """The header of a binary little-endian file of `elements`: name, rows, type and names of all properties.

    Comments become single lines of ASCII, the only text that all readers accept.
    """
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {_ascii(comment)}" for comment in comments)]
    for name, count, kind, properties in elements:
        lines += [f"element {name} {count}", *(f"property {kind} {property}" for property in properties)]
    return "\n".join([*lines, "end_header", ""]).encode("ascii")


def _ascii(text: str) -> str:
    """One line in which other characters are escaped as JSON does, so that JSON stays valid."""
    return "".join(c if " " <= c <= "~" else _escape(c) for c in " ".join(text.split()))


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _parse(path: Path, head: bytes) -> PlyHeader:
    end = head.find(b"end_header")
    newline = head.find(b"\n", end)
    if not head.startswith(b"ply") or end < 0 or newline < 0:
        raise VultusError(f"{path} is not a .ply file: it has no PLY header")
    order, comments = None, []
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    for line in head[:end].decode("utf-8", errors="replace").splitlines()[1:]:
        words = line.split()
        match words:
            case []:
                continue
            case ["format", kind, _]:
                order = _ORDERS.get(kind)
                if order is None:
                    raise VultusError(f"{path} is a .ply in the format {kind!r}; only binary ones can hold splats here")
            case ["comment" | "obj_info", *_]:
                comments.append(line.split(maxsplit=1)[1] if len(words) > 1 else "")
            case ["element", name, number] if number.isascii() and number.isdecimal() and len(number) < 12:
                elements.append((name, int(number), []))
            case ["property", kind, name] if kind in _TYPES and elements:
                elements[-1][2].append((name, _TYPES[kind]))
            case ["property", "list", *_] if elements:
                elements[-1][2].append(("", _LIST))
            case _:
                raise VultusError(f"{path}: the header line {line[:80]!r} is not understood")
    if order is None:
        raise VultusError(f"{path}: the PLY header does not say its format")
    tables = tuple(PlyElement(name, count, tuple(properties)) for name, count, properties in elements)
    return PlyHeader(newline + 1, order, tables, tuple(comments))
