"""Videos, frames, previews and contact sheets of an avatar, and what they say about their origin."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from synthetic_avatar import synthetic_avatar

from vultus.animation import Driver, load_driver
from vultus.animation.builtin_motions import expressions, talking
from vultus.avatars.rigged import RiggedAvatar
from vultus.captures import Capture, CaptureWriter, Source, open_capture
from vultus.errors import VultusError
from vultus.exports import VideoStyle, animate, provenance, write_contact_sheet, write_frames, write_preview
from vultus.exports.preview import preview_pictures
from vultus.exports.provenance import avatar_id
from vultus.exports.shading import shaded_mesh
from vultus.exports.video import pictures, resampled
from vultus.images import VideoReader, probe_video, read_image
from vultus.motion import Motion


@pytest.fixture(scope="module")
def avatar() -> RiggedAvatar:
    return synthetic_avatar(size=48)


@pytest.fixture(scope="module")
def driver(avatar: RiggedAvatar) -> Driver:
    motion = talking(avatar.head, seconds=0.4)
    return Driver("clip.mp4", motion, "ab" * 32)


@pytest.fixture(scope="module")
def capture(avatar: RiggedAvatar, tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """Four pictures of the avatar itself, 60 pixels a side."""
    motion = expressions(avatar.head, names=["open"], seconds_each=0.16)
    camera = avatar.view.resized(60, 60)
    folder = tmp_path_factory.mktemp("capture")
    with CaptureWriter(folder, head=avatar.head, fps=25.0, source=Source("me.mp4", "cd" * 32)) as writer:
        for t in range(len(motion)):
            rendering = avatar.render(motion.params[t], camera, background=torch.ones(3))
            writer.add_image(t, 0, rendering.color, rendering.alpha, is_composited=True)
        writer.set_camera(0, camera)
        writer.set_motion(motion)
    return open_capture(folder)


def test_an_animation_is_a_video_with_provenance(avatar: RiggedAvatar, driver: Driver, tmp_path: Path) -> None:
    seen = []
    path = animate(
        avatar, driver, tmp_path / "out.mp4", progress=lambda stage, done, total, figures: seen.append((done, total))
    )
    info = probe_video(path)
    assert (info.width, info.height, info.fps) == (48, 48, pytest.approx(25.0))
    assert seen == [(i, 10) for i in range(11)]
    assert len(list(VideoReader(path))) == 10
    with av.open(str(path)) as container:
        about = json.loads(container.metadata["vultus"])
        assert "Synthetic" in container.metadata["comment"]
    assert about["synthetic"] is True
    assert about["avatar"]["id"] == avatar_id(avatar)
    assert about["driver"] == {"name": "clip.mp4", "sha256": "ab" * 32}


def test_the_id_is_the_avatars_content(avatar: RiggedAvatar) -> None:
    assert avatar_id(avatar) == avatar_id(synthetic_avatar(size=48))
    assert avatar_id(avatar) != avatar_id(synthetic_avatar(size=48, identity_seed=4))
    assert "driver" not in json.loads(provenance(avatar)["vultus"])


def test_styles(avatar: RiggedAvatar, driver: Driver) -> None:
    def first(**options) -> np.ndarray:
        return next(pictures(avatar, driver, VideoStyle(**options)))

    plain = first()
    assert plain.shape == (48, 48, 3)
    assert (plain[0, 0] == 255).all()
    assert (first(background=(0.0, 0.5, 1.0))[0, 0] == [0, 128, 255]).all()
    assert first(size=33).shape == (32, 32, 3)
    beside = first(driver_beside=True, mesh="beside")
    assert beside.shape == (48, 3 * 48, 3)
    assert np.array_equal(beside[:, 48:96], plain)
    assert np.ptp(beside[24, 24].astype(int)) < 12  # clay is grey
    assert np.abs(first(mesh="over").astype(int) - plain).max() > 30
    marked = first(mark=True)
    changed = np.abs(marked.astype(int) - plain).max(-1) > 8
    assert changed[-20:].sum() > 20
    assert not changed[:-20].any()


def test_cameras_move(avatar: RiggedAvatar, driver: Driver) -> None:
    for camera in ("swing", "orbit"):
        frames = list(pictures(avatar, driver, VideoStyle(camera=camera)))
        assert np.abs(frames[0].astype(int) - frames[3]).max() > 60


def test_frames_fall_on_their_times(avatar: RiggedAvatar, driver: Driver) -> None:
    assert resampled(driver.motion, 25).tolist() == list(range(10))
    assert resampled(driver.motion, 12.5).tolist() == [0, 2, 4, 6, 8]
    assert resampled(driver.motion, 50).unique().tolist() == list(range(10))
    uneven = Motion(driver.motion.params, torch.tensor([0.0, 0.1, 0.2, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.5]), avatar.rest)
    assert resampled(uneven, 10).tolist() == [0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9]
    assert len(resampled(driver.motion[:1], 25)) == 50


def test_png_frames(avatar: RiggedAvatar, driver: Driver, tmp_path: Path) -> None:
    folder = write_frames(avatar, driver, tmp_path / "frames", VideoStyle(fps=5))
    assert [file.name for file in sorted(folder.iterdir())] == ["00000.png", "00001.png"]
    with Image.open(folder / "00000.png") as image:
        assert json.loads(image.text["vultus"])["synthetic"] is True
    assert np.array_equal(read_image(folder / "00000.png"), next(pictures(avatar, driver, VideoStyle(fps=5))))


def test_frames_replace_their_own_kind_only(avatar: RiggedAvatar, driver: Driver, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    folder = write_frames(avatar, driver, tmp_path / "frames", VideoStyle(fps=10))
    assert len(list(folder.iterdir())) == 4
    write_frames(avatar, driver, folder, VideoStyle(fps=5))
    assert len(list(folder.iterdir())) == 2
    # Somebody's note, a picture that another program numbered the same way, a folder, a damaged picture.
    (tmp_path / "notes.txt").write_text("mine")
    Image.new("RGB", (4, 4)).save(tmp_path / "00007.png")
    (tmp_path / "00008.png").mkdir()
    (tmp_path / "00009.png").write_bytes(b"")
    for name in ("notes.txt", "00007.png", "00008.png", "00009.png"):
        theirs = (tmp_path / name).rename(folder / name)
        with pytest.raises(VultusError, match=f"frames: holds {name}"):
            write_frames(avatar, driver, folder, VideoStyle(fps=5))
        assert theirs.exists()
        assert len(list(folder.iterdir())) == 3
        theirs.rename(tmp_path / name)
    with pytest.raises(VultusError, match=r"notes\.txt: is a file"):
        write_frames(avatar, driver, tmp_path / "notes.txt", VideoStyle(fps=5))


def test_an_interrupted_animation_leaves_nothing(
    avatar: RiggedAvatar, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(stage: str, done: int, total: int, figures: object) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        animate(avatar, driver, tmp_path / "out.mp4", progress=stop)
    with pytest.raises(KeyboardInterrupt):
        write_frames(avatar, driver, tmp_path / "frames", progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, "size is 4"),
        ({"fps": 0.0}, "fps is 0"),
        ({"background": (2.0, 0.0, 0.0)}, "background"),
        ({"quality": 99}, "quality is 99"),
    ],
)
def test_styles_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(VultusError, match=message):
        VideoStyle(**options)


def test_the_contact_sheet(avatar: RiggedAvatar, capture: Capture, tmp_path: Path) -> None:
    write_contact_sheet(avatar, tmp_path / "sheet.png", size=32, capture=capture)
    sheet = read_image(tmp_path / "sheet.png")
    # Thirty pictures, all different.
    rows, columns = 5, 6
    cells = []
    # The footer is below, at the end of every row a gap of 4 pixels.
    width = round(0.8 * 32) + 4
    top, left = sheet.shape[0] - rows * 36 - 20, sheet.shape[1] - columns * width
    for row in range(rows):
        for column in range(columns):
            corner = (top + row * 36 + 1, left + column * width + 1)
            cells.append(sheet[corner[0] : corner[0] + 30, corner[1] : corner[1] + 24].astype(int))
    distances = [np.abs(a - b).mean() for a, b in itertools.combinations(cells, 2)]
    assert min(distances) > 0.3
    with Image.open(tmp_path / "sheet.png") as image:
        assert json.loads(image.text["vultus"])["synthetic"] is True


def test_the_preview_starts_with_the_footage(avatar: RiggedAvatar, capture: Capture) -> None:
    frames = list(itertools.islice(preview_pictures(avatar, capture=capture, size=48), 5))
    assert frames[0].shape == (48, 96, 3)
    for frame in frames[:4]:  # the avatar repeats what the capture shows, through the same camera
        assert np.abs(frame[:, :48].astype(int) - frame[:, 48:]).mean() < 6


@pytest.mark.slow
def test_the_whole_preview(avatar: RiggedAvatar, capture: Capture, tmp_path: Path) -> None:
    write_preview(avatar, tmp_path / "p.mp4", capture=capture, size=48)
    assert 8 < probe_video(tmp_path / "p.mp4").duration < 16
    write_preview(avatar, tmp_path / "alone.mp4", size=32)
    assert probe_video(tmp_path / "alone.mp4").width == 32


def test_clay_covers_what_the_head_covers(avatar: RiggedAvatar) -> None:
    vertices = avatar.head.pose(avatar.rest).vertices
    view = avatar.view.resized(192, 192)
    shade, coverage = shaded_mesh(vertices, avatar.head.faces, view)
    alpha = avatar.render(avatar.rest, view).alpha.detach()
    assert float(((coverage > 0.5) != (alpha > 0.5)).float().mean()) < 0.03
    inside = coverage[..., 0] > 0.99
    assert 0.25 < float(shade[inside].mean()) < 0.95


def test_drivers_of_other_heads_are_refused(avatar: RiggedAvatar, driver: Driver, tmp_path: Path) -> None:
    foreign = replace(driver, motion=replace(driver.motion, params=replace(driver.motion.params, model="0" * 64)))
    with pytest.raises(VultusError, match="another head model"):
        animate(avatar, foreign, tmp_path / "x.mp4")
    assert load_driver("builtin:turn", avatar.head).name == "builtin:turn"
