"""From a capture to a rigged avatar."""

from __future__ import annotations

from pathlib import Path

from vultus import __version__
from vultus.avatars.folders import check_replaceable, renewed_labels
from vultus.avatars.rigged.continuing import continued_capture, continued_settings, continued_start
from vultus.avatars.rigged.model import Labels, RiggedAvatar
from vultus.avatars.rigged.settings import PresetName, RiggedSettings, preset
from vultus.avatars.rigged.start import start_avatar
from vultus.avatars.rigged.supervision import Supervision
from vultus.avatars.rigged.task import RiggedTask
from vultus.captures import Capture
from vultus.errors import VultusError
from vultus.files import tensors_fingerprint
from vultus.heads.load import head_made_with
from vultus.heads.model import HeadModel
from vultus.progress import Progress, silent
from vultus.training import Control, LoopSettings
from vultus.training import train as run_loop


def train(
    capture: Capture,
    run: Path,
    settings: RiggedSettings | None = None,
    *,
    head: HeadModel | None = None,
    labels: Labels | None = None,
    progress: Progress = silent,
    control: Control | None = None,
    start_from: RiggedAvatar | None = None,
) -> RiggedAvatar:
    """Train a rigged avatar in a run folder and save it as `run/avatar`.

    Called again after an interruption it goes on from the newest checkpoint and ends at the same avatar.

    Args:
        settings: default: the preset that fits the number of cameras and instants.
        head: the capture's head model, where it is not the built-in one (FLAME is the user's file).
        labels: consent and licence to write into the avatar; what is not stated stays as an earlier run left it.
        start_from: an avatar of the same person to go on with, instead of starting anew (`continued_settings`).
        control: called between steps with the number of finished steps and the task, whose `avatar` may be looked at.

    Raises:
        VultusError: the capture cannot be used, or the folder belongs to another run.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint written.
    """
    run = Path(run)
    check_replaceable(run / "avatar")  # said now, not after hours
    settings = settings or preset(fitting_preset(capture))
    head = head_made_with(capture.root, capture.head_name, capture.head_fingerprint, head)
    views = [view for view in capture.split("train") if bool(capture.motion.valid[view.timestep])]
    if not views:
        raise VultusError(f"{capture.root}: has no training picture in which the head was found")
    if start_from is None:
        start = start_avatar(capture, head, views, settings)
    else:
        settings, capture = continued_settings(start_from, settings), continued_capture(start_from, capture)
        start = continued_start(start_from, capture, views)
    task = RiggedTask(
        start.avatar,
        capture,
        views,
        Supervision(capture, head, settings),
        settings,
        extent=start.extent,
        anchor=start.anchor,
        trust=start.trust,
        rigid=start.rigid,
        hold=start.hold,
        bust=start.bust,
        beyond=start.beyond,
        skin=start.skin,
        level=start.level,
    )
    source = capture.source
    loop = LoopSettings(
        steps=settings.steps,
        seed=settings.seed,
        checkpoint_every=settings.checkpoint_every,
        keep=settings.keep,
        tensorboard=settings.tensorboard,
        about={
            "kind": RiggedAvatar.kind,
            "head": head.fingerprint,
            "preset": settings.preset,
            "steps": settings.steps,
            "seed": settings.seed,
            "bind": settings.bind,
            **({} if settings.strategy == "default" else {"strategy": settings.strategy}),
            **({} if start_from is None else {"start": tensors_fingerprint(start_from.state_dict())}),
            "views": len(views),
            "source": source.sha256 if source is not None else capture.root.name,
        },
    )
    step = run_loop(task, run, loop, progress=progress, control=control)
    avatar = task.avatar
    avatar.active_degree = None
    avatar.motion = task.motion()
    provenance = {
        "method": f"rigged, preset {settings.preset}",
        **({} if start_from is None else {"continues": dict(start_from.labels.provenance)}),
        "steps": step,
        "seed": settings.seed,
        "source": source.name if source is not None else capture.root.name,
        "source_sha256": source.sha256 if source is not None else None,
        "vultus": __version__,
    }
    avatar.labels = renewed_labels(run / "avatar", labels or Labels(), provenance)
    avatar.save(run / "avatar")
    return avatar


def fitting_preset(capture: Capture) -> PresetName:
    """The name of the preset for a capture: several cameras, one picture, or a video."""
    if len(capture.camera_indices) > 1:
        return "fast"
    return "photo" if len(capture.views) == 1 else "monocular"
