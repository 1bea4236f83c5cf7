"""From a capture to a rigged avatar."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from vultus import __version__
from vultus.avatars.rigged.folder import check_replaceable
from vultus.avatars.rigged.model import Labels, RiggedAvatar
from vultus.avatars.rigged.settings import PresetName, RiggedSettings, preset
from vultus.avatars.rigged.start import start_avatar
from vultus.avatars.rigged.supervision import Supervision
from vultus.avatars.rigged.task import RiggedTask
from vultus.captures import Capture
from vultus.errors import VultusError
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
) -> RiggedAvatar:
    """Train a rigged avatar in a run folder and save it as `run/avatar`.

    Called again after an interruption it goes on from the newest checkpoint and ends at the same avatar.

    Args:
        settings: default: the preset that fits the number of cameras and instants.
        head: the capture's head model, where it cannot be found by its name (FLAME is the user's file).
        labels: consent and licence to write into the avatar.
        control: called between steps with the number of finished steps and the task, whose `avatar` may be looked at.

    Raises:
        VultusError: the capture cannot be used, or the folder belongs to another run.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint written.
    """
    run = Path(run)
    check_replaceable(run / "avatar")  # said now, not after hours
    settings = settings or preset(fitting_preset(capture))
    head = _head(capture, head)
    views = [view for view in capture.split("train") if bool(capture.motion.valid[view.timestep])]
    if not views:
        raise VultusError(f"{capture.root}: has no training picture in which the head was found")
    start = start_avatar(capture, head, views, settings)
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
        beyond=start.beyond,
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
            "views": len(views),
            "source": source.sha256 if source is not None else capture.root.name,
        },
    )
    step = run_loop(task, run, loop, progress=progress, control=control)
    avatar = task.avatar
    avatar.active_degree = None
    avatar.motion = task.motion()
    given = labels or Labels()
    provenance = {
        "method": f"rigged, preset {settings.preset}",
        "steps": step,
        "seed": settings.seed,
        "source": source.name if source is not None else capture.root.name,
        "source_sha256": source.sha256 if source is not None else None,
        "vultus": __version__,
    }
    avatar.labels = Labels({**provenance, **given.provenance}, given.consent, given.license)
    avatar.save(run / "avatar")
    return avatar


def fitting_preset(capture: Capture) -> PresetName:
    """The name of the preset for a capture: several cameras, one picture, or a video."""
    if len(capture.camera_indices) > 1:
        return "multiview"
    return "photo" if len(capture.views) == 1 else "monocular"


def _head(capture: Capture, head: HeadModel | None) -> HeadModel:
    if head is None:
        from vultus.heads.load import load_head

        head = cast(HeadModel, load_head(capture.head_name))
    if capture.head_fingerprint != head.fingerprint:
        raise VultusError(
            f"{capture.root}: its parameters belong to the head model {capture.head_name} "
            f"({capture.head_fingerprint[:12]}), not to {head.name} ({head.fingerprint[:12]})"
        )
    return head
