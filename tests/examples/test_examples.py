"""The examples compile, import, and (those that need no photo) do what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from synthetic_avatar import synthetic_avatar

from vultus.images import probe_video, read_image
from vultus.workflows.create import Run

FOLDER = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def script(name: str) -> ModuleType:
    """An example as a module; importing it must not start it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_are_numbered_without_gaps() -> None:
    assert [path.name[:3] for path in SCRIPTS] == [f"{number:02d}_" for number in range(1, len(SCRIPTS) + 1)]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_each_example_imports_and_says_how_to_run_it(path: Path) -> None:
    module = script(path.stem)
    assert callable(module.main)
    assert f"python examples/{path.name}" in (module.__doc__ or "")


def test_photo_to_avatar_draws_a_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, asked = script("01_photo_to_avatar"), []

    def create(photo: Path, folder: Path, settings: object) -> Run:
        asked.append((photo, folder))
        synthetic_avatar(size=48).save(Run(folder).avatar)
        return Run(folder)

    monkeypatch.setattr(module, "create_avatar", create)  # minutes of training are tested elsewhere
    still = module.main(tmp_path / "me.jpg", tmp_path / "run")
    assert asked == [(tmp_path / "me.jpg", tmp_path / "run")]
    picture = read_image(still)
    assert picture.shape == (48, 48, 3)
    assert 0.1 < (picture.min(-1) < 250).mean() < 0.9  # a head before white


def test_head_expressions_draws_one_head_per_expression(tmp_path: Path) -> None:
    module, size = script("02_head_expressions"), 48
    picture = read_image(module.main(tmp_path / "heads.png", size=size))
    assert picture.shape == (size, size * len(module.EXPRESSIONS), 3)
    panels = np.split(picture.astype(int), len(module.EXPRESSIONS), axis=1)
    for index, panel in enumerate(panels):
        assert (panel[0, 0] == 255).all()  # the background
        assert panel[size // 2, size // 2].max() < 255  # a head
        assert all(np.abs(panel - other).max() > 20 for other in panels[:index])


def test_drive_avatar_writes_a_moving_video(tmp_path: Path) -> None:
    avatar, video = tmp_path / "avatar", tmp_path / "out.mp4"
    synthetic_avatar(size=48).save(avatar)
    assert script("03_drive_avatar").main(avatar, video, seconds=0.16, size=48) == video
    info = probe_video(video)
    assert (info.width, info.height, info.frame_count) == (48, 48, 4)
