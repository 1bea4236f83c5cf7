"""The demonstration: an avatar of a public-domain photograph that is always at hand."""

from __future__ import annotations

from pathlib import Path

from vultus.files import atomic_path
from vultus.progress import Progress, silent
from vultus.workflows.create import Run, create_avatar


def create_demo(output: Path, *, progress: Progress = silent) -> Run:
    """Make an avatar of `skimage.data.astronaut()` (Eileen Collins; NASA, public domain) in `output`."""
    from PIL import Image
    from skimage import data

    photo = output / "astronaut.png"
    if not photo.exists():
        with atomic_path(photo) as temporary:
            Image.fromarray(data.astronaut()).save(temporary, format="PNG")
    return create_avatar(photo, output, progress=progress)
