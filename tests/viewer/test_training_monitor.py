"""Watching a real, tiny training run: it is drawn, it can be paused, and watching does not change its result."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_avatar import synthetic_avatar

from vultus.animation.builtin_motions import expressions
from vultus.avatars.rigged import RiggedAvatar
from vultus.captures import Capture, CaptureWriter, open_capture
from vultus.viewer import TrainingMonitor, watch_training


@pytest.fixture(scope="module")
def avatar() -> RiggedAvatar:
    return synthetic_avatar(size=48)


@pytest.fixture(scope="module")
def capture(avatar: RiggedAvatar, tmp_path_factory: pytest.TempPathFactory) -> Capture:
    motion = expressions(avatar.head, names=["open"], seconds_each=0.16)
    folder = tmp_path_factory.mktemp("capture")
    with CaptureWriter(folder, head=avatar.head, fps=25.0) as writer:
        for t in range(len(motion)):
            rendering = avatar.render(motion.params[t], avatar.view, background=torch.ones(3))
            writer.add_image(t, 0, rendering.color, rendering.alpha, is_composited=True)
        writer.set_camera(0, avatar.view)
        writer.set_motion(motion)
    return open_capture(folder)


class Task:
    """What the monitor asks of a training task: the avatar as it is, and its fine-tuned motion."""

    def __init__(self, avatar: RiggedAvatar, capture: Capture) -> None:
        self.avatar, self._capture = avatar, capture

    def motion(self):
        from dataclasses import replace

        motion = self._capture.motion
        return replace(motion, params=replace(motion.params, translation=motion.params.translation + 0.01))


def wait_for(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_pausing_holds_the_training(avatar: RiggedAvatar, capture: Capture) -> None:
    with watch_training(capture, port=0) as monitor:
        task = Task(avatar, capture)
        steps: list[int] = []

        def train() -> None:
            for step in range(200):
                monitor(step, task)
                steps.append(step)
                time.sleep(0.005)

        monitor.paused.value = True
        thread = threading.Thread(target=train)
        thread.start()
        time.sleep(0.4)
        assert steps == []
        monitor.paused.value = False
        wait_for(lambda: len(steps) > 5)
        monitor.paused.value = True
        time.sleep(0.1)
        held = len(steps)
        time.sleep(0.4)
        assert len(steps) == held < 200
    thread.join(timeout=30)  # closing lets a paused training go on
    assert len(steps) == 200


def test_tracked_or_fine_tuned_parameters_of_any_frame(avatar: RiggedAvatar, capture: Capture) -> None:
    monitor = TrainingMonitor(capture, port=0)
    try:
        task = Task(avatar, capture)
        for timestep in (0, 2):
            monitor.timestep.value = timestep
            monitor.parameters.value = "as tracked"
            tracked = monitor.params(task)
            monitor.parameters.value = "fine-tuned"
            tuned = monitor.params(task)
            torch.testing.assert_close(tracked.expression, capture.motion.params.expression[timestep])
            torch.testing.assert_close(tuned.translation, tracked.translation + 0.01)
    finally:
        monitor.close()


def test_what_is_drawn(avatar: RiggedAvatar, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = TrainingMonitor(capture, port=0)
    try:
        task = Task(avatar, capture)
        monitor.parameters.value = "as tracked"
        monitor(1, task)
        assert monitor.frames_drawn == 0  # nobody is watching
        monkeypatch.setattr(monitor, "_is_watched", lambda: True)
        report = monitor.watching()
        for step in range(3000):
            report("train", step, 3000, {"loss": 1.0 / (1 + step)})
        report("load", 1, 2, {})
        monitor.every.value = 10
        for step in range(2, 24):
            monitor(step, task)
        assert monitor.frames_drawn == 2
        assert "Step 21" in monitor.status.content
        assert f"{avatar.count} splats" in monitor.status.content
        steps, losses = monitor.plot.data
        assert 100 < len(steps) <= 801
        assert (np.diff(steps) > 0).all()
        assert losses[0] > 10 * losses[-1]
        footage, rendered = np.split(monitor.comparison.image.astype(int), 2, axis=1)
        assert footage.shape == (48, 48, 3)
        assert np.abs(footage - rendered).mean() < 12
    finally:
        monitor.close()


@pytest.mark.slow
def test_watching_changes_nothing(capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vultus.avatars.rigged import preset, train

    settings = preset("monocular", steps=6, seed=1)
    plain = train(capture, tmp_path / "plain", settings)
    with watch_training(capture, port=0) as monitor:
        monkeypatch.setattr(monitor, "_is_watched", lambda: True)
        monitor.every.value = 1
        watched = train(capture, tmp_path / "watched", settings, control=monitor, progress=monitor.watching())
        assert monitor.frames_drawn >= 6
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
