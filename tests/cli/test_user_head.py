"""A head model that the user supplies, in FLAME's layout, through every command: --head."""

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flame_files import write_egg

from vultus import avatars
from vultus.avatars.rigged import RiggedAvatar
from vultus.avatars.rigged.layout import surface_splats
from vultus.cameras import Camera, look_at
from vultus.captures import CaptureWriter, Source
from vultus.cli import run
from vultus.config import to_yaml
from vultus.files import sha256_of
from vultus.heads import SkinnedHead, load_head
from vultus.motion import Motion
from vultus.splats import rgb_to_sh0
from vultus.workflows.create import CreateConfig, CreateSettings

SIZE = 48


@pytest.fixture(scope="module")
def head_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_egg(tmp_path_factory.mktemp("models") / "my flame")


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_egg(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture(scope="module")
def head(head_folder: Path) -> SkinnedHead:
    return load_head(head_folder)


@pytest.fixture(scope="module")
def egg(head: SkinnedHead) -> RiggedAvatar:
    vertices = head.template
    splats, _ = surface_splats(vertices, head.faces, torch.ones(len(head.faces), dtype=torch.int64), overlap=1.7)
    colors = 0.2 + 0.6 * torch.rand(3, 1, generator=torch.Generator().manual_seed(0)).expand(3, 3)
    centers = vertices[head.faces].mean(1)
    splats = replace(splats, sh0=rgb_to_sh0((0.5 + 3 * centers) @ colors / 2)[splats.binding][:, None])
    eye = torch.tensor([0.0, 0.0, 0.9])
    view = Camera.from_focal(2.6 * SIZE, SIZE, SIZE, look_at(eye, torch.zeros(3)))
    return RiggedAvatar(head, head.neutral(), view, splats)


def write_capture(folder: Path, egg: RiggedAvatar, source: Source | None = None) -> Path:
    motion = Motion(egg.head.neutral(1), torch.zeros(1), egg.head.neutral())
    with (
        CaptureWriter(folder, head=egg.head, fps=25.0, source=source, val_cameras=(), test_timesteps=()) as writer,
        torch.no_grad(),
    ):
        rendering = egg.render(egg.rest, egg.view, background=torch.ones(3))
        writer.add_image(0, 0, rendering.color.clamp(0, 1), rendering.alpha, is_composited=True)
        writer.set_camera(0, egg.view)
        writer.set_motion(motion)
    return folder


@pytest.fixture(scope="module")
def capture(egg: RiggedAvatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("captures") / "egg", egg)


@pytest.fixture(scope="module")
def avatar(egg: RiggedAvatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    egg.save(tmp_path_factory.mktemp("avatars") / "avatar")
    return next(tmp_path_factory.getbasetemp().glob("avatars*/avatar"))


def failure(words: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    assert run([str(word) for word in words]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def test_train(capture: Path, head_folder: Path, head: SkinnedHead, tmp_path: Path) -> None:
    words = [
        "train",
        "rigged",
        capture,
        "-o",
        tmp_path,
        "--head",
        head_folder,
        "--steps",
        "2",
        "--consent",
        "She agreed",
    ]
    assert run([str(word) for word in words]) == 0
    about = json.loads((tmp_path / "avatar" / "avatar.json").read_text())
    assert about["head"]["fingerprint"] == head.fingerprint
    assert about["consent"] == "She agreed"
    # Run again without the text, or after it was edited by hand: what is stated stays.
    (tmp_path / "avatar" / "avatar.json").write_text(json.dumps(about | {"license": "CC0-1.0"}))
    assert run([str(word) for word in words[:-2]]) == 0
    again = json.loads((tmp_path / "avatar" / "avatar.json").read_text())
    assert (again["consent"], again["license"]) == ("She agreed", "CC0-1.0")


def test_an_export_that_names_no_head(
    capture: Path, head_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(capture, tmp_path / "export")
    for name in ("capture.json", "motion.npz"):
        (tmp_path / "export" / name).unlink()
    words = ["train", "rigged", tmp_path / "export", "-o", tmp_path / "run", "--steps", "1"]
    assert "--head PATH" in failure(words, capsys)
    assert run([str(word) for word in [*words, "--head", head_folder]]) == 0
    assert avatars.load(tmp_path / "run", head=load_head(head_folder)).head.name == "flame"


def test_animate(avatar: Path, head_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "turn.mp4"
    words = ["animate", avatar, "-d", "builtin:turn", "-o", out, "--head", head_folder, "--size", "32", "--fps", "2"]
    assert run([str(word) for word in words]) == 0
    assert out.stat().st_size > 0


def test_view(avatar: Path, head_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:  # the head fits, so the next thing that can be wrong is the port
        other.bind(("127.0.0.1", 0))
        other.listen()
        message = failure(["view", avatar, "--head", head_folder, "--port", other.getsockname()[1]], capsys)
    assert "is taken by another program" in message


def test_create(
    egg: RiggedAvatar, head_folder: Path, head: SkinnedHead, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From where tracking has ended: an egg with a face nobody can track stands in for a person."""
    pytest.importorskip("mediapipe")
    from skimage import io

    from vultus import __version__

    photo, out = tmp_path / "egg.png", tmp_path / "run"
    io.imsave(photo, torch.zeros(8, 8, 3, dtype=torch.uint8).numpy(), check_contrast=False)
    settings = CreateSettings(steps=2, head=str(head_folder))
    out.mkdir()
    (out / "config.yaml").write_text(to_yaml(CreateConfig(photo.name, sha256_of(photo), __version__, settings)))
    write_capture(out / "capture", egg, Source(photo.name, sha256_of(photo)))
    words = ["create", photo, "-o", out, "--head", head_folder, "--steps", "2", "--consent", "I am an egg"]
    assert run([str(word) for word in words]) == 0
    assert f"--head '{head_folder}'" in capsys.readouterr().out
    opened = avatars.load(out, head=head)
    assert isinstance(opened, RiggedAvatar)
    assert opened.labels.consent == "I am an egg"
    assert (out / "preview.mp4").stat().st_size > 0
    assert (out / "contact_sheet.png").stat().st_size > 0


@pytest.mark.parametrize("command", ["train", "view", "animate"])
def test_a_head_that_is_missing_or_does_not_fit(
    command: str, capture: Path, avatar: Path, other_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "train": ["train", "rigged", capture, "-o", tmp_path / "run"],
        "view": ["view", avatar, "--port", "0"],
        "animate": ["animate", avatar, "-d", "builtin:turn", "-o", tmp_path / "x.mp4"],
    }[command]
    where = str(words[2] if command == "train" else words[1])
    message = failure(words, capsys)
    assert message.startswith(f"error: {where}: was made with the head model flame, which Vultus does not ship")
    assert "--head PATH" in message
    message = failure([*words, "--head", other_folder], capsys)
    assert message.startswith(f"error: {where}: was made with the head model flame (")
    assert "--head PATH" in message
    assert "there is no such head model" in failure([*words, "--head", tmp_path / "nowhere"], capsys)
    assert list(tmp_path.iterdir()) == []


def test_create_looks_for_the_head_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "me.png").write_bytes(b"anything")
    message = failure(["create", tmp_path / "me.png", "-o", tmp_path / "run", "--head", tmp_path / "nowhere"], capsys)
    assert "there is no such head model" in message
    assert not (tmp_path / "run").exists()


def test_a_name_in_a_file_is_no_path(
    avatar: Path, head_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(avatar, tmp_path / "avatar")
    about = json.loads((avatar / "avatar.json").read_text())
    about["head"]["name"] = str(head_folder)
    (tmp_path / "avatar" / "avatar.json").write_text(json.dumps(about))
    assert "--head PATH" in failure(["view", tmp_path / "avatar"], capsys)
