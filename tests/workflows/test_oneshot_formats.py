"""The formats of GAGAvatar's tracker: captures become them, they become captures and drivers again, and hostile ones
are refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from oneshot_samples import TINY, person, tiny_model, transform

from vultus.animation import load_driver
from vultus.cameras import Camera, look_at
from vultus.captures import CaptureWriter, open_capture
from vultus.captures.gagavatar import open_tracked, read_tracked_images
from vultus.captures.gagavatar_lmdb import TrackedPictures
from vultus.captures.gagavatar_records import camera_of
from vultus.cli import run
from vultus.errors import VultusError
from vultus.files import read_pickle
from vultus.heads.builtin import load_builtin
from vultus.motion import Motion
from vultus.workflows.convert import convert

SIZE = 96


@pytest.fixture(scope="module")
def head():
    return load_builtin()


def make_capture(folder, head, count=3, seed=0):
    """Pictures of nothing but a gradient: the formats do not look at what they show."""
    generator = torch.Generator().manual_seed(seed)
    rest = person(head, seed)
    params = replace(
        rest.map(lambda t: t.expand(count, *t.shape).clone()),
        identity=rest.identity,
        expression=torch.rand(count, len(head.expression_names), generator=generator) * 0.3,
        joints={
            "root": 0.15 * torch.randn(count, 3, generator=generator),
            "neck": 0.1 * torch.randn(count, 3, generator=generator),
            "jaw": torch.rand(count, 3, generator=generator) * torch.tensor([0.2, 0, 0]),
        },
        translation=0.01 * torch.randn(count, 3, generator=generator),
        scale=torch.ones(()),
    )
    camera = Camera.from_focal(250.0, SIZE, SIZE, look_at(torch.tensor([0.05, 0.0, 0.9]), torch.tensor([0.0, 0, 0])))
    with CaptureWriter(folder, head=head, fps=25, val_cameras=(), test_timesteps=()) as writer:
        writer.set_camera(0, camera)
        ramp = torch.linspace(0, 1, SIZE)[:, None, None].expand(SIZE, SIZE, 3)
        for timestep in range(count):
            writer.add_image(timestep, 0, ramp, torch.ones(SIZE, SIZE, 1))
        writer.set_motion(Motion(params, torch.arange(count) / 25, rest))
    return open_capture(folder, head)


@pytest.fixture(scope="module")
def people(head, tmp_path_factory):
    root = tmp_path_factory.mktemp("people")
    for number in range(3):
        make_capture(root / f"p{number}", head, seed=number)
    return root


@pytest.fixture(scope="module")
def data(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tracked"
    assert convert(people, folder, "gagavatar") == 9
    return folder


def skull(head):
    """The vertices that the skull alone carries."""
    return head.weights[:, [name != "root" for name in head.joint_names]].sum(1) > 0.999


def test_records_show_the_same_head(head, people, data):
    pictures = TrackedPictures(data)
    assert pictures.keys[0] == "000000_0"
    assert [len(part) for part in pictures.splits.values()] == [3, 3, 3]
    capture = open_capture(people / "p0", head)
    for index in range(3):
        record = pictures.record(index)
        params, camera = capture.motion.params[index], capture.camera(capture.views[index])
        wanted = camera.project(head.pose(params).vertices[skull(head)])
        own = camera_of(torch.from_numpy(record.transform_matrix), 512)
        found = own.project(head.pose(pictures.params(index)).vertices[skull(head)])
        # The crop moves and enlarges the picture; the lens becomes much longer.
        moved = [points - points.mean(0) for points in (wanted, found)]
        moved = [points / points.norm(dim=-1).mean() for points in moved]
        # From 0.9 m the perspective is another than through the long lens: that much is left.
        assert float((moved[0] - moved[1]).norm(dim=-1).mean()) < 0.04
        assert np.abs(record.transform_matrix[:, :3] @ record.transform_matrix[:, :3].T - np.eye(3)).max() < 1e-4
        assert 8 < record.transform_matrix[2, 3] < 14
        assert (record.bbox[2:] > record.bbox[:2]).all()


def test_folders_become_captures(head, data):
    capture = open_capture(data)
    pictures = TrackedPictures(data)
    assert len(capture.views) == 9
    assert capture.shots.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert capture.head_fingerprint == head.fingerprint
    for view in capture.views[::4]:
        # The head before the camera that stands still is where its own camera shows it.
        params, camera = capture.motion.params[view.timestep], capture.camera(view)
        own = camera_of(torch.from_numpy(pictures.record(view.timestep).transform_matrix), camera.width)
        wanted = own.project(head.pose(pictures.params(view.timestep)).vertices)
        found = camera.project(head.pose(params).vertices)
        assert torch.allclose(found, wanted, atol=0.05)
    image = capture.image(capture.views[0])
    assert torch.equal((image * 255).round().to(torch.uint8), pictures.picture(0))
    one = open_tracked(data / "000001", None)
    assert len(one.motion) == 3
    assert one.motion.params.identity.dim() == 1
    torch.testing.assert_close(one.motion.params[0].expression, capture.motion.params[3].expression)
    with pytest.raises(VultusError, match=r"000007.*000000"):
        open_tracked(data / "000007", None)
    with pytest.raises(VultusError):
        open_tracked(data / "nothing" / "000001", None)


def test_a_video_is_marked_as_one(people, tmp_path):
    convert(people / "p1", tmp_path / "video", "gagavatar")
    assert (tmp_path / "video" / "smoothed.pkl").read_bytes() == (tmp_path / "video" / "optim.pkl").read_bytes()
    assert len(open_capture(tmp_path / "video").motion) == 3


def test_an_avatar_is_driven_by_them(head, people, data, tmp_path, monkeypatch, capsys):
    """By a whole folder, one video of it, and a tracked.pt; copied, the driver's own views come out."""
    monkeypatch.setenv("VULTUS_NETWORKS", str(tmp_path / "networks"))
    avatar = tiny_model().reconstruct(torch.rand(32, 32, 3), transform(0.0), person(head), head)
    avatar.save(tmp_path / "avatar")
    pictures = TrackedPictures(data)
    driver = load_driver(data / "000002", head)
    assert driver.capture is not None
    assert len(driver.motion) == 3
    camera = driver.capture.camera(driver.capture.views[0]).resized(TINY.image_size, TINY.image_size)
    from vultus.animation import Retargeting, retarget_motion

    motion = retarget_motion(driver.motion, head, avatar.rest, Retargeting(mode="paper"))
    for row in range(3):
        own = camera_of(torch.from_numpy(pictures.record(6 + row).transform_matrix), TINY.image_size)
        unposed = replace(pictures.params(6 + row), identity=avatar.rest.identity)
        with torch.no_grad():
            a, b = avatar.render(motion.params[row], camera), avatar.render(unposed, own)
        assert float((a.alpha - b.alpha).abs().mean()) < 5e-3
        assert float((a.color - b.color).abs().mean()) < 5e-3
    assert convert(people, tmp_path / "tracked.pt", "gagavatar") == 3
    for source in (data / "000001", tmp_path / "tracked.pt" / "p1"):
        out = tmp_path / f"{source.name}_frames"
        command = ["animate", str(tmp_path / "avatar"), "-d", str(source), "-o", str(out), "--side-by-side"]
        # A tracked.pt does not say which head model its codes are of; FLAME is meant.
        given = ["--driver-head", "builtin"] if ".pt" in str(source) else []
        assert run([*command, *given, "--fps", "10", "--retarget", "paper", "--mark"]) == (2 if given else 0)
        if given:
            assert "FLAME" in capsys.readouterr().err
        else:
            assert (out / "00000.png").is_file()


