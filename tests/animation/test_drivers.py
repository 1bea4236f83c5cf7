"""Footage as a driver: tracked once, then found in the cache; tracked anew when asked to or when that is broken."""

import sys
from pathlib import Path

import numpy as np
import pytest

from vultus.animation import load_driver
from vultus.animation.builtin_motions import talking
from vultus.captures import open_capture, write_motion
from vultus.errors import VultusError
from vultus.heads.builtin import load_builtin
from vultus.images import write_video
from vultus.tracking.track import TrackSettings


def test_motion_files(tmp_path: Path) -> None:
    head = load_builtin()
    motion = talking(head, seconds=0.4)
    write_motion(tmp_path / "m.npz", motion, head)
    driver = load_driver(tmp_path / "m.npz", head)
    assert driver.name == "m.npz"
    assert len(driver.sha256 or "") == 64
    np.testing.assert_allclose(driver.motion.params.expression, motion.params.expression, atol=1e-6)


@pytest.mark.slow
def test_footage_is_tracked_once(tmp_path: Path, weekly_address: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three frames of real footage."""
    pytest.importorskip("mediapipe")
    module = sys.modules["vultus.tracking.track"]  # the package's attribute of this name is the function
    calls = []
    track = module.track

    def counted(*arguments, **options):
        calls.append(arguments)
        return track(*arguments, **options)

    monkeypatch.setattr(module, "track", counted)
    head, settings = load_builtin(), TrackSettings(size=128, limit=3, overlay=False)
    options = {"settings": settings, "cache": tmp_path / "cache"}
    first = load_driver(weekly_address, head, **options)
    assert first.capture is not None
    assert len(first.motion) == len(first.capture.views) == 3
    second = load_driver(weekly_address, head, **options)
    assert len(calls) == 1
    np.testing.assert_array_equal(first.motion.params.expression, second.motion.params.expression)
    folder = second.capture.root
    (folder / "motion.npz").write_bytes(b"broken")
    load_driver(weekly_address, head, **options)
    assert len(calls) == 2
    load_driver(weekly_address, head, retrack=True, **options)
    assert len(calls) == 3
    assert load_driver(folder, head).motion.params.model == head.fingerprint  # a capture folder is a driver too
    assert len(open_capture(folder).views) == 3


def test_files_that_drive_nothing(tmp_path: Path) -> None:
    head = load_builtin()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "x.npz").write_bytes(b"no archive")
    write_video(tmp_path / "grey.mp4", [np.full((64, 64, 3), 128, np.uint8)] * 3, fps=25)
    for name in ("notes.txt", "x.npz"):
        with pytest.raises(VultusError, match=name):
            load_driver(tmp_path / name, head, cache=tmp_path / "cache")
    pytest.importorskip("mediapipe")
    with pytest.raises(VultusError, match="face"):
        load_driver(tmp_path / "grey.mp4", head, cache=tmp_path / "cache")
