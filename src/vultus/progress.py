"""How long-running functions report what they are doing.

A function that takes time accepts `progress: Progress = silent` and calls it with the stage's name, how much is done,
how much there is, and figures worth showing. The command line draws bars from these calls; a notebook can do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

Item = TypeVar("Item")

Progress = Callable[[str, int, int, Mapping[str, float]], None]
"""`progress(stage, done, total, figures)`; `total` is 0 where it is not known."""


def silent(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """The progress callback that does nothing."""


def counted(items: Iterable[Item], stage: str, total: int, progress: Progress) -> Iterator[Item]:
    """Yield the items, reporting after each one was dealt with."""
    progress(stage, 0, total, {})
    for done, item in enumerate(items, start=1):
        yield item
        progress(stage, done, total, {})
