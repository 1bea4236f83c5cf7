"""The reader of pickled arrays: it agrees with Python's on honest streams and runs nothing of dishonest ones."""

import collections
import contextlib
import io
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vultus.errors import VultusError
from vultus.files import read_object_npy, read_pickle
from vultus.files.pickles import parse_object_npy, unpickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@settings(max_examples=80, deadline=None)
@given(
    array=hnp.arrays(
        st.one_of(
            hnp.floating_dtypes(endianness="?"),
            hnp.integer_dtypes(endianness="?"),
            hnp.unsigned_integer_dtypes(endianness="?"),
            hnp.boolean_dtypes(),
            hnp.unicode_string_dtypes(max_len=3),
        ),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    column_major=st.booleans(),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_numpy_arrays(array: np.ndarray, column_major: bool, protocol: int) -> None:
    array = np.asfortranarray(array) if column_major else array
    back = unpickle(pickle.dumps({"a": [array, 3], "b": (array,)}, protocol), "x")
    for value in (back["a"][0], back["b"][0]):
        assert value.dtype == array.dtype
        np.testing.assert_array_equal(value, array)
    assert back["a"][1] == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_scalars_and_sparse_matrices(protocol: int) -> None:
    matrix = scipy.sparse.random(5, 40, density=0.2, format="csc", random_state=np.random.default_rng(1))
    content = {
        "J": matrix,
        "words": ["a", "ü", b"\x80".decode("latin1")],
        "number": np.float64(2.5),
        "nested": collections.OrderedDict(x=[1, 2.5, None, True]),
        "set": {1, 2},
    }
    back = unpickle(pickle.dumps(content, protocol), "x")
    np.testing.assert_array_equal(back["J"], matrix.toarray())
    assert back["words"] == content["words"]
    assert back["number"] == 2.5
    assert back["nested"] == {"x": [1, 2.5, None, True]}
    assert back["set"] == {1, 2}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool])
def test_torch_tensors(protocol: int, dtype: torch.dtype) -> None:
    whole = (torch.arange(24).reshape(4, 6) % 5).to(dtype)
    tensors = {"whole": whole, "strided": whole[1:, ::2].T, "scalar": whole[2, 3], "empty": whole[:0]}
    back = unpickle(pickle.dumps(tensors, protocol), "x")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor.numpy(), strict=True)


def test_object_array_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array({"x": np.arange(3), "rows": [np.ones(2), np.zeros(2)]}, dtype=object))
    back = read_object_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(back["x"], np.arange(3))
    np.testing.assert_array_equal(back["rows"][1], np.zeros(2))
    np.save(tmp_path / "b.npy", np.arange(6.0).reshape(2, 3).T)
    np.testing.assert_array_equal(read_object_npy(tmp_path / "b.npy"), np.arange(6.0).reshape(2, 3).T)


