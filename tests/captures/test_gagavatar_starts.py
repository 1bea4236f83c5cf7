"""`base.pkl` of GAGAvatar's tracker: read, written, refused."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vultus.captures.gagavatar_lmdb import TrackedPictures
from vultus.captures.gagavatar_records import camera_of
from vultus.captures.gagavatar_starts import read_starts, start_rotation, write_starts
from vultus.errors import VultusError
from vultus.heads.builtin import load_builtin


def content(kind=np.asarray) -> dict:
    """As the specification lists it; what it does not say (leading ones, scalars, torch or NumPy) varies."""
    rng = np.random.default_rng(0)

    def some(*shape):
        return kind(rng.standard_normal(shape).astype(np.float32))

    return {
        f"00000{n}_{n}": {
            "emica_results": {
                "shapecode": some(300), "expcode": some(100), "globalpose": 0.3 * some(3), "jawpose": some(1, 3)
            },
            "vgg_results": {
                "shapecode": some(1, 300), "expcode": some(100), "posecode": some(6),
                "transform": {"rotation_6d": some(6), "translation": some(3), "scale": some(1)},
                "normalize": {"padding": [3, 0], "scale": 0.8}, "lmks_2d70": some(70, 2),
            },
            "bbox": some(4),
        }
        for n in range(2)
    }  # fmt: skip


def same(first, second) -> bool:
    for name, value in vars(first).items():
        other = getattr(second, name)
        if not (np.array_equal(value, other) if isinstance(value, np.ndarray) else same(value, other)):
            return False
    return True


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_every_field_comes_back(tmp_path: Path, kind) -> None:
    given = content(kind)
    if kind is np.asarray:
        (tmp_path / "base.pkl").write_bytes(pickle.dumps(given))
    else:
        torch.save(given, tmp_path / "base.pkl")
    starts = read_starts(tmp_path / "base.pkl")
    write_starts(tmp_path / "again.pkl", starts)
    again = read_starts(tmp_path / "again.pkl")
    assert list(starts) == list(again) == ["000000_0", "000001_1"]
    written = pickle.loads((tmp_path / "again.pkl").read_bytes())
    for key, start in starts.items():
        assert same(start, again[key])
        assert set(written[key]) == set(given[key])
        assert set(written[key]["vgg_results"]) == set(given[key]["vgg_results"])
        assert start.vgg.lmks_2d70.shape == (70, 2)
        assert start.vgg.padding.tolist() == [3, 0]
        np.testing.assert_array_equal(start.emica.jawpose, np.asarray(given[key]["emica_results"]["jawpose"])[0])
        np.testing.assert_array_equal(
            start.vgg.translation, np.asarray(given[key]["vgg_results"]["transform"]["translation"])
        )


def test_the_first_rotation_shows_the_head_as_it_is_turned(tmp_path: Path) -> None:
    """EMICA's rotation turns the head before a camera; the tracker's turns the camera around the head."""
    (tmp_path / "base.pkl").write_bytes(pickle.dumps(content()))
    head = load_builtin()
    for start in read_starts(tmp_path / "base.pkl").values():
        far = torch.tensor([[0.0], [0.0], [9.0]])
        around = camera_of(torch.cat([start_rotation(start), far], 1), 512)
        facing = replace(start, emica=replace(start.emica, globalpose=np.zeros(3, np.float32)))
        before = camera_of(torch.cat([start_rotation(facing), far], 1), 512)
        turned = torch.linalg.matrix_exp(torch.tensor(skew(start.emica.globalpose)))
        wanted = before.project(head.template @ turned.T)
        torch.testing.assert_close(around.project(head.template), wanted, atol=0.02, rtol=0)
        # Unturned, the face looks into the camera, upright.
        places = before.project(head.landmarks(head.template, "ibug68"))
        assert places[36, 0] < places[45, 0]
        assert places[27, 1] < places[8, 1]


def skew(v: np.ndarray) -> np.ndarray:
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]], np.float32)


class _Evil:
    def __reduce__(self):
        return print, ("run",)


def test_malformed_files_are_named(tmp_path: Path, capsys) -> None:
    path = tmp_path / "base.pkl"
    for change, message in (
        (lambda r: r.pop("emica_results"), "emica_results"),
        (lambda r: r.update(vgg_results=3), "vgg_results"),
        (lambda r: r["vgg_results"].pop("transform"), "transform"),
        (lambda r: r["vgg_results"]["normalize"].pop("scale"), "scale"),
        (lambda r: r["vgg_results"].update(lmks_2d70=np.zeros((68, 2))), "lmks_2d70"),
        (lambda r: r["emica_results"].update(shapecode=np.full(300, np.nan)), "finite"),
        (lambda r: r["emica_results"].update(expcode="many"), "expcode"),
        (lambda r: r.update(bbox=[1, 2, 3]), "bbox"),
    ):
        changed = copy.deepcopy(content())
        change(changed["000001_1"])
        path.write_bytes(pickle.dumps(changed))
        with pytest.raises(VultusError, match=rf"base\.pkl.*000001_1.*{message}"):
            read_starts(path)
    for wrong in ({}, [1], {3: {}}, {"a": 3}):
        path.write_bytes(pickle.dumps(wrong))
        with pytest.raises(VultusError, match=r"base\.pkl"):
            read_starts(path)
    whole = pickle.dumps(content())
    for cut in (0, 1, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(VultusError, match=r"base\.pkl"):
            read_starts(path)
    path.write_bytes(pickle.dumps({"a": _Evil()}))
    with pytest.raises(VultusError, match="malicious"):
        read_starts(path)
    assert "run" not in capsys.readouterr().out


def test_a_folder_that_was_tracked_halfway_says_so(tmp_path: Path) -> None:
    (tmp_path / "img_lmdb").mkdir()
    (tmp_path / "base.pkl").write_bytes(pickle.dumps(content()))
    with pytest.raises(VultusError, match=r"base\.pkl.*started from"):
        TrackedPictures(tmp_path, load_builtin())
