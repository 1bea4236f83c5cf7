"""From frames to a one-shot network."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch

from vultus import __version__
from vultus.avatars.oneshot.frames import Frames
from vultus.avatars.oneshot.head_space import network_vertices
from vultus.avatars.oneshot.model import OneShotModel
from vultus.avatars.oneshot.settings import OneShotSettings
from vultus.avatars.oneshot.task import OneShotTask
from vultus.avatars.oneshot.weights import About, load_dinov2, perceptual_weights, save_model
from vultus.config import to_yaml
from vultus.errors import VultusError
from vultus.files import tensors_fingerprint, write_bytes
from vultus.networks.feature_distance import PerceptualDistance
from vultus.progress import Progress, silent
from vultus.training import Control, LoopSettings, process_group, rank
from vultus.training import train as run_loop


def train(
    frames: Frames,
    run: Path,
    settings: OneShotSettings,
    *,
    validation: Frames | None = None,
    dinov2: Path | None = None,
    perceptual: Path | None = None,
    start_from: OneShotModel | None = None,
    device: torch.device | str = "cpu",
    license: str = "not stated",
    progress: Progress = silent,
    control: Control | None = None,
) -> OneShotModel:
    """Train a network in a run folder, going on from its newest checkpoint; writes `model.safetensors` at the end.

    Started by `torchrun`, all processes train together.

    Args:
        dinov2: DINOv2's official file; needed where the vision transformer is not trained along.
        perceptual: a file with the networks of the perceptual loss (GAGAvatar.pt); None: without that loss.
        start_from: a network of the settings' architecture to go on with, instead of starting anew; it may lack the
            picture driver.

    Raises:
        VultusError: the frames, files or settings do not fit, or the folder holds another run.
    """
    if settings.architecture.vertices != network_vertices(frames.head):
        raise VultusError(
            f"the network is for head models of {settings.architecture.vertices} vertices; {frames.name} was made with "
            f"{frames.head.name}, which has {network_vertices(frames.head)}"
        )
    if dinov2 is None and start_from is None and not settings.train_vit:
        raise VultusError(
            f"the preset {settings.preset} uses DINOv2's vision transformer as it is. Give its official weights "
            "(dinov2_vitb14_pretrain.pth): --dinov2 FILE on the command line"
        )
    model = new_model(settings, start_from)
    if model.picture_driver is not None and (start_from is None or start_from.picture_driver is None):
        model.picture_driver.begin(frames, torch.Generator().manual_seed(settings.seed))
    if dinov2 is not None:
        load_dinov2(model, dinov2)
    networks = None
    if perceptual is not None:
        networks = PerceptualDistance()
        networks.load_state_dict(perceptual_weights(perceptual))
        networks = networks.to(device)
    with process_group(device):
        task = OneShotTask(model.to(device), frames, settings, validation=validation, perceptual=networks)
        loop = LoopSettings(
            steps=settings.steps,
            seed=settings.seed,
            checkpoint_every=settings.checkpoint_every,
            keep=settings.keep,
            log_every=settings.log_every,
            tensorboard=settings.tensorboard,
            about={
                "kind": "oneshot",
                "preset": settings.preset,
                "architecture": to_yaml(settings.architecture),
                "steps": settings.steps,
                "batch": settings.batch,
                "seed": settings.seed,
                "rate": settings.rate,
                "warm_up": settings.warm_up,
                "average": settings.average,
                "weights": asdict(settings.weights),
                "precision": settings.precision,
                "head": frames.head.fingerprint,
                "data": frames.name,
                **({"driver_pictures": settings.driver_pictures} if settings.architecture.picture_code else {}),
                **({} if start_from is None else {"start": tensors_fingerprint(start_from.state_dict())}),
            },
        )
        if rank() == 0:
            write_bytes(run / "config.yaml", to_yaml(settings).encode())
        step = run_loop(task, run, loop, progress=progress, control=control)
        if rank() == 0:
            training = (
                f"Vultus {__version__}, preset {settings.preset}, {step} steps of {settings.batch} on {frames.name}"
                + ("" if start_from is None else ", on from another network")
            )
            about = About(settings.architecture, frames.head.name, frames.head.fingerprint, license, training)
            save_model(task.result, run / "model.safetensors", about)
    return task.result.eval()


def new_model(settings: OneShotSettings, start_from: OneShotModel | None = None) -> OneShotModel:
    """A network with the seed's first weights, or those of another as far as that has them; the global random state is
    left as it was.

    Raises:
        VultusError: the other network is of another architecture, or has a picture driver of another length of code.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = OneShotModel(settings.architecture)
    if start_from is not None:
        own = start_from.architecture
        if replace(own, picture_code=settings.architecture.picture_code) != settings.architecture:
            raise VultusError("the network to go on with is of another architecture than the settings ask for")
        if own.picture_code not in (0, settings.architecture.picture_code):
            raise VultusError(
                f"the network to go on with has a picture driver with a code of {own.picture_code} numbers; "
                f"{settings.architecture.picture_code} were asked for"
            )
        model.load_state_dict(start_from.state_dict(), strict=own.picture_code > 0)
    return model
