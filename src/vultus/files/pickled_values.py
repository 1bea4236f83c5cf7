"""What the objects of a pickle stream become: inert stand-ins first, NumPy arrays once every size was checked.

Source of the layouts: NumPy's and SciPy's `__reduce__`, chumpy's `__getstate__`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MAX_BYTES = 2 << 30
_MAX_DEPTH = 32
_MAX_NODES = 1_000_000
_MAX_DENSE = 4_000_000
_DTYPES = {"b1", "O8", "O", *(f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8))} - {"f1"}


def to_values(node: Any) -> Any:
    """A stream's object with all stand-ins replaced by their values. Raises ValueError where they make none."""
    return _values(node, [_MAX_NODES], 0)


class StandIn:
    """An object of a stream: it keeps its state and does nothing."""

    state: Any = None
    known_value: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self, budget: list[int], depth: int) -> np.ndarray:
        raise NotImplementedError

    def _entry(self, key: str, budget: list[int], depth: int) -> Any:
        if not isinstance(self.state, dict) or key not in self.state:
            raise ValueError(f"a {type(self).__name__.lower()} without {key}")
        return _values(self.state[key], budget, depth + 1)

    def _array(self, key: str, budget: list[int], depth: int) -> np.ndarray:
        value = self._entry(key, budget, depth)
        if not isinstance(value, np.ndarray):
            raise ValueError(f"{key} of a {type(self).__name__.lower()} is no array")
        return value


class DType(StandIn):
    """`numpy.dtype(code, align, copy)`, whose state holds the byte order second."""

    def __init__(self, code: Any) -> None:
        is_text = isinstance(code, str) and code[:1] in ("S", "U") and code[1:].isdecimal() and len(code) < 8
        if code not in _DTYPES and not is_text:
            raise ValueError(f"values of type {str(code)[:20]!r}")
        self.code = code

    def dtype(self) -> np.dtype:
        order = "="
        if self.state is not None:
            if not isinstance(self.state, tuple) or len(self.state) < 5 or any(self.state[2:5]):
                raise ValueError("a structured dtype")
            order = self.state[1] if self.state[1] in ("<", ">", "=", "|") else "="
        return np.dtype("O" if self.code == "O8" else self.code).newbyteorder(order)


class Array(StandIn):
    """`numpy.ndarray` with state (version, shape, dtype, column-major, data)."""

    def value(self, budget: list[int], depth: int) -> Any:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without content")
        _, shape, dtype, column_major, data = self.state
        if not isinstance(dtype, DType):
            raise ValueError("an array without dtype")
        plain = dtype.dtype()
        if plain.hasobject:
            items = _values(data, budget, depth + 1)
            if not isinstance(items, list) or math.prod(checked_shape(shape)) != len(items):
                raise ValueError("an object array of the wrong size")
            return items[0] if shape == () else items
        return from_bytes(data, plain, shape, bool(column_major))


class ArrayFromBuffer(StandIn):
    """`numpy._core.numeric._frombuffer(data, dtype, shape, order)`."""

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any) -> None:
        if not isinstance(dtype, DType):
            raise ValueError("an array without dtype")
        self.parts = data, dtype, shape, order

    def value(self, budget: list[int], depth: int) -> np.ndarray:
        data, dtype, shape, order = self.parts
        return from_bytes(data, dtype.dtype(), shape, order == "F")


class ScipyCsc(StandIn):
    """A column-compressed matrix, made dense without SciPy."""

    def value(self, budget: list[int], depth: int) -> np.ndarray:
        rows, columns = checked_shape(self._entry("_shape", budget, depth))
        data, indices, starts = (self._array(key, budget, depth) for key in ("data", "indices", "indptr"))
        lengths = np.diff(starts.astype(np.int64))
        is_sound = (
            data.ndim == indices.ndim == starts.ndim == 1
            and {indices.dtype.kind, starts.dtype.kind} <= {"i", "u"}
            and rows * columns <= _MAX_DENSE
            and len(starts) == columns + 1
            and starts[0] == 0
            and starts[-1] == len(data) == len(indices)
            and (lengths >= 0).all()
            and (len(indices) == 0 or (indices.min() >= 0 and indices.max() < rows))
        )
        if not is_sound:
            raise ValueError("a sparse matrix whose parts do not fit together")
        budget[0] -= _MAX_NODES // 8
        dense = np.zeros((rows, columns), data.dtype)
        # Entries stored twice add up, as SciPy defines it.
        np.add.at(dense, (indices, np.repeat(np.arange(columns), lengths)), data)
        return dense


class Ch(StandIn):
    """A chumpy array: its value is `x`."""

    def value(self, budget: list[int], depth: int) -> np.ndarray:
        return self._array("x", budget, depth).astype(np.float64)


class Select(StandIn):
    """chumpy's slice: flat indices into another node."""

    def value(self, budget: list[int], depth: int) -> np.ndarray:
        source, picked = self._array("a", budget, depth).ravel(), self._array("idxs", budget, depth)
        if picked.dtype.kind not in "iu" or (
            picked.size and not -len(source) <= picked.min() <= picked.max() < len(source)
        ):
            raise ValueError("a chumpy slice that reaches outside its array")
        taken = source[picked.ravel()]
        shape = self.state.get("preferred_shape")
        return taken if shape is None else taken.reshape(checked_shape(shape))


class Reshape(StandIn):
    def value(self, budget: list[int], depth: int) -> np.ndarray:
        return self._array("a", budget, depth).reshape(self._entry("newshape", budget, depth))


class Transpose(StandIn):
    def value(self, budget: list[int], depth: int) -> np.ndarray:
        return self._array("a", budget, depth).transpose(self.state.get("axes"))


class AtleastNd(StandIn):
    def value(self, budget: list[int], depth: int) -> np.ndarray:
        array, count = self._array("x", budget, depth), self._entry("ndims", budget, depth)
        return array.reshape(array.shape + (1,) * max(0, min(int(count), 8) - array.ndim))


def checked_shape(value: Any) -> tuple[int, ...]:
    """A tuple of small non-negative integers."""
    if not isinstance(value, tuple) or len(value) > 8:
        raise ValueError("a shape that is none")
    if any(not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_BYTES for size in value):
        raise ValueError(f"the impossible shape {str(value)[:60]}")
    return value


def from_bytes(data: Any, dtype: np.dtype, shape: Any, column_major: bool) -> np.ndarray:
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, bytes) or dtype.hasobject or dtype.itemsize == 0:
        raise ValueError("an array without bytes")
    if len(data) != math.prod(checked_shape(shape)) * dtype.itemsize:
        raise ValueError(f"an array of shape {shape} from {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if column_major else "C").copy(order="K")


def _values(node: Any, budget: list[int], depth: int) -> Any:
    """The object with all stand-ins replaced by their values; bounded in depth and number of nodes."""
    budget[0] -= 1
    if depth > _MAX_DEPTH or budget[0] < 0:
        raise ValueError("a structure that is nested too deeply or too large")
    if isinstance(node, StandIn):
        if node.known_value is None:  # a stream may refer to one object a million times
            node.known_value = node.value(budget, depth + 1)
        return node.known_value
    if isinstance(node, dict):
        return {key: _values(item, budget, depth + 1) for key, item in node.items() if isinstance(key, str | int)}
    if isinstance(node, list | tuple):
        return type(node)(_values(item, budget, depth + 1) for item in node)
    if isinstance(node, type) or callable(node):
        raise ValueError("a function instead of a value")
    return node
