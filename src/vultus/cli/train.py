"""vultus train"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def train(
    method: Positional[Literal["rigged"]],
    capture: Positional[Path],
    output: Annotated[Path, arg(aliases=["-o"])],
    *,
    head: str | None = None,
    preset: Literal["photo", "monocular", "multiview", "fast", "paper"] | None = None,
    steps: int | None = None,
    schedule_scale: float | None = None,
    background: Literal["white", "black"] | tuple[float, float, float] | None = None,
    bind: bool = True,
    strategy: Literal["default", "mcmc"] = "default",
    hold_out_cameras: tuple[int, ...] = (),
    hold_out_timesteps: tuple[int, ...] = (),
    seed: int = 0,
    consent: str | None = None,
    start_from: Path | None = None,
    view: Annotated[int | None, arg(metavar="PORT")] = None,
) -> None:
    """Train an avatar from a capture that `vultus track` made (or a GaussianAvatars export).

    Writes OUTPUT/avatar, OUTPUT/checkpoints, metrics.jsonl and TensorBoard events. Interrupted, the same command goes
    on from the newest checkpoint and ends at the same avatar, to the bit.

    Args:
        method: rigged: Gaussians on the triangles of the head model (GaussianAvatars).
        capture: Folder of the capture.
        output: Folder of the run.
        head: Head model the capture was made with: path of a FLAME model file or folder; default: the built-in one.
        preset: photo, monocular or multiview (default: by the number of frames and cameras), fast (many cameras, a
            quarter of the steps) or paper (the published method: 600,000 steps, made for a GPU).
        steps: Training steps; default: the preset's.
        schedule_scale: Instead of STEPS: multiply everything of the preset that counts steps by this.
        background: Colour behind the head in training: white, black, or three numbers in 0..1; default: the preset's.
        bind: Bind the splats to the head model; without, plain 3D Gaussians of a motionless scene.
        strategy: How splats are added, moved and removed. default: copy, split, prune; mcmc: faint ones move to where
            opaque ones are, and the number grows up to the preset's limit.
        hold_out_cameras: Cameras (by index) to leave out for evaluation.
        hold_out_timesteps: Timesteps to leave out for evaluation.
        seed: Seed of everything random.
        consent: What the person agreed to, in your words; kept in the avatar and in the metadata of its videos.
        start_from: Go on with this avatar of the same person instead of starting anew: the folder of one of ours, or a
            trained one of GaussianAvatars. Positions move at the rate that training ends with.
        view: Show the training in the browser on this port of the loopback interface; 0 takes any free one.
    """
    from vultus.cli.terminal import progress_bars
    from vultus.workflows.train import TrainRequest, train_avatar

    request = TrainRequest(
        preset=preset,
        steps=steps,
        schedule_scale=schedule_scale,
        background=background,
        bind=bind,
        strategy=strategy,
        hold_out_cameras=hold_out_cameras,
        hold_out_timesteps=hold_out_timesteps,
        seed=seed,
        head=head,
        consent=consent,
        start_from=start_from,
    )
    with progress_bars() as progress:
        train_avatar(capture, output, request, viewer_port=view, progress=progress)
    print(f"avatar         {output / 'avatar'}")


COMMAND = train
