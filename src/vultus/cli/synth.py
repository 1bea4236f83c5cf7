"""vultus synth"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from vultus.cli.convert import LayoutName


def synth(
    output: Positional[Path],
    *,
    preset: Annotated[Literal["clean", "hard", "people"], arg(aliases=["-p"])] = "clean",
    people: int = 1,
    cameras: int = 16,
    timesteps: int = 60,
    size: int = 512,
    seed: int = 0,
    fps: float = 25.0,
    truth: Literal["motion", "labels", "all"] = "labels",
    layout: Annotated[LayoutName, arg(aliases=["-l"])] = "vultus",
    head: str | None = None,
) -> None:
    """Make a multi-camera capture of a made-up person, with everything about it known exactly.

    clean: the head model explains all that is seen. hard: hair, clothes and lights that it does not explain, an
    unknown shape, a noisy sensor and mistaken head parameters. people: as varied, but with exact parameters.

    The layout gagavatar is training data for one-shot networks instead: TIMESTEPS unrelated pictures of each of PEOPLE,
    in an LMDB; every option but these, size and seed is without effect.

    Args:
        output: New or empty folder, or one that an interrupted run left.
        preset: How hard to make it.
        people: How many people, each a capture in a folder of its own.
        cameras: 1 to 32, on an arc from profile to profile.
        timesteps: How many instants.
        size: Side of the square pictures in pixels.
        seed: Who it is; the same seed, the same bytes.
        fps: Frames per second.
        truth: What to write beside pictures and masks: motion (the true parameters), labels (and what every pixel
            shows), all (and depth, normals, texture coordinates).
        layout: What to write the capture as.
        head: Head model: path of a model file or folder; default: the built-in one.
    """
    from vultus.cli.terminal import progress_bars
    from vultus.heads.load import load_head
    from vultus.workflows.synth import SynthSettings, synthesize

    settings = SynthSettings(
        preset=preset,
        people=people,
        cameras=cameras,
        timesteps=timesteps,
        size=size,
        seed=seed,
        fps=fps,
        truth=truth,
        layout=layout,
    )
    with progress_bars() as progress:
        folders = synthesize(output, settings, head=None if head is None else load_head(head), progress=progress)
    if layout == "gagavatar":
        print(f"pictures       {output} ({people} people, {timesteps} pictures each, {size} x {size})")
        return
    what = "capture" if len(folders) == 1 else f"{len(folders)} captures"
    print(f"{what:<14} {output} ({cameras} cameras, {timesteps} timesteps, {size} x {size})")


COMMAND = synth