def test_tracked_pictures_come_back(head, people, tmp_path):
    path = tmp_path / "tracked.pt"
    assert convert(people, path, "gagavatar") == 3
    with pytest.raises(VultusError, match="already"):
        convert(people, path, "gagavatar")
    found = read_tracked_images(path)
    assert list(found) == ["p0", "p1", "p2"]
    record, pixels = found["p1"]
    assert pixels.shape == (512, 512, 3)
    # As the published program writes it: plain tensors, which PyTorch's own safe loader reads.
    content = torch.load(path, weights_only=True)
    assert set(content["p1"]) == {*vars(record), "image", "vis_image"}
    assert content["p1"]["image"].dtype == torch.float32
    assert torch.equal(content["p1"]["transform_matrix"], torch.from_numpy(record.transform_matrix))
    capture = open_tracked(path / "p1", head)
    assert len(capture.motion) == 1
    assert np.array_equal(capture.views[0].picture.read()[0], pixels)
    # Records of NumPy arrays are read as well.
    torch.save({"a.jpg": {**vars(record), "image": pixels.transpose(2, 0, 1) / np.float32(255)}}, path)
    again, same = read_tracked_images(path)["a.jpg"]
    assert np.array_equal(again.expcode, record.expcode)
    assert np.array_equal(same, pixels)


