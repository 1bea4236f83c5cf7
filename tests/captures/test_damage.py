"""Every layout with something wrong in it: a clear error or a finding by name, and nothing outside it touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from capture_samples import fill, make_head, make_motion
from PIL import Image
from rig import write_rig
from test_published_layouts import make_insta

from vultus.captures import Capture, CaptureWriter, open_capture, read_contents
from vultus.captures.mistakes import find_mistakes
from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import SkinnedHead
from vultus.heads.load import load_head
from vultus.workflows.convert import convert


@dataclass(frozen=True)
class Sample:
    """A correct capture, one of its pictures, and how to make the mistakes that are not the same in all layouts.

    twice, climbs, huge: None where the layout cannot have this mistake.
    """

    root: Path
    head: SkinnedHead | None
    picture: Path
    twice: Callable[[], object] | None
    climbs: Callable[[], object] | None
    huge: Callable[[], object] | None
    needs_motion: bool = True

    def open(self) -> Capture:
        return open_capture(self.root, self.head, needs_motion=self.needs_motion)

    def findings(self) -> set[str]:
        return {finding.name for finding in find_mistakes(read_contents(self.root, self.head)).findings}


def edit(file: Path, change: Callable[[dict], object]) -> Callable[[], None]:
    def apply() -> None:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return apply


def again(content: dict) -> None:
    content["frames"].append(content["frames"][0])


def frame_with(**values: object) -> Callable[[dict], None]:
    return lambda content: content["frames"][0].update(values)


def vultus(place: Path) -> Sample:
    write_rig(place / "c", count=2, angles=(-20.0, 20.0))
    file = place / "c" / "transforms_train.json"
    return Sample(
        place / "c", load_head(), place / "c" / "images" / "00000_00.png", edit(file, again),
        edit(file, frame_with(file_path="../../secret.png")), edit(file, frame_with(timestep_index=10**30)),
    )  # fmt: skip


def gaussian_avatars(place: Path) -> Sample:
    head = make_head("flame-test", identity=300, expression=100)
    with CaptureWriter(place / "own", head=head, fps=30) as writer:
        fill(writer, make_motion(head, 3))
    convert(place / "own", place / "c", "gaussian-avatars", head=head)
    file = place / "c" / "transforms_train.json"
    return Sample(
        place / "c", head, place / "c" / "images" / "00000_00.png", edit(file, again),
        edit(file, frame_with(flame_param_path="../../secret.npz")), edit(file, frame_with(fl_x=1e300)),
    )  # fmt: skip


def plain(place: Path) -> Sample:
    write_rig(place / "own", count=2, angles=(-20.0, 20.0))
    convert(place / "own", place / "c", "plain")
    file = place / "c" / "cameras.json"
    return Sample(
        place / "c", None, place / "c" / "images" / "00000_00.png", edit(file, again),
        edit(file, frame_with(mask="../../secret.png")), edit(file, frame_with(width=10**30)), needs_motion=False,
    )  # fmt: skip


def gaussian_head_avatar(place: Path) -> Sample:
    write_rig(place / "own", count=2, angles=(-20.0, 20.0))
    convert(place / "own", place / "c", "gaussian-head-avatar", size=256)
    images, cameras = place / "c" / "images", place / "c" / "cameras"

    def twice() -> None:
        # Folders 0001 and 001 are the same instant.
        for base in (images, cameras):
            (base / "001").mkdir()
            for file in (base / "0001").iterdir():
                (base / "001" / file.name).write_bytes(file.read_bytes())

    def huge() -> None:
        file = cameras / "0001" / "camera_0.npz"
        arrays = read_npz(file)
        write_npz(file, **{**arrays, "extrinsic": arrays["extrinsic"] * 1e30})

    return Sample(place / "c", None, images / "0001" / "image_0.jpg", twice, None, huge, needs_motion=False)


def colmap(place: Path) -> Sample:
    sparse, images = place / "c" / "sparse" / "0", place / "c" / "images"
    sparse.mkdir(parents=True)
    images.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((30, 40, 3), 99, np.uint8)).save(images / name)
    (sparse / "cameras.txt").write_text("7 PINHOLE 40 30 50 50 20 15\n")
    (sparse / "points3D.txt").write_text("")
    lines = {"a": "3 1 0 0 0 0 0 3 7 a.png\n\n", "b": "4 1 0 0 0 0.1 0 3 7 b.png\n\n"}

    def listed(*rows: str) -> Callable[[], object]:
        return lambda: (sparse / "images.txt").write_text("".join(rows))

    listed(*lines.values())()
    return Sample(
        place / "c", None, images / "a.png", listed(lines["a"], lines["a"]),
        listed(lines["a"].replace("a.png", "../../secret.png")),
        lambda: (sparse / "cameras.txt").write_text(f"7 PINHOLE {10**40} 30 50 50 20 15\n"), needs_motion=False,
    )  # fmt: skip


def insta(place: Path) -> Sample:
    make_insta(place / "c", checkpoint=False)
    file = place / "c" / "transforms_train.json"
    return Sample(
        place / "c", None, place / "c" / "images" / "00001.png", edit(file, again),
        edit(file, frame_with(file_path="../../secret/00001.png")), edit(file, frame_with(w=1e30)), needs_motion=False,
    )  # fmt: skip


def insta_frames(place: Path) -> Sample:
    make_insta(place / "c", transforms=False)
    folder = place / "c"

    def twice() -> None:
        (folder / "images" / "1.png").write_bytes((folder / "images" / "00001.png").read_bytes())

    return Sample(folder, None, folder / "images" / "00001.png", twice, None, None, needs_motion=False)


def nersemble(place: Path, version: int) -> Sample:
    pose = np.eye(4)
    pose[2, 3] = 1.0
    serials = ("220700191", "222200036")
    about = {
        "world_2_cam": {serial: pose.tolist() for serial in serials},
        "intrinsics": [[60, 0, 20], [0, 60, 24], [0, 0, 1]],
        "width": 40,
        "height": 48,
    }
    if version == 1:
        calibration, root = place / "camera_params" / "030", place / "030" / "EMO-1"
    else:
        calibration, root = place / "030" / "calibration", place / "030" / "sequences" / "EMO-1"
    calibration.mkdir(parents=True)
    file = calibration / "camera_params.json"
    file.write_text(json.dumps(about))
    (root / "images").mkdir(parents=True)
    for serial in serials:
        for frame in (0, 3):
            pixels = np.full((48, 40, 3), 90, np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"cam_{serial}_{frame:06d}.png")
    picture = root / "images" / f"cam_{serials[0]}_000003.png"

    def twice() -> None:
        picture.with_name(f"cam_{serials[0]}_3.png").write_bytes(picture.read_bytes())

    huge = edit(file, lambda content: content["world_2_cam"].update({serials[0]: (pose * 1e30).tolist()}))
    return Sample(root, None, picture, twice, None, huge, needs_motion=False)


MAKERS: dict[str, Callable[[Path], Sample]] = {
    "vultus": vultus,
    "gaussian-avatars": gaussian_avatars,
    "plain": plain,
    "gaussian-head-avatar": gaussian_head_avatar,
    "colmap": colmap,
    "insta": insta,
    "insta, frames only": insta_frames,
    "nersemble 1": lambda place: nersemble(place, 1),
    "nersemble 2": lambda place: nersemble(place, 2),
}
"""The layouts of pictures; videos (the NeRSemble benchmark) have tests of their own."""


@pytest.fixture(params=MAKERS)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sample]:
    """A correct capture in a folder of its own, beside which nothing may change."""
    (tmp_path / "place").mkdir()
    (tmp_path / "secret.png").write_bytes(b"mine")
    made = MAKERS[request.param](tmp_path / "place")
    assert made.open().views

    def outside() -> dict[str, tuple[int, int]]:
        # But for NeRSemble's calibration, which lies beside the sequence, and which the tests themselves change.
        files = [path for path in tmp_path.rglob("*") if path.is_file() and made.root not in path.parents]
        files = [path for path in files if path.name != "camera_params.json"]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}

    before = outside()
    yield made
    assert outside() == before


def test_a_picture_that_is_missing(sample: Sample) -> None:
    sample.picture.unlink()
    try:
        sample.open()
    except VultusError as error:
        assert sample.picture.name in str(error)  # noqa: PT017
    # Layouts whose pictures are found, not named, tell it from the other cameras and instants.
    assert "missing-frames" in sample.findings()


def test_a_picture_of_another_size(sample: Sample) -> None:
    with Image.open(sample.picture) as image:
        mode = image.mode
    Image.new(mode, (17, 13)).save(sample.picture)
    capture = sample.open()
    wrong = [view for view in capture.views if view.picture.path == sample.picture]
    assert wrong
    with pytest.raises(VultusError, match=rf"{sample.picture.name}.*17x13|{sample.picture.name}.*size"):
        capture.image(wrong[0])
    assert "wrong-size" in sample.findings()


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nbroken", b"\xff\xd8\xff\xe0" + b"x" * 40])
def test_a_picture_that_is_none(sample: Sample, content: bytes) -> None:
    sample.picture.write_bytes(content)
    capture = sample.open()
    broken = [view for view in capture.views if view.picture.path == sample.picture]
    with pytest.raises(VultusError, match=sample.picture.name):
        capture.image(broken[0])
    assert "unreadable-image" in sample.findings()


def test_one_index_twice(sample: Sample) -> None:
    assert sample.twice is not None
    sample.twice()
    with pytest.raises(VultusError, match=r"twice|second time"):
        sample.open()


def test_paths_that_climb_out(sample: Sample) -> None:
    if sample.climbs is None:
        # Its pictures are found by looking into its own folders; no file in it names a path.
        return
    sample.climbs()
    with pytest.raises(VultusError, match="leads out"):
        sample.open()


def test_gigantic_numbers(sample: Sample) -> None:
    if sample.huge is None:
        return
    sample.huge()
    with pytest.raises(VultusError) as error:
        sample.open()
    assert "/place/" in str(error.value)
