"""Training an avatar from a capture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vultus.progress import Progress, silent

if TYPE_CHECKING:
    from vultus.avatars import Avatar


@dataclass(frozen=True)
class TrainRequest:
    """What `train_avatar` may be asked for; None takes the preset's value."""

    preset: Literal["photo", "monocular", "multiview"] | None = None
    steps: int | None = None
    background: Literal["white", "black"] | tuple[float, float, float] | None = None
    bind: bool = True
    hold_out_cameras: tuple[int, ...] = ()
    hold_out_timesteps: tuple[int, ...] = ()
    seed: int = 0


def train_avatar(
    capture: Path,
    output: Path,
    request: TrainRequest | None = None,
    *,
    viewer_port: int | None = None,
    progress: Progress = silent,
) -> Avatar:
    """Train a rigged avatar from a capture folder; goes on from the newest checkpoint in `output`.

    With `viewer_port` the training can be watched and paused in the browser, on the loopback interface.

    Raises:
        VultusError: the capture cannot be used, or `output` holds another run.
    """
    from vultus.avatars.rigged import fitting_preset, preset, train
    from vultus.captures import open_capture

    request = request or TrainRequest()
    frames = open_capture(capture)
    if request.hold_out_cameras or request.hold_out_timesteps:
        frames = frames.hold_out(cameras=request.hold_out_cameras, timesteps=request.hold_out_timesteps)
    settings = preset(
        request.preset or fitting_preset(frames),
        steps=request.steps,
        seed=request.seed,
        background=request.background,
        bind=request.bind,
    )
    if viewer_port is None:
        return train(frames, output, settings, progress=progress)
    from vultus.viewer import watch_training

    with watch_training(frames, port=viewer_port) as monitor:
        return train(frames, output, settings, progress=monitor.watching(progress), control=monitor)
