"""Figures of a training run: `metrics.jsonl` and, on top, TensorBoard event files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from vultus.errors import VultusError
from vultus.files import write_bytes


class FigureLog:
    """Appends one line per logged step. Lines after the step a run resumes from are dropped: they are made again."""

    def __init__(self, run: Path, *, after_step: int, tensorboard: bool) -> None:
        self._path, self._after_step, self._tensorboard = run / "metrics.jsonl", after_step, tensorboard
        self._file: IO[str] | None = None
        self._events: Any = None

    def __enter__(self) -> FigureLog:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_file():
                lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
                kept = [line for line in lines if 0 <= _step_of(line) <= self._after_step]
                write_bytes(self._path, "".join(kept).encode())
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise VultusError(f"{self._path}: cannot be written: {error.strerror or error}") from error
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self._path.parent), purge_step=self._after_step + 1)
        return self

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        assert self._file is not None, "used outside its with block"
        self._file.write(json.dumps({"step": step, **{name: float(value) for name, value in figures.items()}}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in figures.items():
                self._events.add_scalar(name, value, step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()


def _step_of(line: str) -> int:
    """The step of a line; -1 for a line that a crash cut off."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return -1
    return step if isinstance(step, int) else -1
