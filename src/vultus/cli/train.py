"""vultus train"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def train(
    method: Positional[Literal["rigged", "oneshot"]],
    capture: Positional[Path],
    output: Annotated[Path, arg(aliases=["-o"])],
    *,
    head: str | None = None,
    preset: Literal["photo", "monocular", "fast", "paper", "small"] | None = None,
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
    batch: int | None = None,
    hold_out_people: int = 0,
    quirks: Literal["released", "clean"] | None = None,
    dinov2: Path | None = None,
    perceptual: Path | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
    picture_code: int = 0,
) -> None:
    """Train an avatar from a capture that `vultus track` made (or a GaussianAvatars export), or a one-shot network
    from captures of many people.

    Writes OUTPUT/avatar, OUTPUT/checkpoints, metrics.jsonl and TensorBoard events. Interrupted, the same command goes
    on from the newest checkpoint and ends at the same avatar, to the bit.

    Args:
        method: rigged: Gaussians on the triangles of the head model (GaussianAvatars). oneshot: a network that makes
            avatars of single photos (GAGAvatar); CAPTURE is then a folder of captures, one person each, or of tracked
            pictures in an LMDB.
        capture: Folder of the capture.
        output: Folder of the run.
        head: Head model the capture was made with: path of a model file or folder; default: the built-in one.
        preset: photo, monocular or fast (one picture, one camera, several; default: what fits the capture), or paper
            (the published method: 600,000 steps, made for a GPU). oneshot: small (default; can be trained without a
            GPU) or paper.
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
            trained one of GaussianAvatars. Positions move at the rate that training ends with. oneshot: a network
            instead (GAGAvatar.pt, or a run or file of ours), whose sizes replace the preset's.
        view: Show the training in the browser on this port of the loopback interface; 0 takes any free one.
        batch: oneshot: pairs of pictures per step; default: the preset's.
        hold_out_people: oneshot: leave out the last so many people, and measure on them.
        quirks: oneshot: released reproduces accidents of the published network, clean does what was meant; default:
            the preset's.
        dinov2: oneshot: official weights of DINOv2 ViT-B/14, which the paper's preset needs.
        perceptual: oneshot: a file with the networks of the perceptual loss (GAGAvatar.pt); default: without that loss.
        precision: oneshot: what the networks compute in.
        device: oneshot: cpu or cuda.
        picture_code: oneshot: also train a small encoder that drives by pictures instead of the head model's
            coefficients, with a code of this length (32 is a good one); 0: none.
    """
    from vultus.cli.terminal import progress_bars
    from vultus.workflows.train import TrainRequest, train_avatar
    from vultus.workflows.train_oneshot import OneShotRequest, check_options, train_oneshot

    options = dict(locals())
    check_options(method, {name: options[name] for name, value in _defaults().items() if options[name] != value})
    if method == "oneshot":
        asked = OneShotRequest(
            preset="paper" if preset == "paper" else "small",
            steps=steps,
            batch=batch,
            seed=seed,
            quirks=quirks,
            precision=precision,
            device=device,
            hold_out_people=hold_out_people,
            head=head,
            dinov2=dinov2,
            perceptual=perceptual,
            picture_code=picture_code,
            start_from=start_from,
        )
        with progress_bars() as progress:
            train_oneshot(capture, output, asked, progress=progress)
        print(f"network        {output / 'model.safetensors'}")
        return
    request = TrainRequest(
        preset=None if preset == "small" else preset,
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


def _defaults() -> dict[str, object]:
    return dict(train.__kwdefaults__ or {})


COMMAND = train
