"""`vultus create --method oneshot` from end to end: real detector, real photo, a network of random weights."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from oneshot_samples import TINY, person, tiny_model
from oneshot_samples import transform as transform_of
from PIL import Image
from skimage import data, transform

from vultus import avatars
from vultus.avatars.oneshot import CLEAN, About, OneShotAvatar, save_model
from vultus.captures import open_capture
from vultus.cli import run
from vultus.heads.load import load_head

pytest.importorskip("mediapipe")


@pytest.fixture(autouse=True)
def _own_networks(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VULTUS_NETWORKS", str(tmp_path_factory.mktemp("networks")))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    head = load_head()
    about = About(replace(TINY, quirks=CLEAN), head.name, head.fingerprint, "ours", "not at all")
    save_model(tiny_model(CLEAN), tmp_path / "network" / "model.safetensors", about)
    return tmp_path / "network"


@pytest.fixture
def second_photo(tmp_path: Path) -> Path:
    """The photograph again, from nearer and rolled by ten degrees."""
    photo = transform.rotate(data.astronaut(), 10, mode="edge")[20:320, 60:400]
    Image.fromarray((photo * 255).round().astype(np.uint8)).save(tmp_path / "second.jpg", quality=95)
    return tmp_path / "second.jpg"


@pytest.mark.slow
def test_a_photo_becomes_an_avatar_that_moves(
    photo: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    command = ["create", str(photo), "-o", str(folder), "--method", "oneshot", "--weights", str(network)]
    assert run([*command, "--size", "256", "--consent", "NASA's own portrait"]) == 0
    capsys.readouterr()
    avatar = avatars.load(folder / "avatar")
    assert isinstance(avatar, OneShotAvatar)
    about = json.loads((folder / "avatar" / "avatar.json").read_text())
    assert about["consent"] == "NASA's own portrait"
    assert about["provenance"]["method"] == "oneshot"
    assert about["provenance"]["source"] == photo.name
    assert (folder / "preview.mp4").stat().st_size > 1000
    assert (folder / "contact_sheet.png").is_file()
    # The head lies where the photograph shows it: as the tracker's mask says.
    capture = open_capture(folder / "capture", avatar.head)
    view = capture.views[0]
    with torch.no_grad():
        alpha = avatar.render(capture.motion.params[0], capture.camera(view)).alpha[..., 0]
    mask = capture.mask(view)[..., 0] > 0.5
    assert float(alpha[mask].mean()) > 0.6
    made = (folder / "avatar" / "avatar.safetensors").stat().st_mtime_ns
    assert run([*command, "--size", "256", "--consent", "NASA's own portrait"]) == 0  # nothing is done twice
    frames = tmp_path / "frames"
    moved = ["animate", str(folder / "avatar"), "-d", "builtin:talking", "-o", str(frames), "--fps", "1", "--mark"]
    assert run(moved) == 0
    first, second = (np.asarray(Image.open(frames / f"0000{n}.png")).astype(int) for n in (0, 2))
    assert np.abs(first - second).max() > 0
    assert made <= (folder / "avatar" / "avatar.safetensors").stat().st_mtime_ns


def test_several_photos_become_one_avatar(
    photo: Path,
    second_photo: Path,
    network: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Hundreds of frames of preview are the slow test's.
    monkeypatch.setattr("vultus.workflows.create._picture", lambda *_: None)
    folder = tmp_path / "run"
    command = ["create", str(photo), str(second_photo), "-o", str(folder), "--size", "256"]
    assert run([*command]) == 2
    assert "--method" in capsys.readouterr().err
    assert run([*command, "--method", "oneshot", "--weights", str(network)]) == 0
    avatar = avatars.load(folder / "avatar")
    assert isinstance(avatar, OneShotAvatar)
    assert avatar.pictures == 2
    captures = [open_capture(folder / "captures" / name, avatar.head) for name in ("001", "002")]
    assert sorted(path.name for path in (folder / "captures").iterdir()) == ["001", "002"]
    first, second = (capture.motion.params[0] for capture in captures)
    assert torch.equal(first.identity, second.identity)
    torch.testing.assert_close(avatar.rest.identity, first.identity)
    roll = [float(avatar.head.head_to_world(params)[0, 1]) for params in (first, second)]
    assert abs(abs(roll[0] - roll[1]) - np.sin(np.radians(10))) < 0.06


def test_a_picture_without_a_face_is_refused(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one, and of several of which one shows a face: said in one line, nothing half made, and said again."""
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.jpg", quality=95)
    Image.fromarray(np.full((300, 200, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    whole = (tmp_path / "coffee.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    for names, named in ((["coffee.jpg"], "coffee.jpg"), (["grey.png"], "grey.png"), (["cut.jpg"], "cut.jpg")):
        out = tmp_path / f"run-{names[0]}"
        command = ["create", *(str(tmp_path / name) for name in names), "-o", str(out), "--size", "128"]
        for _ in range(2):
            assert run([*command, "--method", "oneshot", "--weights", str(network)]) == 2
            said = capsys.readouterr().err
            assert named in said
            assert "Traceback" not in said
            if named != "cut.jpg":
                assert "face" in said
        assert not (out / "avatar").exists()


def test_one_of_several_pictures_without_a_face_is_named(
    photo: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.jpg", quality=95)
    command = ["create", str(photo), str(tmp_path / "coffee.jpg"), "-o", str(tmp_path / "run"), "--size", "128"]
    assert run([*command, "--method", "oneshot", "--weights", str(network)]) == 2
    said = capsys.readouterr().err
    assert "coffee.jpg" in said
    assert "face" in said
    assert not (tmp_path / "run" / "avatar").exists()


@pytest.mark.slow
def test_a_photo_drives_an_avatar_tracked_once_and_anew_when_asked(
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracking = importlib.import_module("vultus.tracking.track")
    head = load_head()
    avatar = tiny_model(CLEAN).reconstruct(torch.rand(32, 32, 3), transform_of(0.0), person(head), head)
    avatar.save(tmp_path / "avatar")
    monkeypatch.setenv("VULTUS_CACHE", str(tmp_path / "cache"))
    calls = []
    track = tracking.track
    monkeypatch.setattr(tracking, "track", lambda *args, **kwargs: calls.append(1) or track(*args, **kwargs))
    pictures = []
    for options, tracked in (([], 1), ([], 1), (["--retrack"], 2), ([], 2)):
        out = tmp_path / f"frames{len(pictures)}"
        command = ["animate", str(tmp_path / "avatar"), "-d", str(photo), "-o", str(out), "--side-by-side", "--mark"]
        assert run([*command, *options]) == 0
        assert len(calls) == tracked
        pictures.append((out / "00000.png").read_bytes())
    assert len(set(pictures)) == 1
    # Another picture under the same name is another driver.
    other = tmp_path / "other" / photo.name
    other.parent.mkdir()
    Image.fromarray(data.astronaut()[:, ::-1]).save(other)
    out = tmp_path / "turned"
    assert run(["animate", str(tmp_path / "avatar"), "-d", str(other), "-o", str(out), "--mark"]) == 0
    assert len(calls) == 3
    # What cannot be tracked is said, asked for anew or not.
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    for options in ([], ["--retrack"]):
        command = ["animate", str(tmp_path / "avatar"), "-d", str(tmp_path / "coffee.png"), "-o", str(out), *options]
        capsys.readouterr()
        assert run(command) == 2
        assert "face" in capsys.readouterr().err
