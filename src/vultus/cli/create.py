"""vultus create"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def create(
    input: Positional[Path],
    more: Positional[tuple[Path, ...]] = (),
    *,
    output: Annotated[Path, arg(aliases=["-o"])],
    preset: Literal["auto", "photo", "monocular"] = "auto",
    steps: int | None = None,
    size: int = 512,
    head: str = "builtin",
    face: int = 0,
    seed: int = 0,
    method: Literal["rigged", "oneshot"] = "rigged",
    weights: Path | None = None,
    consent: str | None = None,
    overwrite: bool = False,
) -> None:
    """Make an avatar from a photo or a video of one person: track, train, preview. No GPU needed.

    Writes OUTPUT/avatar (the avatar), OUTPUT/preview.mp4 and OUTPUT/contact_sheet.png. Interrupted at any moment, the
    same command goes on where it stopped. Use it only with pictures of people who agreed to it.

    Args:
        input: A photo (JPEG, PNG, ...) or a video (MP4, MOV, ...) showing one face.
        more: With --method oneshot: further photos of the same person, from other sides.
        output: Folder of the run, for example runs/me.
        preset: How to train; auto takes photo or monocular by what INPUT is.
        steps: Training steps; default: the preset's.
        size: Side of the square head crop in pixels.
        head: Head model: builtin, or the path of a model file or folder.
        face: Which person to follow where there are several, counted from 0, the largest first.
        seed: Seed of everything random; the same seed gives the same avatar on the same machine.
        method: rigged trains an avatar of its own; oneshot asks a trained network, in one forward pass per photo.
        weights: The network of --method oneshot: GAGAvatar.pt, or a file or folder of `vultus train oneshot`.
        consent: What the person agreed to, in your words; kept in the avatar and in the metadata of its videos.
        overwrite: Start afresh if OUTPUT holds a run of another input or other settings.
    """
    from vultus.cli.terminal import progress_bars
    from vultus.workflows.create import CreateSettings, create_avatar

    settings = CreateSettings(
        preset=preset,
        steps=steps,
        size=size,
        head=head,
        face=face,
        seed=seed,
        method=method,
        weights=None if weights is None else str(weights),
    )
    with progress_bars() as progress:
        run = create_avatar((input, *more), output, settings, consent=consent, overwrite=overwrite, progress=progress)
    print(run.summary())


COMMAND = create
