"""Pickled arrays of strangers, read by an interpreter that can build nothing else.

The bodies of head models are distributed as Python pickles. This reader never imports what a stream names: the few
names that such files need stand for inert classes of our own, which keep their state until `to_values` turns them into
NumPy arrays, checking every size on the way. Any other name is refused before anything of it runs.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vultus.errors import VultusError
from vultus.files.arrays import read_npy_header
from vultus.files.pickled_values import (
    MAX_BYTES,
    Array,
    ArrayFromBuffer,
    AtleastNd,
    Ch,
    DType,
    Reshape,
    ScipyCsc,
    Select,
    StandIn,
    Transpose,
    checked_shape,
    from_bytes,
    to_values,
)
from vultus.files.torch_archives import TorchArchive, is_torch_archive

_TORCH_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
# fmt: off
_ALLOWED_OPCODES = (
    pickle.PROTO, pickle.STOP, pickle.FRAME, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.DUP, pickle.NONE,
    pickle.NEWTRUE, pickle.NEWFALSE, pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG,
    pickle.LONG1, pickle.LONG4, pickle.FLOAT, pickle.BINFLOAT, pickle.STRING, pickle.BINSTRING,
    pickle.SHORT_BINSTRING, pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8,
    pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8, pickle.BYTEARRAY8, pickle.EMPTY_DICT, pickle.DICT,
    pickle.EMPTY_LIST, pickle.LIST, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
    pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.APPEND, pickle.APPENDS, pickle.SETITEM,
    pickle.SETITEMS, pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT,
    pickle.MEMOIZE, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.NEWOBJ,
    pickle.BINPERSID,
)
# fmt: on


def read_pickle(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """The content of a pickle file: dicts, lists, text, numbers and NumPy arrays.

    chumpy arrays, SciPy csc matrices (made dense) and torch tensors become NumPy arrays. What `torch.save` wrote is
    read as well; `read_checkpoint_tensors` is for networks, whose tensors need not be in memory all at once.

    Raises:
        VultusError: missing, malformed, too large, or naming anything but arrays; the message says what.
    """
    content, name = _content(path, max_bytes), str(path)
    if not is_torch_archive(content):
        return unpickle(content, name)
    archive = TorchArchive(content, name)
    return unpickle(archive.pickle, name, archive)


def read_object_npy(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """The pickled object inside an .npy file of dtype object, or its plain array. Raises like `read_pickle`."""
    return parse_object_npy(_content(path, max_bytes), str(path))


def parse_object_npy(content: bytes, name: str) -> Any:
    """Like `read_object_npy`, from the bytes of the file; `name` is for messages."""
    shape, column_major, dtype, start = read_npy_header(content, name)
    if dtype.hasobject:
        return unpickle(content[start:], name)
    count = math.prod(shape)
    if dtype.kind not in "biufcUS" or len(content) - start != count * dtype.itemsize:
        raise VultusError(f"{name}: is damaged or holds no plain array")
    return np.frombuffer(content, dtype, count, start).reshape(shape, order="F" if column_major else "C").copy()


def unpickle(content: bytes, name: str, archive: TorchArchive | None = None) -> Any:
    """The object in the bytes of a pickle; `name` is for messages, `archive` has the numbers of its tensors.

    Raises:
        VultusError: like `read_pickle`.
    """
    names = _NAMES if archive is None else {**_NAMES, **_STORAGE_NAMES}
    try:
        return to_values(_Unpickler(io.BytesIO(content), name, names, archive).load())
    except VultusError:
        raise
    except Exception as error:  # a hostile stream can make the interpreter stumble in any way
        detail = str(error).split("\n")[0][:120]
        raise VultusError(f"{name}: is not a readable pickle: {type(error).__name__}: {detail}") from error


def _content(path: str | Path, max_bytes: int) -> bytes:
    try:
        size = Path(path).stat().st_size
        if size > max_bytes:
            raise VultusError(f"{path}: {size} bytes is more than the limit of {max_bytes}")
        return Path(path).read_bytes()
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error


class _TorchStorage(StandIn):
    """The raw values of a torch tensor."""

    def __init__(self, content: Any) -> None:
        self.values = _torch_storage(content)

    @classmethod
    def of(cls, values: np.ndarray) -> _TorchStorage:
        """A storage whose values are known."""
        made = cls.__new__(cls)
        made.values = values
        return made


class _TorchTensor(StandIn):
    """`torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)`."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        if not isinstance(storage, _TorchStorage):
            raise ValueError("a tensor without storage")
        size, stride, (offset,) = checked_shape(size), checked_shape(stride), checked_shape((offset,))
        reach = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
        if math.prod(size) > len(storage.values) or (math.prod(size) and reach > len(storage.values)):
            raise ValueError("a tensor larger than its storage")
        itemsize = storage.values.itemsize
        strides = [step * itemsize for step in stride]
        self.array = np.lib.stride_tricks.as_strided(storage.values[offset:], size, strides, writeable=False)

    def value(self, budget: list[int], depth: int) -> np.ndarray:
        return self.array


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    if kind is not Array:
        raise ValueError("a subclass of numpy.ndarray")
    return Array()


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, DType):
        raise ValueError("a scalar without dtype")
    return from_bytes(data, dtype.dtype(), (), False)[()].item()


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unexpected encoding")
    return text.encode("latin1")


def _rebuild_old_object(kind: Any, base: Any, state: Any) -> Any:
    """`copy_reg._reconstructor`, as protocols 0 and 1 write objects."""
    if not isinstance(kind, type) or not issubclass(kind, StandIn) or base is not object:
        raise ValueError("an object of an unexpected class")
    return kind.__new__(kind)


