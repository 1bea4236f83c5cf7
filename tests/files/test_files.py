"""Files that survive crashes and strangers: atomic writing, bounded reading, paths that stay inside."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vultus.errors import VultusError
from vultus.files import (
    atomic_folder,
    atomic_path,
    read_json,
    read_npy,
    read_npz,
    read_tensors,
    safe_path,
    sha256_of,
    write_json,
    write_npz,
    write_tensors,
)

in_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


class TestAtomic:
    def test_failure_keeps_the_old_file_and_leaves_nothing_else(self, tmp_path: Path) -> None:
        target = tmp_path / "a.txt"
        target.write_text("old")
        with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
            assert temporary.write_text("half") / 0
        assert target.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    def test_success_replaces(self, tmp_path: Path) -> None:
        target = tmp_path / "new" / "a.txt"
        with atomic_path(target) as temporary:
            assert temporary.suffix == ".txt"
            assert temporary.parent == target.parent
            temporary.write_text("new")
            assert not target.exists()
        assert target.read_text() == "new"
        assert names(target.parent) == ["a.txt"]

    def test_full_disk_is_the_users_to_mend(self, tmp_path: Path) -> None:
        with pytest.raises(VultusError, match=r"a\.txt.*No space left"), atomic_path(tmp_path / "a.txt"):
            raise OSError(28, os.strerror(28))
        assert names(tmp_path) == []

    def test_parent_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(VultusError, match="cannot be written"):
            write_json(tmp_path / "file" / "x.json", 1)

    def test_folder_is_replaced_whole_or_not_at_all(self, tmp_path: Path) -> None:
        target = tmp_path / "avatar"
        for text in ("one", "two"):
            with atomic_folder(target) as temporary:
                (temporary / f"{text}.txt").write_text(text)
            assert names(target) == [f"{text}.txt"]
        with pytest.raises(ZeroDivisionError), atomic_folder(target) as temporary:
            assert (temporary / "three.txt").write_text("three") / 0
        assert names(target) == ["two.txt"]
        assert names(tmp_path) == ["avatar"]

    def test_a_folder_never_replaces_a_file_or_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "letter").write_text("mine")
        with pytest.raises(VultusError, match="letter: is a file"), atomic_folder(tmp_path / "letter"):
            pass
        assert (tmp_path / "letter").read_text() == "mine"
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        with atomic_folder(tmp_path / "link") as temporary:
            (temporary / "x").write_text("")
        assert (tmp_path / "link").is_symlink()
        assert names(tmp_path / "real") == ["x"]
        assert names(tmp_path) == ["letter", "link", "real"]

    def test_who_owns_a_folder_is_asked_before_and_after(self, tmp_path: Path) -> None:
        def keep(folder: Path) -> None:
            if any(folder.iterdir()):
                raise VultusError(f"{folder}: stays")

        target = tmp_path / "target"
        with atomic_folder(target, keep) as temporary:
            (temporary / "x").write_text("")
        with pytest.raises(VultusError, match="stays"), atomic_folder(target, keep):
            pytest.fail("nothing is done for a folder that stays")
        late = atomic_folder(tmp_path / "late", keep)
        late.__enter__()
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "theirs").write_text("")
        with pytest.raises(VultusError, match="stays"):
            late.__exit__(None, None, None)
        assert names(tmp_path) == ["late", "target"]
        assert names(tmp_path / "late") == ["theirs"]


class TestArrays:
    @in_tmp_path
    @given(
        array=hnp.arrays(
            st.one_of(
                hnp.floating_dtypes(), hnp.integer_dtypes(), hnp.boolean_dtypes(), hnp.unicode_string_dtypes(max_len=4)
            ),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        column_major=st.booleans(),
    )
    def test_round_trip(self, tmp_path: Path, array: np.ndarray, column_major: bool) -> None:
        array = np.asfortranarray(array) if column_major else array
        write_npz(tmp_path / "a.npz", first=array, second=np.arange(3))
        back = read_npz(tmp_path / "a.npz")
        assert set(back) == {"first", "second"}
        assert back["first"].dtype == array.dtype
        np.testing.assert_array_equal(back["first"], array)
        with np.load(tmp_path / "a.npz", allow_pickle=False) as other:
            np.testing.assert_array_equal(other["first"], array)

    def test_same_content_same_bytes(self, tmp_path: Path) -> None:
        write_npz(tmp_path / "a.npz", x=np.arange(5), y=np.ones(2))
        write_npz(tmp_path / "b.npz", y=np.ones(2), x=np.arange(5))
        assert sha256_of(tmp_path / "a.npz") == sha256_of(tmp_path / "b.npz")

    def test_reads_what_numpy_writes(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.arange(6.0).reshape(2, 3).T)
        np.save(tmp_path / "a.npy", np.arange(6.0).reshape(2, 3).T)
        np.testing.assert_array_equal(read_npz(tmp_path / "a.npz")["x"], np.arange(6.0).reshape(2, 3).T)
        np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), np.arange(6.0).reshape(2, 3).T)

    def test_pickled_objects_are_refused_unopened(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple:
                return Path.touch, (tmp_path / "exploded",)

        array = np.empty(1, object)
        array[0] = Bomb()
        np.savez(tmp_path / "a.npz", x=array)
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(VultusError, match="object"):
            read_npz(tmp_path / "a.npz")
        with pytest.raises(VultusError, match="object"):
            read_npy(tmp_path / "a.npy")
        (tmp_path / "raw.npz").write_bytes(pickle.dumps(array))
        with pytest.raises(VultusError):
            read_npz(tmp_path / "raw.npz")
        assert not (tmp_path / "exploded").exists()

    def test_a_shape_larger_than_the_data_allocates_nothing(self, tmp_path: Path) -> None:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
        header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
        member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 16
        (tmp_path / "a.npy").write_bytes(member)
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x.npy", member)
        with pytest.raises(VultusError, match="announces"):
            read_npy(tmp_path / "a.npy")
        with pytest.raises(VultusError, match="announces"):
            read_npz(tmp_path / "a.npz")

    def test_zip_bomb(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            content = io.BytesIO()
            np.save(content, np.zeros(1 << 20, np.uint8))
            for index in range(4):
                archive.writestr(f"{index}.npy", content.getvalue())
        with pytest.raises(VultusError, match="limit"):
            read_npz(tmp_path / "a.npz", max_bytes=3 << 20)
        assert len(read_npz(tmp_path / "a.npz", max_bytes=5 << 20)) == 4

    @in_tmp_path
    @given(data=st.data())
    def test_damage_is_an_error_of_ours_or_harmless(self, tmp_path: Path, data: st.DataObject) -> None:
        write_npz(tmp_path / "a.npz", x=np.arange(40.0), names=np.array(["a", "b"]))
        content = bytearray((tmp_path / "a.npz").read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (tmp_path / "b.npz").write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            arrays = read_npz(tmp_path / "b.npz")
        except VultusError:
            pass
        else:
            assert all(isinstance(array, np.ndarray) for array in arrays.values())

    @in_tmp_path
    @given(content=st.binary(max_size=300))
    def test_random_bytes(self, tmp_path: Path, content: bytes) -> None:
        for name, read in (("a.npy", read_npy), ("a.npz", read_npz), ("a.safetensors", read_tensors)):
            (tmp_path / name).write_bytes((b"\x93NUMPY" if name == "a.npy" else b"") + content)
            with pytest.raises(VultusError, match=name):
                read(tmp_path / name)

    def test_missing(self, tmp_path: Path) -> None:
        for read in (read_npz, read_npy, read_tensors, read_json, sha256_of):
            with pytest.raises(VultusError, match="none"):
                read(tmp_path / "none")


class TestTensors:
    def test_round_trip_with_shared_memory(self, tmp_path: Path) -> None:
        matrix = torch.arange(6.0).reshape(2, 3).requires_grad_()
        write_tensors(tmp_path / "a.safetensors", {"m": matrix, "t": matrix.T, "i": torch.tensor(3)})
        back = read_tensors(tmp_path / "a.safetensors")
        torch.testing.assert_close(back["t"], matrix.detach().T)
        assert back["i"].dtype == torch.int64

    def test_cut_off(self, tmp_path: Path) -> None:
        write_tensors(tmp_path / "a.safetensors", {"m": torch.ones(100)})
        content = (tmp_path / "a.safetensors").read_bytes()
        for end in (0, 4, 20, len(content) - 1):
            (tmp_path / "b.safetensors").write_bytes(content[:end])
            with pytest.raises(VultusError, match=r"b\.safetensors"):
                read_tensors(tmp_path / "b.safetensors")


class TestJson:
    json_values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    )

    @in_tmp_path
    @given(value=json_values)
    def test_round_trip(self, tmp_path: Path, value: object) -> None:
        try:
            write_json(tmp_path / "a.json", value)
        except UnicodeEncodeError:  # lone surrogates have no UTF-8
            return
        assert read_json(tmp_path / "a.json") == value

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b"[Infinity]", b"[" * 100_000, b"1" * 10_000, b'{"a": 1} x'],
    )
    def test_malformed(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(VultusError, match=r"a\.json"):
            read_json(tmp_path / "a.json")

    def test_nan_is_not_written(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "a.json", {"x": float("nan")})
        assert names(tmp_path) == []


class TestSafePath:
    @pytest.mark.parametrize(
        "relative",
        ["../x", "a/../../x", "/etc/passwd", "C:\\x", "\\\\server\\x", "..\\x", "a/b/../../../x", "", "a\0b", 7, None],
    )
    def test_refused(self, tmp_path: Path, relative: object) -> None:
        with pytest.raises(VultusError, match=r"names\.json"):
            safe_path(tmp_path, relative, source="names.json")

    def test_links_do_not_lead_out(self, tmp_path: Path) -> None:
        (tmp_path / "inside").mkdir()
        (tmp_path / "inside" / "link").symlink_to(tmp_path)
        with pytest.raises(VultusError, match="leads out"):
            safe_path(tmp_path / "inside", "link/secret")

    @given(parts=st.lists(st.sampled_from(["a", "b", ".", "..", "c.png"]), min_size=1, max_size=8))
    def test_inside_or_refused(self, parts: list[str]) -> None:
        root = Path("/nowhere/root")
        depth, out = 0, False
        for part in parts:
            depth += {".": 0, "..": -1}.get(part, 1)
            out |= depth < 0
        try:
            path = safe_path(root, "/".join(parts))
        except VultusError:
            assert out
        else:
            assert path == root or root in path.parents
