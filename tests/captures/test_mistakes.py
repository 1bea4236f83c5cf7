"""Each of the usual mistakes, made on purpose in a correct capture, is named; a correct capture names none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rig import cameras, motion, write_rig

from vultus.captures import CaptureWriter, Contents, read_contents
from vultus.captures.mistakes import find_mistakes
from vultus.captures.pictures import Film, FilmFrame
from vultus.heads.load import load_head
from vultus.workflows.convert import convert
from vultus.workflows.inspect import inspect

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
SIDEWAYS = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
Pose = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def correct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rig with head parameters (vultus) and without (plain, gaussian-head-avatar, colmap)."""
    root = tmp_path_factory.mktemp("correct")
    write_rig(root / "vultus")
    convert(root / "vultus", root / "plain", "plain")
    convert(root / "vultus", root / "gaussian-head-avatar", "gaussian-head-avatar", size=256)
    convert(root / "vultus", root / "colmap", "colmap", timesteps=[0])
    return root


@pytest.fixture(params=["vultus", "plain"])
def capture(request: pytest.FixtureRequest, correct: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(correct / request.param, tmp_path / request.param))


def found(contents: Contents) -> set[str]:
    return {finding.name for finding in find_mistakes(contents).findings}


def names(folder: Path) -> set[str]:
    return found(read_contents(folder))


def edit(folder: Path, change: Callable[[list[dict[str, Any]]], object], entries: str = "frames") -> None:
    """Change the frames of every JSON file of a capture."""
    for file in [*folder.glob("transforms_*.json"), *folder.glob("cameras.json")]:
        content = json.loads(file.read_text())
        change(list(content[entries].values()) if isinstance(content[entries], dict) else content[entries])
        file.write_text(json.dumps(content))


def edit_poses(folder: Path, change: Pose) -> None:
    """Change the matrices as they stand in the files: OpenGL camera-to-world, or OpenCV world-to-camera (plain)."""
    is_plain = (folder / "cameras.json").exists()
    key = "world_to_camera" if is_plain else "transform_matrix"

    def apply(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            entry[key] = change(np.array(entry[key])).tolist()

    edit(folder, apply, "cameras" if is_plain else "frames")


def files(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / {"mask": "fg_masks" if folder.name == "vultus" else "masks"}.get(kind, kind)).iterdir())


@pytest.mark.parametrize("layout", ["vultus", "plain", "gaussian-head-avatar", "colmap"])
def test_a_correct_capture_names_none(correct: Path, layout: str) -> None:
    judgement = find_mistakes(read_contents(correct / layout))
    assert judgement.findings == ()
    assert judgement.decoded == (5 if layout == "colmap" else 15)


@pytest.mark.parametrize(
    "angles",
    [(0.0,), (-8.0, 8.0), (-90.0, -45.0, 0.0, 45.0, 90.0), tuple(range(0, 360, 45)), (170.0, 180.0, -170.0, 0.0)],
)
@pytest.mark.parametrize("layout", ["vultus", "plain"])
def test_other_correct_rigs_name_none(tmp_path: Path, angles: tuple[float, ...], layout: str) -> None:
    write_rig(tmp_path / "vultus", count=1, angles=angles)
    if layout == "plain":
        convert(tmp_path / "vultus", tmp_path / "plain", "plain")
    assert names(tmp_path / layout) == set()


@pytest.mark.parametrize("center", [(0.0, 1.6, 0.0), (3.0, -1.0, 2.0), (-20.0, 0.0, 4.0)])
def test_a_rig_away_from_the_origin(correct: Path, tmp_path: Path, center: tuple[float, ...]) -> None:
    folder = Path(shutil.copytree(correct / "plain", tmp_path / "plain"))
    rig = iter(cameras(center=center))
    edit_poses(folder, lambda pose: next(rig).world_to_camera.numpy())
    assert names(folder) == set()
    edit_poses(folder, np.linalg.inv)
    assert names(folder) == {"inverted-poses"}


def scaled(factor: float) -> Pose:
    def change(pose: np.ndarray) -> np.ndarray:
        return np.concatenate([pose[:, :3], pose[:, 3:] * [[factor], [factor], [factor], [1]]], axis=1)

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("millimetres", scaled(1000)),
        ("centimetres", scaled(100)),
        ("inverted-poses", np.linalg.inv),
        ("inverted-poses", lambda pose: FLIP @ np.linalg.inv(pose)),
        ("inverted-poses", lambda pose: np.linalg.inv(pose) @ FLIP),
    ],
)
def test_wrong_cameras(capture: Path, name: str, change: Pose) -> None:
    edit_poses(capture, change)
    assert names(capture) == {name}


def test_flipped_axes(capture: Path) -> None:
    # Camera axes are on the right of camera-to-world and on the left of world-to-camera matrices.
    edit_poses(capture, (lambda pose: pose @ FLIP) if capture.name == "vultus" else (lambda pose: FLIP @ pose))
    assert names(capture) == {"flipped-axes"}


@pytest.mark.parametrize("turn", [FLIP, np.diag([-1.0, 1.0, -1.0, 1.0])])
def test_flipped_world(correct: Path, tmp_path: Path, turn: np.ndarray) -> None:
    # The cameras look at the head, but it stands on its head, or all see its back.
    folder = tmp_path / "vultus"
    write_rig(folder, count=1, angles=(-30.0, 0.0, 30.0))
    edit_poses(folder, lambda pose: turn @ pose)
    assert names(folder) == {"flipped-axes"}


