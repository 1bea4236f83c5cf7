"""`vultus inspect`: what it says and draws of captures and of other things."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vultus.cameras import Camera, look_at
from vultus.captures import CaptureWriter
from vultus.captures.plan import draw_cameras
from vultus.cli import run
from vultus.errors import VultusError
from vultus.heads.load import load_head
from vultus.motion import Motion
from vultus.workflows.inspect import inspect


def cameras(count: int = 3) -> list[Camera]:
    eyes = [torch.tensor([0.5 * (index - 1), 0.1, 0.9]) for index in range(count)]
    return [Camera.from_focal(100, 40, 48, look_at(eye, torch.zeros(3))) for eye in eyes]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    head = load_head()
    with CaptureWriter(tmp_path / "me", head=head, fps=25) as writer:
        for timestep in range(2):
            for number, camera in enumerate(cameras()):
                mask = torch.zeros(48, 40, 1)
                mask[12:36, 10:30] = 1
                writer.add_image(timestep, number, torch.full((48, 40, 3), 0.4), mask)
                writer.set_camera(number, camera)
        writer.set_motion(Motion(head.neutral(2), torch.arange(2) / 25, head.neutral()))
    return tmp_path / "me"


def test_a_capture_is_counted_and_drawn(capture: Path, tmp_path: Path) -> None:
    result = inspect(capture, tmp_path / "out")
    assert result.findings == ()
    assert result.figures["cameras"] == "3"
    assert result.figures["pictures"].startswith("6,")
    assert result.figures["timesteps"].startswith("2, from 0 to 1, 25 per second")
    assert (result.figures["sizes"], result.figures["masks"]) == ("40x48", "all")
    assert "2 of 2 instants" in result.figures["head"]
    assert [path.name for path in result.drawings] == ["cameras_top.png", "cameras_side.png", "overlay.png"]
    for path in result.drawings:
        assert np.asarray(Image.open(path)).std() > 5
    about = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert (about["layout"], about["mistakes"]) == ("vultus", [])
    assert "GaussianAvatars" not in result.summary()
    # Nothing is written into the capture.
    assert not any(path.suffix == ".json" and "inspect" in path.name for path in capture.rglob("*"))


def test_the_mesh_lies_over_the_pictures(capture: Path, tmp_path: Path) -> None:
    overlay = np.asarray(Image.open(inspect(capture, tmp_path / "out").drawings[2])).astype(int)
    tile = overlay[4:304, 4:254]
    # The head is in the middle of every picture; the corners show the picture alone.
    assert abs(tile[150, 125] - 255 * 0.4).max() > 10
    assert tile[3, 3].min() > 250


def test_mistakes_are_printed_and_are_status_2(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(capture)]) == 0
    (capture / "images" / "00001_02.png").unlink()
    assert run(["inspect", str(capture), "-o", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert "missing-frames: 1 files are not there" in printed.out
    assert printed.err.strip().splitlines()[-1].startswith("error: ")
    assert json.loads((tmp_path / "out" / "inspection.json").read_text())["mistakes"][0]["name"] == "missing-frames"


def test_what_cannot_be_opened_says_why(capture: Path) -> None:
    (capture / "transforms_train.json").write_text("{")
    (finding,) = inspect(capture).findings
    assert finding.name == "malformed"
    assert "transforms_train.json" in finding.text


def test_mirrored_matrices_are_flipped_axes(capture: Path) -> None:
    file = capture / "transforms_train.json"
    content = json.loads(file.read_text())
    pose = np.array(content["frames"][0]["transform_matrix"]) @ np.diag([1, 1, -1, 1])
    content["frames"][0]["transform_matrix"] = pose.tolist()
    file.write_text(json.dumps(content))
    (finding,) = inspect(capture).findings
    assert finding.name == "flipped-axes"
    assert "mirrored" in finding.text


def test_other_things_are_named(capture: Path, tmp_path: Path) -> None:
    assert "a motion of the head model" in inspect(capture / "motion.npz").what
    assert "photo" in inspect(capture / "images" / "00000_00.png").what
    assert "1 captures in it" in inspect(tmp_path).what
    (tmp_path / "empty").mkdir()
    for path, message in ((tmp_path / "empty", "no capture"), (tmp_path / "nothing", "no such file")):
        with pytest.raises(VultusError, match=message):
            inspect(path)


@pytest.mark.parametrize("view", ["top", "side"])
def test_cameras_are_drawn_where_they_stand(view) -> None:
    left, right = (
        Camera.from_focal(100, 40, 40, look_at(torch.tensor([x, 0.0, 1.0]), torch.zeros(3))) for x in (-1.0, 1.0)
    )
    drawn = draw_cameras([("a", left), ("b", right)], view, body=torch.zeros(1, 3))
    assert drawn.shape == (900, 900, 3)
    red, blue = ((drawn.astype(int) - color).__abs__().sum(-1) < 60 for color in ((200, 60, 50), (60, 120, 190)))
    columns = [float(np.nonzero(mask)[1].mean()) for mask in (red, blue) if mask.any()]
    if view == "top":
        assert columns[0] < 450 < columns[1]
    else:  # both at one place: the second lies over the first
        assert min(columns) > 450
