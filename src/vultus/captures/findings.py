"""What an inspection finds, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One mistake: its name and a sentence that says where it is and what to do."""

    name: str
    text: str


def some(items: Sequence[str], count: int = 3) -> str:
    """The first few of many, in words."""
    rest = len(items) - count
    return "; ".join(items[:count]) + (f"; and {rest} more" if rest > 0 else "")