def test_one_camera_is_judged_by_its_head(tmp_path: Path) -> None:
    for number, (name, change) in enumerate(
        [
            (None, lambda pose: pose),
            ("inverted-poses", np.linalg.inv),
            ("flipped-axes", lambda pose: pose @ FLIP),
            ("millimetres", scaled(1000)),
            ("off-target", lambda pose: pose @ SIDEWAYS),
        ]
    ):
        folder = tmp_path / str(number)
        write_rig(folder, count=2, angles=(25.0,))
        edit_poses(folder, change)
        assert names(folder) == ({name} if name else set()), name


def test_millimetres_and_inverted(capture: Path) -> None:
    edit_poses(capture, lambda pose: np.linalg.inv(scaled(1000)(pose)))
    assert names(capture) == {"millimetres", "inverted-poses"}


def test_duplicate_indices(capture: Path) -> None:
    file = capture / ("transforms_train.json" if capture.name == "vultus" else "cameras.json")
    content = json.loads(file.read_text())
    content["frames"].append(content["frames"][0])
    file.write_text(json.dumps(content))
    assert names(capture) == {"duplicate-index"}


def test_one_file_as_two_pictures(capture: Path) -> None:
    key = "file_path" if capture.name == "vultus" else "image"
    file = capture / ("transforms_train.json" if capture.name == "vultus" else "cameras.json")
    content = json.loads(file.read_text())
    content["frames"][1][key] = content["frames"][0][key]
    file.write_text(json.dumps(content))
    assert "duplicate-picture" in names(capture)


def test_pictures_inside_one_file_are_different_ones(correct: Path, tmp_path: Path) -> None:
    convert(correct / "vultus", tmp_path / "gagavatar", "gagavatar")
    assert names(tmp_path / "gagavatar") == set()


def test_one_frame_of_a_film_as_two_pictures(correct: Path) -> None:
    contents = read_contents(correct / "plain")
    film = Film(contents.shots[0].picture.path)
    shots = [replace(shot, picture=FilmFrame(film, index)) for index, shot in enumerate(contents.shots)]
    assert "duplicate-picture" not in found(replace(contents, shots=shots))
    shots[4] = replace(shots[4], picture=FilmFrame(film, 7))
    assert "duplicate-picture" in found(replace(contents, shots=shots))


def test_alpha_channels_are_masks(correct: Path, tmp_path: Path) -> None:
    insta = tmp_path / "insta"
    convert(correct / "vultus", insta, "insta", cameras=[1])
    assert inspect(insta).figures["masks"].startswith("alpha channels, in 3 of 3 pictures")
    assert names(insta) == set()


def test_missing_files(capture: Path) -> None:
    files(capture, "images")[3].unlink()
    assert names(capture) == {"missing-frames"}


@pytest.mark.parametrize("kind", ["a picture", "a timestep"])
def test_missing_entries(capture: Path, kind: str) -> None:
    key = "timestep_index" if capture.name == "vultus" else "timestep"

    def change(frames: list[dict[str, Any]]) -> None:
        gone = [frame for frame in frames if frame[key] == 1][: None if kind == "a timestep" else 1]
        for frame in gone:
            frames.remove(frame)

    edit(capture, change)
    assert names(capture) == {"missing-frames"}


def test_instants_without_a_head_need_no_picture(tmp_path: Path) -> None:
    head = load_head()
    movement = motion(head, 3)
    movement.valid[1] = False
    with CaptureWriter(tmp_path / "c", head=head, fps=25) as writer:
        for timestep in (0, 2):
            writer.add_image(timestep, 0, torch.full((48, 40, 3), 0.5), torch.ones(48, 40, 1))
        writer.set_camera(0, cameras((0.0,))[0])
        writer.set_motion(movement)
    assert names(tmp_path / "c") == set()


@pytest.mark.parametrize("kind", ["images", "mask"])
def test_wrong_sizes(capture: Path, kind: str) -> None:
    file = files(capture, kind)[4]
    with Image.open(file) as image:
        image.resize((20, 24)).save(file)
    assert names(capture) == {"wrong-size"}


@pytest.mark.parametrize("kind", ["images", "mask"])
@pytest.mark.parametrize("how", ["cut off", "text", "empty"])
def test_unreadable_pictures(capture: Path, kind: str, how: str) -> None:
    file = files(capture, kind)[4]
    content = file.read_bytes()
    file.write_bytes({"cut off": content[: len(content) * 2 // 3], "text": b"not a picture", "empty": b""}[how])
    assert names(capture) == {"unreadable-image"}


def test_inverted_masks(capture: Path) -> None:
    for file in files(capture, "mask"):
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    assert names(capture) == {"mask-mismatch"}


def test_masks_of_other_pictures(capture: Path) -> None:
    masks = files(capture, "mask")
    contents = [file.read_bytes() for file in masks]
    for index, file in enumerate(masks):
        file.write_bytes(contents[(index + 2) % len(masks)])
    assert names(capture) == {"mask-mismatch"}


def test_inverted_masks_of_pictures_with_background(correct: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(correct / "gaussian-head-avatar", tmp_path / "gha"))
    for file in folder.glob("images/*/mask_?.jpg"):
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    assert names(folder) == {"mask-mismatch"}


def test_few_pictures_are_decoded_if_asked(correct: Path) -> None:
    assert find_mistakes(read_contents(correct / "vultus"), pictures=4).decoded == 4
    assert find_mistakes(read_contents(correct / "vultus"), pictures=0).decoded == 15


def test_parallel_cameras_are_not_judged(tmp_path: Path) -> None:
    write_rig(tmp_path / "vultus", count=1, angles=(0.0, 0.5))
    convert(tmp_path / "vultus", tmp_path / "plain", "plain")
    folder = tmp_path / "plain"
    shift = iter((0.0, 0.06))

    def moved(pose: np.ndarray) -> np.ndarray:
        result = np.eye(4)
        result[0, 3] = next(shift)
        return result

    edit_poses(folder, moved)
    assert names(folder) == set()
