"""Synthetic captures as files: complete, repeatable, resumable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vultus.captures import LAYOUTS, open_capture, read_motion
from vultus.captures.gagavatar_lmdb import TrackedPictures
from vultus.errors import VultusError
from vultus.files import read_npz
from vultus.heads.load import load_head
from vultus.images import read_image
from vultus.workflows.inspect import inspect
from vultus.workflows.synth import SynthSettings, synthesize

SMALL = SynthSettings(cameras=3, timesteps=5, size=64, seed=4)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_capture_is_complete_and_repeatable(tmp_path: Path) -> None:
    settings = replace(SMALL, truth="all")
    synthesize(tmp_path / "a", settings)
    capture = open_capture(tmp_path / "a", load_head())
    assert len(capture.views) == 15
    assert {view.camera for view in capture.val} == {1}
    assert {view.timestep for view in capture.test} == {4}
    view = capture.views[7]
    mask = capture.mask(view)
    assert 0.1 < float(mask.mean()) < 0.9
    background = capture.image(view)[mask[..., 0] == 0]
    assert torch.equal(background, torch.ones_like(background))
    labels = read_image(tmp_path / "a/truth/labels/00002_01.png")
    assert labels.max() > 5
    geometry = read_npz(tmp_path / "a/truth/geometry/00002_01.npz")
    assert set(geometry) == {"depth", "normals", "uv"}
    true = read_motion(tmp_path / "a/truth/motion.npz", load_head())
    assert torch.equal(true.params.expression, capture.motion.params.expression)
    assert "identity" in json.loads((tmp_path / "a/truth/person.json").read_text())

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        synthesize(tmp_path / "b", settings)
    finally:
        torch.set_num_threads(threads)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


class Stop(Exception):
    pass


def test_an_interrupted_capture_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    synthesize(tmp_path / "whole", SMALL)

    def interrupted(stage: str, done: int, total: int, figures: object) -> None:
        if done >= 6:
            raise Stop

    with pytest.raises(Stop):
        synthesize(tmp_path / "parts", SMALL, progress=interrupted)
    assert not (tmp_path / "parts/capture.json").exists()
    kept = tmp_path / "parts/images/00000_00.png"
    before = kept.stat().st_mtime_ns
    synthesize(tmp_path / "parts", SMALL)
    assert kept.stat().st_mtime_ns == before
    assert bytes_of(tmp_path / "whole") == bytes_of(tmp_path / "parts")
    # Once more: nothing is left to do.
    synthesize(tmp_path / "parts", SMALL)
    assert kept.stat().st_mtime_ns == before


def test_hard_captures_keep_the_truth_apart(tmp_path: Path) -> None:
    synthesize(tmp_path / "hard", replace(SMALL, preset="hard", timesteps=3, cameras=1))
    told = open_capture(tmp_path / "hard", load_head()).motion
    true = read_motion(tmp_path / "hard/truth/motion.npz", load_head())
    assert told.params.offset is None
    assert true.params.offset is not None
    assert not torch.equal(told.params.translation, true.params.translation)
    assert torch.equal(told.params.identity, true.params.identity)


def test_several_people_are_several_captures(tmp_path: Path) -> None:
    folders = synthesize(tmp_path, replace(SMALL, people=2, timesteps=1, cameras=1))
    one, two = (open_capture(folder, load_head()) for folder in folders)
    assert not torch.equal(one.motion.params.identity, two.motion.params.identity)


@pytest.mark.parametrize(
    "wrong",
    [{"preset": "x"}, {"people": 0}, {"timesteps": 0}, {"cameras": 40}, {"size": 3}, {"seed": -1}, {"fps": 0.0}],
)
def test_impossible_settings_are_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(VultusError):
        synthesize(tmp_path / "x", replace(SMALL, **wrong))


FRAMES = SynthSettings(layout="gagavatar", people=3, timesteps=2, size=64, seed=20)


def test_one_shot_training_data_is_complete_and_repeatable(tmp_path: Path) -> None:
    synthesize(tmp_path / "a", FRAMES)
    pictures = TrackedPictures(tmp_path / "a")
    assert pictures.clips == [[0, 1], [2, 3], [4, 5]]
    assert {name: len(keys) for name, keys in pictures.splits.items()} == {"train": 2, "val": 2, "test": 2}
    frame = pictures.frame(3)
    left, top, right, bottom = (frame.box * 64).round().long().tolist()
    inside = frame.picture[top:bottom, left:right].float().mean()
    assert float(inside) > 30
    # Behind the person it is black.
    assert int(frame.picture[:4, :4].max()) < 40 or int(frame.picture[:4, -4:].max()) < 40

    def interrupted(stage: str, done: int, total: int, figures: object) -> None:
        if done >= 1:
            raise Stop

    with pytest.raises(Stop):
        synthesize(tmp_path / "b", FRAMES, progress=interrupted)
    synthesize(tmp_path / "b", FRAMES)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    with pytest.raises(VultusError):
        synthesize(tmp_path / "b", replace(FRAMES, seed=9))


@pytest.mark.parametrize(
    "layout",
    [
        "plain",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("gaussian-head-avatar", "colmap", "insta", "nersemble", "nersemble-benchmark")
        ),
    ],
)
def test_every_layout_can_be_inspected(tmp_path: Path, layout: str) -> None:
    count = 1 if layout == "insta" else 2
    settings = replace(SMALL, layout=layout, timesteps=2 if layout != "colmap" else 1, cameras=count)
    synthesize(tmp_path / "out", settings)
    inspection = inspect(tmp_path / "out")
    assert LAYOUTS[layout].title in inspection.what
    assert not inspection.findings
    assert not (tmp_path / "out.vultus").exists()
    assert (tmp_path / "out/truth/motion.npz").is_file()
    # Nothing is left to do.
    synthesize(tmp_path / "out", settings)


@pytest.mark.parametrize(
    ("layout", "why"),
    [("gaussian-avatars", "FLAME"), ("insta", "--cameras 1"), ("colmap", "--timesteps 1"), ("x", "not known")],
)
def test_layouts_that_cannot_be_written_are_refused_before_anything_is_drawn(
    tmp_path: Path, layout: str, why: str
) -> None:
    with pytest.raises(VultusError, match=why):
        synthesize(tmp_path / "out", replace(SMALL, layout=layout))
    assert not list(tmp_path.iterdir())
