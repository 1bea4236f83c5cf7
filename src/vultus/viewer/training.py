"""Watching and pausing a training run in the browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from vultus.avatars import Avatar
from vultus.captures import Capture
from vultus.images import resize, to_uint8
from vultus.motion import HeadParams, Motion
from vultus.progress import Progress, silent
from vultus.viewer.server import close_server, open_server
from vultus.viewer.stage import Stage, modes_of

_TRACKED, _TUNED = "as tracked", "fine-tuned"
_PLOT_POINTS = 400


@contextmanager
def watch_training(capture: Capture, *, port: int, host: str = "127.0.0.1") -> Iterator[TrainingMonitor]:
    """A monitor for `train(..., control=monitor)` that lives as long as the block. Listens on the loopback interface.

    Raises:
        VultusError: the port cannot be listened on.
    """
    monitor = TrainingMonitor(capture, port=port, host=host)
    print(f"training view  {monitor.url}")
    try:
        yield monitor
    finally:
        monitor.close()


class TrainingMonitor:
    """Called between training steps; shows the avatar as it is, and holds the training while it is paused.

    All drawing happens in the training's own thread, between steps, so that what is shown is one consistent state.
    """

    def __init__(self, capture: Capture, *, port: int, host: str = "127.0.0.1") -> None:
        self.capture = capture
        self.server = open_server(host, port, "Vultus: training")
        self.step = 0
        self.frames_drawn = 0
        self._stage: Stage | None = None
        self._stale = True
        self._drawn_at = -1
        self._losses: list[tuple[float, float]] = []
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._build()
        self.server.on_client_connect(self._connected)

    @property
    def url(self) -> str:
        """Where to point the browser."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def close(self) -> None:
        """Disconnect the browsers; a paused training goes on."""
        self._closed.set()
        self._changed.set()
        close_server(self.server)

    def watching(self, progress: Progress = silent) -> Progress:
        """A progress callback that also notes the loss, for the plot."""

        def report(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
            progress(stage, done, total, figures)
            if "loss" in figures:
                self._note(done, total, figures)

        return report

    def __call__(self, step: int, task: Any) -> None:
        """See `vultus.training.Control`: `task` has the `avatar` in training and its fine-tuned `motion()`."""
        avatar: Avatar = task.avatar
        self.step = step
        if self._stage is None:
            self._stage = Stage(self.server, avatar)
            self.mode.options = modes_of(avatar)
        while True:
            waiting = bool(self.paused.value) and not self._closed.is_set()
            due = step - self._drawn_at >= int(self.every.value) or self._drawn_at < 0
            if self._stale or self._changed.is_set() or due:
                self._changed.clear()
                self._stale = False
                if self._is_watched():
                    self._draw(avatar, task)
                self._drawn_at = step
            if not waiting:
                return
            self._changed.wait(timeout=1.0)

    def _is_watched(self) -> bool:
        """Whether any browser is connected: drawing for nobody would only slow the training down."""
        return bool(self.server.get_clients())

    def _build(self) -> None:
        gui = self.server.gui
        self.status: Any = gui.add_markdown("Waiting for the first step …")
        self.paused: Any = gui.add_checkbox("Pause", False)
        self.every: Any = gui.add_slider("Show every … steps", 1, 200, 1, 10)
        last = max(1, len(self.capture.motion) - 1)
        self.timestep: Any = gui.add_slider("Frame", 0, last, 1, 0, disabled=len(self.capture.motion) < 2)
        self.parameters: Any = gui.add_dropdown("Head parameters", (_TUNED, _TRACKED))
        self.mode: Any = gui.add_dropdown("Show", ("splats", "frames", "mesh"))
        self.background: Any = gui.add_rgb("Background", (255, 255, 255))
        self.compare: Any = gui.add_checkbox("Compare with the footage", True)
        self.plot: Any = None
        self.comparison: Any = None
        self._images = gui.add_folder("Footage and avatar", visible=False)
        for handle in (self.paused, self.timestep, self.parameters, self.mode, self.background, self.compare):
            handle.on_update(lambda event: self._changed.set())

    def _connected(self, client: Any) -> None:
        @client.camera.on_update
        def _(camera: Any) -> None:
            if self.mode.value == "frames":
                self._changed.set()

        self._changed.set()

    def params(self, task: Any) -> HeadParams:
        """The head parameters of the chosen frame, tracked or fine-tuned."""
        motion: Motion = self.capture.motion if self.parameters.value == _TRACKED else task.motion()
        index = min(int(self.timestep.value), len(motion) - 1)
        return motion.params[index].detach()

    def _draw(self, avatar: Avatar, task: Any) -> None:
        assert self._stage is not None
        params = self.params(task)
        red, green, blue = (int(value) for value in self.background.value)
        self._stage.draw(params, self.mode.value, (red, green, blue))
        if self.compare.value:
            self._compare(avatar, params)
        self._images.visible = bool(self.compare.value)
        count = getattr(avatar, "count", None)
        state = "paused" if self.paused.value else "training"
        splats = f", {count} splats" if count is not None else ""
        loss = f", loss {self._losses[-1][1]:.4f}" if self._losses else ""
        self.status.content = f"**Step {self.step}** ({state}){splats}{loss}"
        self._draw_plot()
        self.frames_drawn += 1

    def _compare(self, avatar: Avatar, params: HeadParams) -> None:
        wanted = int(self.timestep.value)
        seen = min(self.capture.views, key=lambda known: (abs(known.timestep - wanted), known.camera))
        camera = self.capture.camera(seen)
        factor = min(1.0, 256 / max(camera.width, camera.height))
        small = camera.resized(max(1, round(camera.width * factor)), max(1, round(camera.height * factor)))
        with torch.no_grad():
            rendered = to_uint8(avatar.render(params, small, background=torch.ones(3)).color)
        footage = to_uint8(resize(self.capture.image(seen), small.width, small.height))
        pair = np.concatenate([footage, rendered], axis=1)
        if self.comparison is None:
            with self._images:
                self.comparison = self.server.gui.add_image(pair)
        else:
            self.comparison.image = pair

    def _note(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        self._losses.append((float(step), float(figures["loss"])))
        if len(self._losses) > 2 * _PLOT_POINTS:
            # Halving the points by averaging neighbours keeps the whole run in view.
            pairs = np.asarray(self._losses)[: len(self._losses) // 2 * 2].reshape(-1, 2, 2).mean(1)
            self._losses = [(float(a), float(b)) for a, b in pairs]

    def _draw_plot(self) -> None:
        if len(self._losses) < 2:
            return
        from viser import uplot

        points = np.asarray(self._losses)
        data = (np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 1]))
        if self.plot is None:
            series = (uplot.Series(label="step"), uplot.Series(label="loss", stroke="#2f6fde", width=1.5))
            self.plot = self.server.gui.add_uplot(data, series, aspect=2.0, scales={"x": uplot.Scale(time=False)})
        else:
            self.plot.data = data
