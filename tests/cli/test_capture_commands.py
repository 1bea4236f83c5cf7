"""`vultus convert` and `vultus inspect` as a user calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vultus.cameras import Camera, look_at
from vultus.captures import CaptureWriter
from vultus.cli import run
from vultus.heads.load import load_head
from vultus.motion import Motion


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    head = load_head()
    with CaptureWriter(tmp_path / "me", head=head, fps=25) as writer:
        for timestep in range(2):
            writer.add_image(timestep, 0, torch.full((48, 40, 3), 0.4), torch.ones(48, 40, 1))
        writer.set_camera(0, Camera.from_focal(100, 40, 48, look_at(torch.tensor([0.0, 0.0, 1.0]), torch.zeros(3))))
        writer.set_motion(Motion(head.neutral(2), torch.arange(2) / 25, head.neutral()))
    return tmp_path / "me"


def test_convert_then_inspect(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(capture), str(tmp_path / "rig"), "--layout", "plain"]) == 0
    assert "plain, 2 pictures" in capsys.readouterr().out
    assert run(["inspect", str(tmp_path / "rig")]) == 0
    printed = capsys.readouterr().out
    assert "pictures with cameras (plain)" in printed
    assert "no head parameters" in printed


def test_one_timestep(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(capture), str(tmp_path / "model"), "-l", "colmap"]
    assert run(arguments) == 2
    assert "--timesteps" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert run([*arguments, "--timesteps", "1"]) == 0
    assert (tmp_path / "model" / "sparse" / "0" / "images.bin").is_file()


def test_a_full_output_is_left_alone(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert run(["convert", str(capture), str(tmp_path / "mine"), "-l", "plain"]) == 2
    assert "has files in it" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
