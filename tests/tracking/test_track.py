"""Tracking from end to end: a synthetic photo with landmarks from a file, and the failures a user meets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from takes import make_take

from vultus.errors import VultusError
from vultus.heads import SkinnedHead
from vultus.images import write_png
from vultus.tracking import TrackSettings, read_shared, track
from vultus.tracking.detectors import StoredDetector, mediapipe_detector


@pytest.fixture
def photo(tmp_path: Path, builtin: SkinnedHead) -> tuple[Path, StoredDetector]:
    take = make_take(builtin, 1, yaw=0.2)
    write_png(tmp_path / "photo.png", np.full((take.camera.height, take.camera.width, 3), 120, np.uint8))
    masks = tmp_path / "masks"
    write_png(masks / "000000.png", np.full((take.camera.height, take.camera.width), 255, np.uint8))
    np.savez(tmp_path / "points.npz", points=take.points, set=np.array(take.set_name))
    return tmp_path / "photo.png", StoredDetector(tmp_path / "points.npz", masks)


def test_a_photo_becomes_a_capture(photo: tuple[Path, StoredDetector], tmp_path: Path, builtin: SkinnedHead) -> None:
    source, detector = photo
    settings = TrackSettings(size=96)
    capture = track(source, tmp_path / "capture", head=builtin, settings=settings, detector=detector)
    (view,) = capture.views
    assert capture.image(view).shape == (96, 96, 3)
    assert bool(capture.motion.valid.all())
    report = json.loads((tmp_path / "capture" / "report.json").read_text())
    assert report["valid_percent"] == 100
    assert report["error_percent_of_eye_distance"]["mean"] < 1.0
    assert (tmp_path / "capture" / "overlay.png").is_file()
    # What the capture says, projected again, is what was detected.
    posed = builtin.pose(capture.motion.params[0]).vertices
    nose = capture.camera(view).project(builtin.landmarks(posed, "mediapipe"))[4]
    detected = capture.landmarks(view)
    assert detected is not None
    assert float((nose - detected[4]).norm()) < 1.0
    shared = read_shared(tmp_path / "capture", builtin)
    again = track(source, tmp_path / "again", head=builtin, settings=settings, detector=detector, shared=shared)
    assert bool((again.camera(again.views[0]).K - capture.camera(view).K).abs().max() < 1e-3)


def test_a_picture_without_a_face_is_refused(tmp_path: Path, builtin: SkinnedHead) -> None:
    write_png(tmp_path / "empty.png", np.full((64, 64, 3), 90, np.uint8))
    np.savez(tmp_path / "points.npz", points=np.full((1, 68, 2), np.nan), set=np.array("ibug68"))
    with pytest.raises(VultusError, match=r"empty\.png.*no face was found"):
        track(tmp_path / "empty.png", tmp_path / "out", head=builtin, detector=StoredDetector(tmp_path / "points.npz"))


def test_without_mediapipe_the_install_line_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mediapipe" else find(name, *rest)
    )
    monkeypatch.delenv("VULTUS_MEDIAPIPE_PYTHON", raising=False)
    with pytest.raises(VultusError, match=r'pip install "vultus\[track\]"'):
        mediapipe_detector()
    monkeypatch.setenv("VULTUS_MEDIAPIPE_PYTHON", "/nonexistent/python")
    with pytest.raises(VultusError, match="cannot be run"):
        mediapipe_detector()


@pytest.mark.parametrize("wrong", [{"size": 8}, {"first": -1}, {"limit": 0}, {"focal": -2.0}, {"face": -1}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(VultusError):
        TrackSettings(**wrong)  # pyright: ignore[reportArgumentType]
