"""One-shot training data on disk: records say what cameras and parameters said, and hostile folders are refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vultus.cameras import Camera, look_at
from vultus.captures.gagavatar_lmdb import TrackedPictures, encode_picture, video_of, write_tracked
from vultus.captures.gagavatar_records import FOCAL, camera_of, head_box, record_of
from vultus.errors import VultusError
from vultus.files.lmdb_writing import write_lmdb
from vultus.heads.load import load_head
from vultus.motion import HeadParams

SIZE = 64


def posed(seed: int) -> tuple[HeadParams, Camera]:
    head = load_head()
    generator = torch.Generator().manual_seed(seed)
    neutral = head.neutral()
    joints = {name: 0.2 * torch.randn(3, generator=generator) for name in head.joint_names}
    params = replace(
        neutral,
        identity=torch.randn(neutral.identity.shape, generator=generator),
        expression=torch.rand(neutral.expression.shape, generator=generator),
        joints=joints,
        translation=0.05 * torch.randn(3, generator=generator),
    )
    eye = torch.tensor([0.2, 0.1, 1.8]) + 0.1 * torch.randn(3, generator=generator)
    camera = Camera.from_focal(FOCAL * SIZE / 2, SIZE, SIZE, look_at(eye, torch.tensor([0.0, -0.02, 0.0])))
    return params, camera


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    head = load_head()
    generator = torch.Generator().manual_seed(0)
    frames = []
    # Not in order, and numbered with gaps.
    for key in ("000002_10", "000002_9", "000001_0", "000001_7"):
        params, camera = posed(int(key[-1]))
        picture = torch.rand(SIZE, SIZE, 3, generator=generator)
        box = head_box(torch.tensor([[8.0, 4.0], [40.0, 90.0]]), SIZE)
        frames.append((key, encode_picture(picture), record_of(head, params, camera, box)))
    assert write_tracked(tmp_path / "data", frames, head, {"train": ["000001_0", "000001_7"], "val": []}) == 4
    return tmp_path / "data"


def test_frames_come_back_by_video_and_time(folder: Path) -> None:
    pictures = TrackedPictures(folder)
    assert pictures.keys == ("000001_0", "000001_7", "000002_9", "000002_10")
    assert pictures.clips == [[0, 1], [2, 3]]
    assert TrackedPictures(folder, split="train").keys == ("000001_0", "000001_7")
    frame = pictures.frame(0)
    assert frame.picture.shape == (SIZE, SIZE, 3)
    assert torch.allclose(frame.box, torch.tensor([8 / 64, 4 / 64, 40 / 64, 1.0]))


@pytest.mark.parametrize("seed", range(4))
def test_a_record_puts_the_same_vertices_on_the_same_pixels(folder: Path, seed: int) -> None:
    head = load_head()
    params, camera = posed(seed)
    record = record_of(head, params, camera, np.zeros(4))
    # The skull and what hangs on it; the neck's own bend is not in the record.
    skull = head.weights[:, [name != "root" for name in head.joint_names]].sum(1) > 0.999
    seen = camera.project(head.pose(params).vertices[skull])
    joints = {name: turn for name, turn in params.joints.items() if name not in ("root", "neck")}
    rest = replace(params, joints=joints, translation=torch.zeros(3))
    again = camera_of(torch.from_numpy(record.transform_matrix), SIZE).project(head.pose(rest).vertices[skull])
    assert torch.allclose(seen, again, atol=2e-3)


def test_parameters_come_back(folder: Path) -> None:
    pictures = TrackedPictures(folder)
    params, _ = posed(7)
    found = pictures.params(1)
    assert torch.equal(found.identity, params.identity)
    assert torch.equal(found.expression, params.expression)
    assert torch.equal(found.joint("left_eye"), params.joint("left_eye"))
    assert torch.equal(found.joint("jaw"), params.joint("jaw"))
    assert not found.joint("neck").any()
    # In the layout that other programs know.
    records = pickle.loads((folder / "optim.pkl").read_bytes())
    shapes = {name: value.shape for name, value in records["000001_0"].items()}
    assert shapes == {
        "bbox": (4,),
        "shapecode": (300,),
        "expcode": (100,),
        "posecode": (6,),
        "eyecode": (6,),
        "transform_matrix": (3, 4),
    }
    assert all(value.dtype == np.float32 for value in records["000001_0"].values())


def test_cameras_with_another_lens_and_heads_with_offsets_are_refused() -> None:
    head = load_head()
    params, camera = posed(1)
    with pytest.raises(VultusError):
        record_of(head, params, replace(camera, K=camera.K * torch.tensor([[1.1], [1.1], [1.0]])), np.zeros(4))
    with pytest.raises(VultusError):
        record_of(head, replace(params, scale=torch.tensor(1.2)), camera, np.zeros(4))


def test_keys_name_their_videos() -> None:
    assert video_of("015252_99") == "015252"
    assert video_of("img_abc_4") == "abc"


def _pickled(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        records = pickle.loads((folder / "optim.pkl").read_bytes())
        change(records)
        (folder / "optim.pkl").write_bytes(pickle.dumps(records, protocol=4))

    return apply


class _Evil:
    def __reduce__(self):
        return print, ("run",)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "no records": lambda folder: (folder / "optim.pkl").unlink(),
    "not a pickle": lambda folder: (folder / "optim.pkl").write_bytes(b"abc"),
    "a pickle that runs": lambda folder: (folder / "optim.pkl").write_bytes(pickle.dumps({"a_1": _Evil()})),
    "a list": lambda folder: (folder / "optim.pkl").write_bytes(pickle.dumps([1])),
    "a code too short": _pickled(lambda r: r["000001_0"].update(shapecode=np.zeros(299, np.float32))),
    "a code missing": _pickled(lambda r: r["000001_0"].pop("expcode")),
    "not finite": _pickled(lambda r: r["000001_0"]["eyecode"].fill(np.nan)),
    "no rotation": _pickled(lambda r: r["000001_0"]["transform_matrix"].fill(9)),
    "words": _pickled(lambda r: r["000001_0"].update(bbox=np.array(["a", "b", "c", "d"]))),
    "a record without picture": _pickled(lambda r: r.update({"000009_0": r["000001_0"]})),
    "a key with a path": _pickled(lambda r: r.update({"../../x_0": r["000001_0"]})),
    "no pictures": lambda folder: (folder / "img_lmdb/data.mdb").unlink(),
    "damaged pictures": lambda folder: (folder / "img_lmdb/data.mdb").write_bytes(b"\0" * 20000),
    "splits of unknown keys": lambda folder: (folder / "dataset.json").write_text('{"train": ["000077_0"]}'),
    "splits of numbers": lambda folder: (folder / "dataset.json").write_text('{"train": [3]}'),
    "splits that are none": lambda folder: (folder / "dataset.json").write_text("[1]"),
    "another head": lambda folder: (folder / "head.json").write_text(json.dumps({"name": "x", "fingerprint": "y"})),
    "a head that is none": lambda folder: (folder / "head.json").write_text("[]"),
    "no head": lambda folder: (folder / "head.json").unlink(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folders_are_refused(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    HOSTILE[name](folder)
    with pytest.raises(VultusError):
        TrackedPictures(folder)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"GIF89a" + b"\0" * 50, b"\xff\xd8\xff\xe0" + b"\0" * 40, b"x" * 3000])
def test_damaged_pictures_are_refused_when_they_are_read(folder: Path, content: bytes) -> None:
    keys = TrackedPictures(folder).keys
    write_lmdb(folder / "img_lmdb", iter([(key.encode(), content) for key in keys]))
    pictures = TrackedPictures(folder)
    with pytest.raises(VultusError):
        pictures.picture(0)
