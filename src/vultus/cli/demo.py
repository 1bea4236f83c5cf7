"""vultus demo"""

from __future__ import annotations


def demo() -> None:
    """Make an avatar of the astronaut Eileen Collins from the photograph that ships with scikit-image.

    Takes no arguments, asks nothing, downloads nothing, and writes ./runs/demo: avatar/, preview.mp4 and
    contact_sheet.png. The photograph is NASA's, in the public domain.
    """
    from pathlib import Path

    from vultus.cli.terminal import progress_bars
    from vultus.workflows.demo import create_demo

    with progress_bars() as progress:
        run = create_demo(Path("runs") / "demo", progress=progress)
    print(run.summary())


COMMAND = demo
