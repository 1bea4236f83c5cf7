"""Progress on the terminal: a bar with rate and ETA for every stage, or plain lines where output is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vultus.progress import Progress


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A progress callback that draws on standard error while the `with` block runs."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as callback:
            yield callback
    else:
        yield _Lines()


@contextmanager
def _bars(console: object) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("[bold]{task.description:<22}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[figures]}"),
    )
    tasks: dict[str, int] = {}
    with Bars(*columns, console=console) as bars:  # pyright: ignore[reportArgumentType]

        def callback(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
            if stage not in tasks:
                # A resumed stage starts at what was done before; the rate counts only what this run does.
                tasks[stage] = bars.add_task(stage, total=total or None, completed=done, rate="", figures="")
            task = bars.tasks[list(tasks).index(stage)]
            if done < task.completed:  # the stage comes again: another shot, another video
                bars.reset(tasks[stage], total=total or None, completed=done)  # pyright: ignore[reportArgumentType]
            rate = f"{task.speed:.1f}/s" if task.speed else ""
            bars.update(
                tasks[stage],  # pyright: ignore[reportArgumentType]
                completed=done,
                total=total or None,
                rate=rate,
                figures=_figures(figures) or task.fields["figures"],
            )

        yield callback


class _Lines:
    """One line when a stage starts and ends, and one every ten seconds between."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[float, int]] = {}
        self.done: dict[str, int] = {}
        self.last = 0.0

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        now = time.monotonic()
        if stage not in self.started or done < self.done[stage]:  # a stage may come again: another shot, another video
            self.started[stage] = now, done
        start, first = self.started[stage]
        self.done[stage] = done
        new, ended = start == now and first == done, total > 0 and done >= total
        if not (new or ended or now - self.last > 10):
            return
        self.last = now
        text = f"{stage}: {done}/{total}" if total else f"{stage}: {done}"
        elapsed = now - start
        if ended:
            text += f" in {elapsed:.0f} s"
        elif done > first and total:
            text += f", {elapsed:.0f} s, {elapsed / (done - first) * (total - done):.0f} s left"
        print("  ".join(filter(None, [text, _figures(figures)])), file=sys.stderr, flush=True)


def _figures(figures: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in figures.items())