def _no_bytes() -> bytes:
    """How Python 3 writes empty bytes for Python 2."""
    return b""


def _make_set(items: Any = ()) -> set:
    return set(items)


def _make_dict(items: Any = ()) -> dict:
    return dict(items)


_CLASSES = {
    "numpy ndarray": Array,
    "scipy.sparse.csc csc_matrix": ScipyCsc,
    "scipy.sparse._csc csc_matrix": ScipyCsc,
    "chumpy.ch Ch": Ch,
    "chumpy.reordering Select": Select,
    "chumpy.reordering Reshape": Reshape,
    "chumpy.reordering transpose": Transpose,
    "chumpy.reordering AtleastNd": AtleastNd,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "numpy dtype": lambda code, *_: DType(code),
    "_codecs encode": _encode,
    "copy_reg _reconstructor": _rebuild_old_object,
    "copyreg _reconstructor": _rebuild_old_object,
    "__builtin__ bytes": _no_bytes,
    "__builtin__ set": _make_set,
    "builtins set": _make_set,
    "collections OrderedDict": _make_dict,
    "torch._utils _rebuild_tensor_v2": _TorchTensor,
    "torch.storage _load_from_bytes": _TorchStorage,
    **{f"numpy.{core}.multiarray _reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": ArrayFromBuffer for core in ("core", "_core")},
}
_NAMES: dict[str, Any] = {**_CLASSES, **_CALLS, "__builtin__ object": object, "builtins object": object}


class _Unpickler(pickle._Unpickler):
    """Python's own pickle interpreter without the parts that could run or import anything.

    The interpreter written in Python is used because its memo is a dictionary: the one written in C allocates as much
    memory as a stream asks for.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        opcode[0]: pickle._Unpickler.dispatch[opcode[0]] for opcode in _ALLOWED_OPCODES
    }

    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]

    def __init__(
        self,
        stream: io.BytesIO,
        name: str,
        names: dict[str, Any] = _NAMES,
        archive: TorchArchive | None = None,
    ) -> None:
        super().__init__(stream, encoding="latin1")
        self._name, self._names, self._archive = name, names, archive
        self._storages: dict[str, _TorchStorage] = {}

    def load(self) -> Any:
        try:
            return super().load()
        except KeyError as error:
            raise ValueError(f"the unexpected instruction {error}") from error

    def find_class(self, module: str, name: str) -> Any:
        found = self._names.get(f"{module} {name}")
        if found is None:
            raise VultusError(
                f"{self._name}: asks for {module}.{name}, which has no place in a file of arrays and may be malicious. "
                "It was not run. Get the file from its publisher"
            )
        return found

    def persistent_load(self, pid: Any) -> Any:
        if self._archive is not None:
            return self._archived(self._archive, pid)
        if self._names is not _STORAGE_NAMES:
            raise ValueError("a reference to another part of the file, as torch.save writes tensors")
        return pid

    def _archived(self, archive: TorchArchive, pid: Any) -> _TorchStorage:
        """The storage that `("storage", type, key, device, count)` names."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError("a reference to something that is no tensor")
        _, code, key, _, count = pid[:5]
        if code not in _TORCH_STORAGES.values() or not isinstance(key, str) or not key.isalnum():
            raise ValueError("a tensor of an unexpected type")
        if key not in self._storages:
            dtype, content = np.dtype(code), archive.storage(key)
            if not isinstance(count, int) or len(content) != count * dtype.itemsize:
                raise ValueError("a tensor of another size than announced")
            self._storages[key] = _TorchStorage.of(np.frombuffer(content, dtype))
        storage = self._storages[key]
        if storage.values.dtype != np.dtype(code):
            raise ValueError("one storage of two types")
        return storage

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if not isinstance(arguments, tuple) or not any(function is call for call in _CALLS.values()):
            raise ValueError("a call of something that is not a function")
        self.stack[-1] = function(*arguments)

    def load_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack[-1]
        if arguments != () or not any(kind is known for known in _CLASSES.values()):
            raise ValueError("an object of an unexpected class")
        self.stack[-1] = kind.__new__(kind)

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], StandIn):
            raise ValueError("a state for something that has none")
        self.stack[-1].__setstate__(state)

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        if size > MAX_BYTES:
            raise ValueError("more bytes than there are")
        self.append(bytes(self.read(size)))

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


_STORAGE_NAMES: dict[str, Any] = {f"torch {name}": code for name, code in _TORCH_STORAGES.items()}


def _torch_storage(content: Any) -> np.ndarray:
    """The values in a torch storage saved in the format before torch 1.6: five pickles, then the raw numbers."""
    if not isinstance(content, bytes):
        raise ValueError("a tensor without bytes")
    stream = io.BytesIO(content)
    parts = [_Unpickler(stream, "a torch tensor", _STORAGE_NAMES).load() for _ in range(5)]
    magic, protocol, system, reference, keys = parts
    if magic != _TORCH_MAGIC or protocol != 1001 or not isinstance(system, dict) or not isinstance(keys, list):
        raise ValueError("a tensor in an unknown format")
    if system.get("little_endian") is not True or len(keys) != 1:
        raise ValueError("a tensor with foreign byte order or several storages")
    if not isinstance(reference, tuple) or len(reference) < 2 or reference[1] not in _TORCH_STORAGES.values():
        raise ValueError("a tensor of an unexpected type")
    dtype = np.dtype(reference[1])
    start = stream.tell() + 8
    (count,) = struct.unpack_from("<q", content, start - 8)
    if count < 0 or count * dtype.itemsize != len(content) - start:
        raise ValueError("a tensor of another size than announced")
    return np.frombuffer(content, dtype, count, start)
