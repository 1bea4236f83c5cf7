"""Training an avatar from a capture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vultus.errors import VultusError
from vultus.progress import Progress, silent

if TYPE_CHECKING:
    from vultus.avatars import Avatar
    from vultus.avatars.rigged import RiggedAvatar
    from vultus.captures import Capture
    from vultus.heads.model import HeadModel


@dataclass(frozen=True)
class TrainRequest:
    """What `train_avatar` may be asked for; None takes the preset's value."""

    preset: Literal["photo", "monocular", "fast", "paper"] | None = None
    steps: int | None = None
    schedule_scale: float | None = None
    """Multiplies every constant of the preset that counts steps; instead of `steps`."""
    background: Literal["white", "black"] | tuple[float, float, float] | None = None
    bind: bool = True
    hold_out_cameras: tuple[int, ...] = ()
    hold_out_timesteps: tuple[int, ...] = ()
    seed: int = 0
    head: str | None = None
    """The head model the capture was made with, a path; None: the built-in one."""
    consent: str | None = None
    """What the person agreed to, for the avatar's `consent`; None: as it is."""
    strategy: Literal["default", "mcmc"] = "default"
    """How Gaussians are added, moved and removed."""
    start_from: Path | None = None
    """An avatar of this person to go on with: ours, or a trained one of GaussianAvatars."""


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
    from vultus.avatars.rigged import Labels, fitting_preset, preset, train

    request = request or TrainRequest()
    frames, head = _open(Path(capture), request.head)
    if request.hold_out_cameras or request.hold_out_timesteps:
        frames = frames.hold_out(cameras=request.hold_out_cameras, timesteps=request.hold_out_timesteps)
    settings = preset(
        request.preset or fitting_preset(frames),
        steps=request.steps,
        schedule_scale=request.schedule_scale,
        seed=request.seed,
        background=request.background,
        bind=request.bind,
        strategy=request.strategy,
    )
    consent = Labels.consent if request.consent is None else request.consent
    labels = Labels(provenance=_held_out(frames), consent=consent)
    start = None if request.start_from is None else _avatar_to_continue(request.start_from, head)
    if viewer_port is None:
        return train(frames, output, settings, head=head, labels=labels, start_from=start, progress=progress)
    from vultus.viewer import watch_training

    with watch_training(frames, port=viewer_port) as monitor:
        watched = monitor.watching(progress)
        return train(
            frames, output, settings, head=head, labels=labels, start_from=start, progress=watched, control=monitor
        )


def _avatar_to_continue(folder: Path, head: HeadModel) -> RiggedAvatar:
    from vultus.avatars import load
    from vultus.avatars.rigged import RiggedAvatar

    avatar = load(folder, head=head)
    if not isinstance(avatar, RiggedAvatar):
        raise VultusError(f"{folder}: is an avatar of the kind {avatar.kind}; only rigged ones can be trained further")
    return avatar


def _held_out(capture: Capture) -> dict[str, object]:
    """The cameras and timesteps that training does not see, so that an evaluation later knows them."""
    cameras = sorted({view.camera for view in capture.val})
    timesteps = sorted({view.timestep for view in capture.test})
    if not cameras and not timesteps:
        return {}
    whole = capture.hold_out(cameras, timesteps)
    # A capture may hold out single pictures, which cameras and timesteps cannot say.
    exact = whole.val == capture.val and whole.test == capture.test
    return {"held_out": {"cameras": cameras, "timesteps": timesteps}} if exact else {}


def _open(folder: Path, given: str | None) -> tuple[Capture, HeadModel]:
    """A capture and the head model it was made with."""
    from vultus.captures import head_of_motion, open_capture
    from vultus.heads.load import head_made_with, load_head

    head = None if given is None else load_head(given)
    if (folder / "capture.json").is_file():
        head = head_made_with(folder, *head_of_motion(folder / "motion.npz"), head)
    frames = open_capture(folder, head)
    return frames, head_made_with(folder, frames.head_name, frames.head_fingerprint, head)
