"""Recognising other publishers' files by content."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from flame_files import write_egg

from vultus.cli import run
from vultus.errors import VultusError
from vultus.files import read_tensors
from vultus.heads import load_head
from vultus.workflows.asset_list import ASSETS
from vultus.workflows.assets import convert_asset, find_assets, missing_assets, recognise_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of every kind that is recognised by content, under names that say nothing."""
    root = tmp_path / "stuff"
    write_egg(root / "deep" / "models")
    (root / "deep" / "models" / "generic_model.pkl").rename(root / "deep" / "models" / "a.pkl")
    np.savez(root / "b.npz", tet_verts=np.zeros((4, 3)), tets=np.zeros((1, 4), int))
    np.savez(root / "c.npz", mean_shape=np.zeros((50, 6)), blend_shapes=np.zeros((64, 50, 6)))
    np.savez(
        root / "d.npz", lmk_face_idx=np.zeros(105), lmk_b_coords=np.zeros((105, 3)), landmark_indices=np.zeros(105)
    )
    (root / "e.pkl").write_bytes(pickle.dumps([5, 7, 9]))
    np.save(root / "f.npy", np.zeros((3, 231), np.float32))
    np.save(root / "g.npy", np.zeros((5023, 3)))
    np.save(
        root / "h.npy",
        np.array(
            {"full_lmk_faces_idx": np.zeros((1, 68), int), "full_lmk_bary_coords": np.zeros((1, 68, 3))}, dtype=object
        ),
    )
    bfm = {key: np.zeros((1, 6)) for key in ("meanshape", "idBase", "exBase", "tri", "keypoints")}
    scipy.io.savemat(root / "i.mat", bfm)
    dino = {"cls_token": (1, 1, 768), "pos_embed": (1, 1370, 768), "patch_embed.proj.weight": (768, 3, 14, 14)}
    torch.save({name: torch.zeros(shape) for name, shape in dino.items()}, root / "j.pth")
    torch.save(
        {"model": {"head_base": torch.zeros(5023, 256), "base_model.dino_model.cls_token": torch.zeros(1, 1, 768)}},
        root / "k.pt",
    )
    (root / "l.txt").write_text("1 0.5 2 0.25 3 0.25\n" * 68)
    (root / "unet-superres.pkl").write_bytes(b"never opened")
    (root / "notes.txt").write_text("hello")
    (root / "nersemble" / "calibration").mkdir(parents=True)
    (root / "nersemble" / "calibration" / "camera_params.json").write_text("{}")
    (root / "nersemble" / "sequences").mkdir()
    return root


def test_everything_is_recognised_by_content(folder: Path) -> None:
    found = {item.path.name: item.asset.key for item in find_assets(folder)}
    assert found == {
        "a.pkl": "flame", "b.npz": "tets", "c.npz": "strand-codec", "d.npz": "flame-mediapipe", "e.pkl": "hair-list",
        "f.npy": "ffhq-labels", "g.npy": "flame-eyelids", "h.npy": "flame-landmarks", "i.mat": "bfm", "j.pth": "dinov2",
        "k.pt": "gagavatar", "l.txt": "gnm-landmarks", "unet-superres.pkl": "strand-prior",
        "nersemble": "data-nersemble2",
    }  # fmt: skip
    items = {item.asset.key: item for item in find_assets(folder)}
    assert "FLAME_masks.pkl" in items["flame"].note
    assert len(items["flame"].sha256 or "") == 64
    assert "name only" in items["strand-prior"].note
    missing = {asset.key for asset in missing_assets(list(items.values()))}
    assert {"gnm", "omniavatar"} <= missing
    assert not missing & {"flame", "tets", "builtin", "data-gha"}


def test_shapes_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "FaceXModel").mkdir()
    for name in ("generic_neutral_mesh", "jawOpen", "identity000"):
        (tmp_path / "FaceXModel" / f"{name}.obj").write_text("")
    (item,) = find_assets(tmp_path)
    assert (item.asset.key, item.note) == ("ict", "151 of 153 shapes are missing")


def test_conversion(folder: Path, tmp_path: Path) -> None:
    items = {item.asset.key: item for item in find_assets(folder)}
    head = convert_asset(items["flame"], tmp_path / "out")
    assert head is not None
    assert load_head(head).fingerprint == load_head(items["flame"].path).fingerprint
    network = convert_asset(items["dinov2"], tmp_path / "out")
    assert network is not None
    assert read_tensors(network)["cls_token"].shape == (1, 1, 768)
    scalp = convert_asset(items["hair-list"], tmp_path / "out")
    assert scalp is not None
    assert read_tensors(scalp)["vertices"].tolist() == [5, 7, 9]
    assert convert_asset(items["strand-prior"], tmp_path / "out") is None


class _Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("/tmp/vultus_was_run"),))


@pytest.mark.parametrize("suffix", [".pkl", ".npy", ".pt", ".npz", ".mat", ".txt"])
def test_hostile_and_broken_files_are_nothing(tmp_path: Path, suffix: str) -> None:
    marker = Path("/tmp/vultus_was_run")
    for content in (b"", b"\x00" * 500, pickle.dumps(_Evil()), b"PK\x03\x04" + b"x" * 50):
        (tmp_path / f"x{suffix}").write_bytes(content)
        assert recognise_file(tmp_path / f"x{suffix}") is None
    assert not marker.exists()


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(VultusError, match="not a folder"):
        find_assets(tmp_path / "nothing")
    assert find_assets(tmp_path) == []


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["assets"]) == 0
    text = capsys.readouterr().out
    assert all(asset.title in text and asset.license in text for asset in ASSETS)
    assert run(["assets", str(folder), "--convert", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "14 found; not found:" in text
    assert len(list((tmp_path / "out").iterdir())) == 4