class _Evil:
    def __reduce__(self):
        return print, ("run",)


def _archive(path, content, *, method=zipfile.ZIP_STORED, numbers=b""):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x/data.pkl", content)
        archive.writestr("x/data/0", numbers)


def test_hostile_files_of_pictures_are_refused(head, people, tmp_path, capsys):
    path = tmp_path / "tracked.pt"
    convert(people, path, "gagavatar")
    good = path.read_bytes()
    content = torch.load(path, weights_only=True)
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(good), 3):
        path.write_bytes(good[:cut])
        with pytest.raises(VultusError, match=r"tracked\.pt"):
            read_tracked_images(path)
    for change in (
        lambda r: r.pop("image"),
        lambda r: r.update(image=torch.zeros(3, 5, 6)),
        lambda r: r.update(image=torch.full((3, 8, 8), torch.nan)),
        lambda r: r.update(image="a.jpg"),
        lambda r: r.pop("shapecode"),
        lambda r: r.update(expcode=torch.zeros(99)),
        lambda r: r.update(transform_matrix=torch.ones(3, 4)),
        lambda r: r.update(eyecode=torch.full((6,), torch.inf)),
    ):
        changed = {name: dict(record) for name, record in content.items()}
        change(changed["p0"])
        torch.save(changed, path)
        with pytest.raises(VultusError, match="p0"):
            read_tracked_images(path)
    for wrong in ([1], {}, {1: {}}, {"a": 3}):
        torch.save(wrong, path)
        with pytest.raises(VultusError, match=r"tracked\.pt"):
            read_tracked_images(path)
    _archive(path, pickle.dumps({"a": _Evil()}))
    with pytest.raises(VultusError, match="malicious"):
        read_tracked_images(path)
    assert "run" not in capsys.readouterr().out
    _archive(path, pickle.dumps({}), method=zipfile.ZIP_DEFLATED)
    with pytest.raises(VultusError, match="compressed"):
        read_tracked_images(path)


def test_tensors_of_archives_are_checked(tmp_path):
    """Storages that are missing, too short, or called by another type."""
    path = tmp_path / "a.pt"
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([1, 2]), "c": torch.tensor(3.0).half()}
    torch.save(tensors, path)
    found = read_pickle(path)
    for name, tensor in tensors.items():
        assert np.array_equal(found[name], tensor.numpy())
    with zipfile.ZipFile(path) as archive:
        content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    for numbers in (b"", b"\0" * 23):
        _archive(path, content, numbers=numbers)
        with pytest.raises(VultusError, match=r"a\.pt"):
            read_pickle(path)
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(1, dtype=torch.complex64)}, stream)
    path.write_bytes(stream.getvalue())
    with pytest.raises(VultusError, match=r"a\.pt"):
        read_pickle(path)


def test_what_cannot_be_converted_is_refused(people, tmp_path):
    for source, output, message in (
        (tmp_path / "none", tmp_path / "a", "not a folder"),
        (tmp_path, tmp_path / "b", "no captures"),
        (people, people, "other files"),
    ):
        with pytest.raises(VultusError, match=message):
            convert(source, output, "gagavatar")
    with pytest.raises(VultusError, match="--timesteps"):
        convert(people, tmp_path / "c", "gagavatar", timesteps=[0])
