"""The parts of a glTF document that hold splats: nodes with their transforms, and accessors, all checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vultus.errors import VultusError

_MAX_JSON_BYTES = 16 << 20
_COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


@dataclass(frozen=True)
class GltfFile:
    """A glTF document and the binary chunk of its GLB."""

    path: Path
    document: Mapping[str, Any]
    binary: bytes

    @staticmethod
    def parse(path: Path, text: bytes, binary: bytes) -> GltfFile:
        """Raises VultusError if `text` is not a JSON object."""
        if len(text) > _MAX_JSON_BYTES:
            raise VultusError(f"{path}: {len(text)} bytes of JSON are more than the limit of {_MAX_JSON_BYTES}")
        try:
            document = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise VultusError(f"{path}: its JSON is not valid: {error}") from error
        if not isinstance(document, dict):
            raise VultusError(f"{path}: its JSON is not an object")
        return GltfFile(path, document, binary)

    def mapping(self, value: object, name: str) -> Mapping[str, Any]:
        """`value`, which has to be a JSON object."""
        if not isinstance(value, dict):
            raise VultusError(f"{self.path}: {name} is missing or is not a JSON object")
        return value

    def list(self, value: object, name: str) -> list[Any]:
        """`value`, which has to be a JSON list."""
        if not isinstance(value, list):
            raise VultusError(f"{self.path}: {name} is missing or is not a list")
        return value

    def item(self, kind: str, index: object) -> Mapping[str, Any]:
        """Number `index` of one of the document's lists."""
        items = self.list(self.document.get(kind), kind)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(items):
            raise VultusError(f"{self.path}: refers to number {index!r} of {len(items)} {kind}")
        return self.mapping(items[index], f"{kind}[{index}]")

    def number(self, owner: Mapping[str, Any], key: str, default: int | None = None) -> int:
        """A count or an offset: an integer from 0 to 2^48."""
        value = owner.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 48:
            raise VultusError(f"{self.path}: {key} is {value!r}, not a number of bytes or items")
        return value

    def attribute(self, attributes: Mapping[str, Any], name: str, width: int) -> Float[np.ndarray, "N C"]:
        """The values of an attribute as float32; normalised integers become numbers in [-1, 1] or [0, 1]."""
        if name not in attributes:
            raise VultusError(f"{self.path}: its splats have no attribute {name}")
        accessor = self.item("accessors", attributes[name])
        component = accessor.get("componentType")
        kind = _COMPONENTS.get(component) if isinstance(component, int) else None
        form = accessor.get("type")
        if kind is None or not isinstance(form, str) or _WIDTHS.get(form) != width or "sparse" in accessor:
            raise VultusError(f"{self.path}: {name} has a type that is not read (component {component!r}, {form!r})")
        view = self.item("bufferViews", accessor.get("bufferView"))
        if "uri" in self.item("buffers", view.get("buffer")) or view.get("buffer") != 0:
            raise VultusError(f"{self.path}: its data is in another file; pack everything into one GLB")
        dtype = np.dtype(kind)
        count = self.number(accessor, "count")
        row = dtype.itemsize * width
        stride = self.number(view, "byteStride", row)
        start = self.number(accessor, "byteOffset", 0)
        begin, length = self.number(view, "byteOffset", 0), self.number(view, "byteLength")
        if count == 0 or stride < row or start + (count - 1) * stride + row > length:
            raise VultusError(f"{self.path}: {name} claims {count} values, which its {length} bytes cannot hold")
        if begin + length > len(self.binary):
            raise VultusError(f"{self.path}: {name} lies outside of the {len(self.binary)} bytes of binary data")
        values = np.ndarray((count, width), dtype, self.binary, begin + start, (stride, dtype.itemsize))
        wide = values.astype(np.float32)
        if dtype.kind == "f" or not accessor.get("normalized"):
            return wide
        return np.maximum(wide / np.iinfo(dtype).max, -1)


def primitives(file: GltfFile, extension: str) -> Iterator[tuple[Mapping[str, Any], Float[np.ndarray, "4 4"]]]:
    """The primitives with `extension` of the default scene (else of all nodes), with their node-to-world matrices."""
    roots = _roots(file)
    seen: set[int] = set()
    waiting = [(index, np.eye(4)) for index in reversed(roots)]
    while waiting:
        index, above = waiting.pop()
        node = file.item("nodes", index)
        if index in seen:
            raise VultusError(f"{file.path}: node {index} is in the scene twice")
        seen.add(index)
        matrix = above @ _local(file, node)
        waiting += [(child, matrix) for child in reversed(file.list(node.get("children", []), "children"))]
        if "mesh" not in node:
            continue
        mesh = file.item("meshes", node["mesh"])
        for item in file.list(mesh.get("primitives"), "primitives"):
            primitive = file.mapping(item, "primitive")
            if extension in file.mapping(primitive.get("extensions", {}), "extensions"):
                yield primitive, matrix


def _roots(file: GltfFile) -> list[Any]:
    if "scenes" in file.document:
        return file.list(file.item("scenes", file.document.get("scene", 0)).get("nodes", []), "nodes")
    nodes = file.list(file.document.get("nodes", []), "nodes")
    children = {child for node in nodes for child in _children(file, node)}
    return [index for index in range(len(nodes)) if index not in children]


def _children(file: GltfFile, node: object) -> list[int]:
    found = file.list(file.mapping(node, "node").get("children", []), "children")
    return [child for child in found if isinstance(child, int)]


def _local(file: GltfFile, node: Mapping[str, Any]) -> Float[np.ndarray, "4 4"]:
    """A node's own matrix (stored by columns), or translation · rotation · scale."""
    if "matrix" in node:
        return _numbers(file, node, "matrix", 16, []).reshape(4, 4).T
    x, y, z, w = _numbers(file, node, "rotation", 4, [0, 0, 0, 1])
    norm = x * x + y * y + z * z + w * w
    if norm < 1e-12:
        raise VultusError(f"{file.path}: a node has a rotation of length zero")
    s = 2 / norm
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
        [s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)],
        [s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)],
    ]
    matrix[:3, :3] *= _numbers(file, node, "scale", 3, [1, 1, 1])
    matrix[:3, 3] = _numbers(file, node, "translation", 3, [0, 0, 0])
    return matrix


def _numbers(file: GltfFile, node: Mapping[str, Any], key: str, count: int, default: list[int]) -> np.ndarray:
    values = file.list(node.get(key, default), key)
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if len(values) != count or not plain or not all(abs(value) < 1e30 for value in values):
        raise VultusError(f"{file.path}: a node's {key} is not {count} numbers")
    return np.array(values, dtype=np.float64)
