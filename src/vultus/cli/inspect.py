"""vultus inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def inspect(
    path: Positional[Path],
    output: Annotated[Path | None, arg(aliases=["-o"])] = None,
    *,
    head: str | None = None,
    pictures: int = 100,
) -> None:
    """Say what a capture is, count and draw what is in it, and name the usual mistakes.

    Mistakes that are found by name: millimetres, centimetres, inverted-poses, flipped-axes, off-target, mask-mismatch,
    missing-frames, wrong-size, unreadable-image, duplicate-index, duplicate-picture, malformed. With a mistake, the
    exit status is 2.

    Args:
        path: Folder of a capture of any layout; or another file, of which it is only said what it is.
        output: Folder for cameras_top.png, cameras_side.png, overlay.png (where there are head parameters) and
            inspection.json; default: nothing is drawn.
        head: Head model of the capture's parameters: path of a model file or folder; default: the built-in one.
        pictures: How many pictures are decoded, evenly spread; 0: all. The headers of all are read.
    """
    from vultus.cli.terminal import progress_bars
    from vultus.errors import VultusError
    from vultus.heads.load import load_head
    from vultus.workflows.inspect import inspect as inspect_capture

    model = None if head is None else load_head(head)
    with progress_bars() as progress:
        result = inspect_capture(path, output, head=model, pictures=pictures, progress=progress)
    print(result.summary())
    if result.findings:
        names = ", ".join(dict.fromkeys(finding.name for finding in result.findings))
        raise VultusError(f"{path}: {names} (see above)")


COMMAND = inspect
