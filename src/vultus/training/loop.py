"""The loop: steps, checkpoints, exact resumption, figures, interruption."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from vultus.errors import VultusError
from vultus.progress import Progress, silent
from vultus.training.checkpoints import (
    Checkpoint,
    latest_checkpoint,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizers,
    write_checkpoint,
)
from vultus.training.figures import FigureLog
from vultus.training.parallel import any_process, rank
from vultus.training.randomness import step_generator
from vultus.training.task import Task

Control = Callable[[int, Task], object]
"""Called between steps with the number of finished steps and the task. It may block (pause) and look at the task;
returning True ends training after a checkpoint, as if the last step had been reached."""


@dataclass(frozen=True)
class LoopSettings:
    """How a task is trained.

    steps: how many steps in all. seed: of everything random. checkpoint_every, keep: steps between checkpoints and how
    many of the newest stay. log_every: steps between lines of metrics.jsonl. tensorboard: also write event files.
    deterministic: use PyTorch's deterministic algorithms, which makes resumed and repeated runs equal to the bit at a
    fixed number of threads.
    """

    steps: int
    seed: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 10
    tensorboard: bool = True
    deterministic: bool = True
    about: Mapping[str, object] = field(default_factory=dict)
    """Stored in checkpoints and compared on resuming: what must not have changed in between."""


def train(
    task: Task, run: Path, settings: LoopSettings, *, progress: Progress = silent, control: Control | None = None
) -> int:
    """Train a task in a run folder, going on from its newest checkpoint if there is one. Returns the last step.

    Of several processes (`training.parallel`) all take the same steps and the first writes the files; a task averages
    its gradients in `before_update`. The final state is a checkpoint too. On Ctrl-C the running step is finished and
    a checkpoint written before KeyboardInterrupt is raised; a second Ctrl-C interrupts at once.

    Raises:
        VultusError: the run folder cannot be written or holds a checkpoint of another run, or the loss stopped being a
            number.
        KeyboardInterrupt: see above.
    """
    if settings.steps < 1:
        raise VultusError(f"the number of training steps is {settings.steps}; it must be at least 1")
    step = _resume(task, run, settings)
    saved = step

    def save() -> None:
        nonlocal saved
        if saved == step:
            return
        saved = step
        if rank() != 0:
            return
        model, training = task.state()
        tensors = {**training, **optimizer_tensors(task.optimizers)}
        write_checkpoint(run, Checkpoint(step, model, tensors, settings.about), settings.keep)

    progress(task.name, step, settings.steps, {})
    with (
        _deterministic(settings.deterministic),
        _interruption() as interrupted,
        _figures(run, step, settings) as log,
    ):
        while step < settings.steps:
            if any_process(control is not None and control(step, task) is True):
                break
            figures = _step(task, step + 1, settings.seed)
            step += 1
            if log is not None and (step % settings.log_every == 0 or step == settings.steps):
                log.write(step, figures)
            progress(task.name, step, settings.steps, figures)
            stopping = any_process(interrupted.is_set())
            if step % settings.checkpoint_every == 0 or stopping:
                save()
            if stopping:
                raise KeyboardInterrupt
        save()
    return step


def _figures(run: Path, step: int, settings: LoopSettings) -> AbstractContextManager[FigureLog | None]:
    """Where figures go; nowhere in all processes but the first."""
    if rank() != 0:
        return nullcontext()
    return FigureLog(run, after_step=step, tensorboard=settings.tensorboard)


def _step(task: Task, step: int, seed: int) -> dict[str, float]:
    generator = step_generator(seed, step)
    loss, figures = task.loss(step, generator)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise VultusError(
            f"the loss became {value} at step {step} of {task.name}; an image, mask or camera of the capture is "
            "probably broken. The last checkpoint is kept."
        )
    for optimizer in task.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    task.before_update(step, generator)
    for optimizer in task.optimizers.values():
        optimizer.step()
    task.after_update(step)
    return {"loss": value, **figures}


def _resume(task: Task, run: Path, settings: LoopSettings) -> int:
    folder = latest_checkpoint(run)
    if folder is None:
        return 0
    checkpoint = read_checkpoint(folder)
    for key, value in settings.about.items():
        if checkpoint.about.get(key) != value:
            raise VultusError(
                f"{folder}: belongs to a run with {key} {checkpoint.about.get(key)!r}, not {value!r}; choose another "
                "output folder or delete this one"
            )
    task.restore(checkpoint.model, checkpoint.training)
    restore_optimizers(task.optimizers, checkpoint.training)
    return min(checkpoint.step, settings.steps)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    switches: Any = torch.utils.deterministic  # a module whose attribute type checkers do not see
    fill = switches.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory catches reads of what was never written, at the price of writing everything twice.
    switches.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        switches.fill_uninitialized_memory = fill


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets. Signals reach the main thread only; elsewhere nothing is installed."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous if previous is not None else signal.default_int_handler)