class Chumpy:
    """Makes streams that name chumpy's classes, without chumpy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module, names in {
            "chumpy.ch": ["Ch"],
            "chumpy.reordering": ["Select", "Reshape", "transpose", "AtleastNd"],
            "chumpy.ch_ops": ["add"],
        }.items():
            home = types.ModuleType(module)
            monkeypatch.setitem(sys.modules, module, home)
            for name in names:
                setattr(home, name, type(name, (), {"__module__": module}))
        monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))

    def __call__(self, module: str, name: str, **state: Any) -> Any:
        node = object.__new__(getattr(sys.modules[f"chumpy.{module}"], name))
        node.__dict__.update(state)
        return node


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> Chumpy:
    return Chumpy(monkeypatch)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_chumpy_nodes(chumpy: Chumpy, protocol: int) -> None:
    values = np.arange(12.0).reshape(3, 4)
    leaf = chumpy("ch", "Ch", x=values, _dirty_vars={"x"}, _itr=None)
    picked = chumpy("reordering", "Select", a=leaf, idxs=np.array([3, 0, 7, 11]), preferred_shape=(2, 2))
    content = {
        "leaf": leaf,
        "picked": picked,
        "flat": chumpy("reordering", "Select", a=picked, idxs=np.array([1])),
        "shaped": chumpy("reordering", "Reshape", a=leaf, newshape=(4, 3)),
        "turned": chumpy("reordering", "transpose", a=leaf, axes=None),
        "deeper": chumpy("reordering", "AtleastNd", x=leaf, ndims=3),
    }
    back = unpickle(pickle.dumps(content, protocol), "x")
    np.testing.assert_array_equal(back["leaf"], values)
    np.testing.assert_array_equal(back["picked"], [[3, 0], [7, 11]])
    np.testing.assert_array_equal(back["flat"], [0])
    np.testing.assert_array_equal(back["shaped"], values.reshape(4, 3))
    np.testing.assert_array_equal(back["turned"], values.T)
    assert back["deeper"].shape == (3, 4, 1)


def test_chumpy_nodes_that_lie(chumpy: Chumpy) -> None:
    leaf = chumpy("ch", "Ch", x=np.arange(3.0))
    for node in (
        chumpy("reordering", "Select", a=leaf, idxs=np.array([3])),
        chumpy("reordering", "Select", a=leaf, idxs=np.array([-4])),
        chumpy("reordering", "Select", a=leaf, idxs=np.array([0.5])),
        chumpy("reordering", "Reshape", a=leaf, newshape=(2, 2)),
        chumpy("reordering", "Select", a=3, idxs=np.array([0])),
        chumpy("ch", "Ch"),
    ):
        with pytest.raises(VultusError, match=r"evil\.pkl"):
            unpickle(pickle.dumps(node, 2), "evil.pkl")
    endless = chumpy("reordering", "Reshape", newshape=(3,))
    endless.a = endless
    with pytest.raises(VultusError, match="nested"):
        unpickle(pickle.dumps(endless, 2), "evil.pkl")
    with pytest.raises(VultusError, match=r"asks for chumpy\.ch_ops\.add"):
        unpickle(pickle.dumps(chumpy("ch_ops", "add", a=leaf), 2), "evil.pkl")


CALLS = [
    b"cposix\nsystem\n(S'touch %s'\ntR.",
    b"\x80\x02cos\nsystem\nX%c\x00\x00\x00touch %s\x85R.",
    b'cbuiltins\neval\n(S\'open("%s", "w")\'\ntR.',
    b"c__builtin__\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
    b"(S'touch %s'\nios\nsystem\n.",
    b"(cos\nsystem\nS'touch %s'\no.",
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c%ctouch %s\x85R.",
    b"cnumpy.core.multiarray\n_reconstruct\n}X\x0c\x00\x00\x00__defaults__N\x73b.",
    b"\x80\x02cnumpy\nndarray\n}X\x0c\x00\x00\x00__setstate__N\x73b.",
    b"\x80\x02\x82\x01.",
    b"Psomething\n.",
    b"\x80\x05\x97.",
    b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    b"\x80\x02r\xff\xff\xff\x7f.",
    b"\x80\x02N}r\xff\xff\xff\x7f0.",
    b"\x80\x02X\xff\xff\xff\x7fabc.",
    b"\x8a\x04abcd",
    b"cbuiltins\nset\n.",
    b"cnumpy\nndarray\n.",
    b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    b"\x80\x02cnumpy\ndtype\nX\x08\x00\x00\x00f8,O,V99\x85R.",
    b"\x80\x02cnumpy\ndtype\nX\x07\x00\x00\x00S999999\x85R.",
    b"",
]


@pytest.mark.parametrize("stream", CALLS)
def test_nothing_runs(tmp_path: Path, stream: bytes) -> None:
    canary = str(tmp_path / "ran").encode()
    stream = stream.replace(b"%s", canary).replace(b"%c", bytes([len(canary) + 6]))
    (tmp_path / "evil.pkl").write_bytes(stream)
    before = sys.modules.keys() | set()
    try:
        value = read_pickle(tmp_path / "evil.pkl")
    except VultusError as error:
        assert "evil.pkl" in str(error)  # noqa: PT017
    else:
        assert value is None or isinstance(value, dict)
    assert not (tmp_path / "ran").exists()
    assert sys.modules.keys() - before == set()


def test_sizes_are_checked_before_memory_is_taken() -> None:
    array = pickle.dumps(np.arange(4.0), 2)
    huge = array.replace(b"K\x04\x85", b"\x8a\x06\xff\xff\xff\xff\xff\x00\x85")
    assert huge != array
    with pytest.raises(VultusError, match=r"impossible shape|bytes"):
        unpickle(huge, "evil.pkl")
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    for change in (
        {"_shape": (10**9, 10**9)},
        {"indices": np.array([0, 1, 99], np.int32)},
        {"indices": np.array([0, 1, -1], np.int32)},
        {"indptr": np.array([0, 5, 3, 3], np.uint32)},
        {"indptr": np.array([0, 3], np.int32)},
    ):
        damaged = scipy.sparse.csc_matrix(np.eye(3))
        damaged.__dict__.update(matrix.__dict__ | change)
        with pytest.raises(VultusError, match="sparse"):
            unpickle(pickle.dumps(damaged, 2), "evil.pkl")
    shared = np.zeros(1000)
    laughs: list[Any] = [shared]
    for _ in range(30):
        laughs = [laughs] * 10
    with pytest.raises(VultusError, match="too large"):
        unpickle(pickle.dumps(laughs, 2), "evil.pkl")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_streams(data: st.DataObject) -> None:
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    content = {"a": np.arange(6.0).reshape(2, 3), "J": matrix, "t": torch.arange(3), "s": ["x", {1}]}
    stream = bytearray(pickle.dumps(content, data.draw(st.sampled_from([0, 2, 4, 5]))))
    for _ in range(data.draw(st.integers(1, 5))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(VultusError):
        unpickle(bytes(stream[: data.draw(st.integers(0, len(stream)))]), "x")


def test_damaged_object_arrays() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array({"x": 1}, dtype=object))
    for end in range(0, len(stream.getvalue()), 7):
        with pytest.raises(VultusError, match="x"):
            parse_object_npy(stream.getvalue()[:end], "x")
