"""Run `create_avatar` in a process of its own and kill it, without warning, at a chosen moment.

    python create_and_die.py SOURCE OUTPUT STEPS MOMENT

MOMENT is `STAGE:N` (when the stage has done N), `rename:TEXT:N` (at the N-th rename whose target's path contains TEXT:
in the middle of an atomic write), `interrupt:STAGE:N` (Ctrl-C instead of a kill) or `never`.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from vultus.workflows.create import CreateSettings, create_avatar

source, output, steps, moment = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
kind, *rest = moment.split(":")
how = signal.SIGINT if kind == "interrupt" else signal.SIGKILL
stage, count = (
    (rest[0], int(rest[1])) if kind == "interrupt" else (kind, int(rest[0]) if rest and kind != "rename" else 0)
)


def progress(name: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    if name == stage and done == count:
        os.kill(os.getpid(), how)


if kind == "rename":
    text, remaining, real = rest[0], int(rest[1]), os.replace

    def replace(origin: str | Path, target: str | Path) -> None:
        global remaining
        if text in str(target):
            remaining -= 1
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        real(origin, target)

    os.replace = replace  # type: ignore[assignment]

torch.set_num_threads(1)
settings = CreateSettings(preset="monocular", steps=steps, size=96)
try:
    create_avatar(source, output, settings, progress=progress)
except KeyboardInterrupt:
    sys.exit(130)
